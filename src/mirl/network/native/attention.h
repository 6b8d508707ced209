/* The attention half of a block: y = x + project(softmax(temperature q kT) v) with q, k, v the depthwise filtered parts of
   qkv(LayerNorm(x)), attention over channels (Restormer, arXiv 2111.09881, equation 1). Attention and projection are multiplied
   into one matrix an image. Forward keeps q, k, v and the sums over pixels; backward makes what lies before the filters again. */
#ifndef MIRL_ATTENTION_H
#define MIRL_ATTENTION_H

#include "matmul.h"
#include "pieces.h"
#include "weights.h"

#define LEAST 1e-24f /* the product of squared lengths that q and k have at least */

typedef struct {
  int C, c, heads, d, dp, wide, ld; /* channels; padded to 16; of a head; of a head padded; 3 c; of a kept row */
  size_t strip, image;              /* of kept features: elements of a strip, bytes of an image */
  strips s;
  layer_norm norm;
  float *x, *n, *taps, *rows; /* rows: the qkv matrix, padded */
  element *as_n, *as_wide, *packed;
  void *side;
  turned_tiles tiles;
  sparse entries; /* of the qkv matrix */
  weights qkv;
} attend;

static float *sums_of(const attend *t, void *kept, int image) { return (float *)((char *)kept + (size_t)image * t->image); }
static float *squares_of(const attend *t, float *sums) { return sums + (size_t)t->heads * t->dp * t->dp; }
static float *affinity_of(const attend *t, float *sums) { return squares_of(t, sums) + 2 * t->c; }
static int head_of(const attend *t) { return up(t->heads * t->dp * t->dp + 2 * t->c + t->C * t->d, 16); } /* floats before the features */
static element *strip_of(const attend *t, void *kept, int image, int s) {
  return (element *)((char *)kept + (size_t)image * t->image + sizeof(float) * head_of(t)) + (size_t)s * t->strip;
}

static void padded_parts(const mirl_attention *j, int c, float *rows) {
  int C = j->channels;
  memset(rows, 0, sizeof(float) * 3 * c * C);
  for (int part = 0; part < 3; part++) memcpy(rows + (size_t)part * c * C, j->qkv + (size_t)part * C * C, sizeof(float) * C * C);
}
static void qkv_taps(const mirl_attention *j, int c, int turned, float *taps) {
  memset(taps, 0, sizeof(float) * 9 * 3 * c);
  for (int part = 0; part < 3; part++) tap_rows(j->depthwise + (size_t)part * 9 * j->channels, j->channels, turned, taps + part * c, 3 * c);
}

static attend make_attend(const mirl_attention *j, arena *a, int gradient) {
  attend t = {.C = j->channels, .c = up(j->channels, UNIT), .heads = j->heads, .d = j->channels / j->heads};
  t.dp = up(t.d, UNIT), t.wide = 3 * t.c, t.ld = up(t.wide, 32);
  t.s = cut(j->height, j->width);
  t.strip = (size_t)t.s.most * t.ld;
  t.image = sizeof(float) * head_of(&t) + (sizeof(element) * t.strip * t.s.count + 319) / 64 * 64;
  t.norm = make_norm(a, t.C, j->norm_weight, j->norm_bias);
  t.x = FLOATS(a, (size_t)t.s.most * t.c);
  t.n = FLOATS(a, (size_t)t.s.most * t.c);
  t.taps = FLOATS(a, 9 * t.wide);
  t.rows = FLOATS(a, (size_t)t.wide * t.C);
  t.packed = take(a, sizeof(element) * packed_size(t.c, t.c));
  t.as_n = take(a, sizeof(element) * t.s.most * up(t.c, 32));
  t.as_wide = take(a, sizeof(element) * t.s.most * t.ld);
  t.side = take(a, outer_bytes(t.s.most, t.wide, t.wide));
  t.tiles = make_tiles(a, t.wide);
  if (a->base) padded_parts(j, t.c, t.rows);
  t.entries = make_sparse(a, t.rows, t.wide, t.C, gradient);
  t.qkv = make_weights(a, t.rows, &t.entries, &t.tiles);
  if (a->base) qkv_taps(j, t.c, 0, t.taps);
  return t;
}

/* A = softmax over k of temperature gram / sqrt(squares q, squares k): (channels, d). */
static void affinity(const attend *t, const float *gram, const float *squares, const float *temperature, float *A) {
  int d = t->d;
  for (int r = 0; r < t->C; r++) {
    int h = r / d, i = r % d;
    const float *g = gram + ((size_t)h * t->dp + i) * t->dp, *k = squares + t->c + h * d;
    float *to = A + (size_t)r * d, most = -1e30f, sum = 0;
    for (int e = 0; e < d; e++) {
      float lengths = squares[r] * k[e] < LEAST ? LEAST : squares[r] * k[e];
      to[e] = g[e] / __builtin_sqrtf(lengths) * temperature[h];
      if (to[e] > most) most = to[e];
    }
    for (int e = 0; e < d; e++) sum += to[e] = exponential(to[e] - most);
    for (int e = 0; e < d; e++) to[e] /= sum;
  }
}

/* Products of an image's small matrices: what is fixed, and memory. Rows of c, heads side by side. */
typedef struct {
  float *project, *M, *grad_project, *grad_A; /* padded to c x c, M in rows of `wide`, grad_A (heads, dp, dp) */
  element *as_project, *as_M, *packed;        /* operands, up(c, 32) rows */
  int ld, wide; /* a head's product may reach 16 columns beyond c */
} small;

static small make_small(const mirl_attention *j, const attend *t, arena *a) {
  int c = t->c, rows = up(c, 32);
  small m = {.wide = c + UNIT, .project = FLOATS(a, rows * c), .M = FLOATS(a, rows * (c + UNIT)), .grad_project = FLOATS(a, c * c)};
  m.grad_A = FLOATS(a, t->heads * t->dp * t->dp);
  m.as_project = take(a, sizeof(element) * rows * rows);
  m.as_M = take(a, sizeof(element) * rows * rows);
  m.packed = take(a, sizeof(element) * packed_size(t->dp, t->dp));
  if (!a->base) return m;
  pad_rows(j->project, t->C, t->C, rows, m.project, c);
  memset(m.M, 0, sizeof(float) * rows * m.wide);
  memset(m.grad_project, 0, sizeof(float) * c * c);
  m.as_project = (element *)operand(m.project, c, rows, c, m.as_project, &m.ld);
  return m;
}

/* M = project A, head by head. */
static void merge(const attend *t, const small *m, const float *A) {
  for (int h = 0; h < t->heads; h++) {
    view v = {A + (size_t)h * t->d * t->d, t->d, 1, t->d, t->d};
    pack(&v, m->packed);
    mul(t->C, t->d, t->d, m->as_project + h * t->d, m->ld, m->packed, m->M + h * t->d, m->wide);
  }
}

static size_t attention_kept_bytes(const mirl_attention *j) {
  arena a = {NULL, 0};
  return make_attend(j, &a, 0).image * j->images + 256;
}

static size_t attention_forward(const mirl_attention *j, void *scratch) {
  arena a = {scratch, 0};
  attend t = make_attend(j, &a, 0);
  const strips *s = &t.s;
  ring before = make_ring(&a, s, t.wide);
  float *o = FLOATS(&a, (size_t)s->most * t.wide);
  small m = make_small(j, &t, &a);
  if (!scratch) return a.used;
  memset(t.n, 0, sizeof(float) * s->most * t.c);
  memset(o, 0, sizeof(float) * s->most * t.wide);
  begin_products();
  for (int image = 0; image < j->images; image++) {
    size_t start = (size_t)image * j->height * j->width * t.C;
    float *gram = sums_of(&t, j->kept, image), *squares = squares_of(&t, gram);
    memset(gram, 0, sizeof(float) * (t.heads * t.dp * t.dp + 2 * t.c));
    for (int i = 0; i <= s->count; i++) {
      int ld;
      if (i < s->count) {
        int pixels = pixels_of(s, i);
        const float *x = padded(j->x + start + (size_t)first_row(s, i) * j->width * t.C, t.C, pixels, pixels, t.x, t.c);
        norm_forward(&t.norm, x, pixels, NULL, NULL, t.n);
        features N = make_features(t.n, t.c, up(pixels, 16), t.as_n);
        multiply(&t.qkv, &N, pixels, before.slots[i % 3], t.wide);
      }
      int q = i - 1;
      if (q < 0) continue;
      int pixels = pixels_of(s, q);
      element *kept = strip_of(&t, j->kept, image, q);
#ifdef MIRL_AMX
      float *out = o;
      int ld_out = t.wide;
#else
      float *out = kept;
      int ld_out = t.ld;
#endif
      for (int r = 0; r < rows_of(s, q); r++) {
        int y = first_row(s, q) + r;
        depthwise_row(row_of(&before, s, y - 1), row_of(&before, s, y), row_of(&before, s, y + 1), j->width, t.wide, t.wide, t.taps, t.wide,
                      out + (size_t)r * j->width * ld_out, ld_out, squares, 2 * t.c);
      }
      clear_rows(out, ld_out, pixels, s->most);
      operand(out, ld_out, s->most, t.wide, kept, &ld);
      for (int h = 0; h < t.heads; h++)
        outer(pixels, t.d, t.d, kept + h * t.d, t.ld, kept + t.c + h * t.d, t.ld, gram + (size_t)h * t.dp * t.dp, t.dp, t.side);
    }
    float *A = affinity_of(&t, gram);
    affinity(&t, gram, squares, j->temperature, A);
    merge(&t, &m, A);
    view v = {m.M, 1, m.wide, t.C, t.C};
    pack(&v, t.packed);
    for (int i = 0; i < s->count; i++) {
      int pixels = pixels_of(s, i);
      size_t at_strip = start + (size_t)first_row(s, i) * j->width * t.C;
      mul(pixels, t.c, t.C, strip_of(&t, j->kept, image, i) + 2 * t.c, t.ld, t.packed, o, t.c);
      add_rows(j->x + at_strip, o, t.c, t.C, pixels, j->y + at_strip);
    }
  }
  end_products();
  return 0;
}

/* From the gradient of M, (up(c, 32), c): those of project and temperature (added), D the gradient of the gram, (channels, d), and
   `own`, what q and k get for their own length, 2 c. */
static void attention_gradients(const attend *t, const mirl_attention *j, const small *m, const float *gram, const float *squares,
                                const float *A, const float *gM, float *D, float *own) {
  int C = t->C, d = t->d, c = t->c, ld;
  const element *G = operand(gM, c, up(c, 32), c, m->as_M, &ld);
  memset(m->grad_A, 0, sizeof(float) * t->heads * t->dp * t->dp);
  for (int h = 0; h < t->heads; h++) {
    view v = {A + (size_t)h * d * d, 1, d, d, d};
    pack(&v, m->packed);
    float *to = m->grad_project + h * d;
    mul(C, d, d, G + h * d, ld, m->packed, m->M, m->wide); /* M is free by now */
    for (int o = 0; o < C; o++)
      for (int i = 0; i < d; i++) to[(size_t)o * c + i] += m->M[(size_t)o * m->wide + i];
    outer(C, d, d, m->as_project + h * d, m->ld, G + h * d, ld, m->grad_A + (size_t)h * t->dp * t->dp, t->dp, t->side);
  }
  memset(own, 0, sizeof(float) * 2 * c);
  for (int r = 0; r < C; r++) {
    int h = r / d, i = r % d;
    const float *a = A + (size_t)r * d, *g = m->grad_A + ((size_t)h * t->dp + i) * t->dp, *row = gram + ((size_t)h * t->dp + i) * t->dp;
    float dot = 0, sum = 0, T = j->temperature[h];
    for (int e = 0; e < d; e++) dot += a[e] * g[e];
    for (int e = 0; e < d; e++) {
      float lengths = squares[r] * squares[c + h * d + e];
      int short_one = lengths < LEAST;
      float scale = 1 / __builtin_sqrtf(short_one ? LEAST : lengths), logit = a[e] * (g[e] - dot), cosine = row[e] * scale;
      D[r * d + e] = logit * scale * T;
      sum += logit * cosine;
      if (short_one) continue;
      own[r] -= logit * cosine * T / squares[r];
      own[c + h * d + e] -= logit * cosine * T / squares[c + h * d + e];
    }
    j->grad_temperature[h] += sum;
  }
}

#ifdef MIRL_AMX
ALWAYS vf load_element(const element *p) {
  return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16);
}
#else
ALWAYS vf load_element(const element *p) { return load(p); }
#endif

static size_t attention_backward(const mirl_attention *j, void *scratch) {
  arena a = {scratch, 0};
  attend t = make_attend(j, &a, 1);
  const strips *s = &t.s;
  int C = t.C, c = t.c, d = t.d, wide = t.wide;
  ring before = make_ring(&a, s, wide), grads = make_ring(&a, s, wide), n = make_ring(&a, s, c), xhat = make_ring(&a, s, c);
  float *rstd = FLOATS(&a, 3 * s->most), *g = FLOATS(&a, (size_t)s->most * c), *gh = FLOATS(&a, (size_t)s->most * wide);
  float *gn = FLOATS(&a, (size_t)s->most * c), *turned = FLOATS(&a, 9 * wide), *grad_taps = FLOATS(&a, 9 * wide);
  float *grad_qkv = FLOATS(&a, (size_t)wide * c), *gM = FLOATS(&a, (size_t)up(c, 32) * c), *D = FLOATS(&a, C * d), *own = FLOATS(&a, 2 * c);
  small m = make_small(j, &t, &a);
  size_t one_head = packed_size(d, d);
  element *as_g = take(&a, sizeof(element) * s->most * up(c, 32));
  element *for_q = take(&a, sizeof(element) * t.heads * one_head), *for_k = take(&a, sizeof(element) * t.heads * one_head);
  weights qkv_back = make_transposed(&a, t.rows, &t.entries, &t.tiles);
  if (!scratch) return a.used;
  qkv_taps(j, c, 1, turned);
  memset(grad_taps, 0, sizeof(float) * 9 * wide);
  memset(grad_qkv, 0, sizeof(float) * wide * c);
  memset(j->grad_temperature, 0, sizeof(float) * t.heads);
  begin_products();
  for (int image = 0; image < j->images; image++) {
    size_t start = (size_t)image * j->height * j->width * C;
    float *gram = sums_of(&t, j->kept, image), *squares = squares_of(&t, gram), *A = affinity_of(&t, gram);
    merge(&t, &m, A);
    view back = {m.M, m.wide, 1, C, C};
    pack(&back, t.packed);
    memset(gM, 0, sizeof(float) * up(c, 32) * c);
    for (int i = 0; i < s->count; i++) {
      int ld;
      const float *gy = padded(j->grad_y + start + (size_t)first_row(s, i) * j->width * C, C, pixels_of(s, i), s->most, g, c);
      const element *G = operand(gy, c, s->most, c, as_g, &ld);
      outer(pixels_of(s, i), C, C, G, ld, strip_of(&t, j->kept, image, i) + 2 * c, t.ld, gM, c, t.side);
    }
    attention_gradients(&t, j, &m, gram, squares, A, gM, D, own);
    for (int h = 0; h < t.heads; h++) {
      view q = {D + h * d * d, 1, d, d, d}, k = {D + h * d * d, d, 1, d, d};
      pack(&q, for_q + h * one_head);
      pack(&k, for_k + h * one_head);
    }
    for (int i = 0; i < s->count + 2; i++) {
      int ld_g, pixels;
      if (i < s->count) {
        pixels = pixels_of(s, i);
        const float *x = padded(j->x + start + (size_t)first_row(s, i) * j->width * C, C, pixels, pixels, t.x, c);
        norm_forward(&t.norm, x, pixels, xhat.slots[i % 3], rstd + i % 3 * s->most, n.slots[i % 3]);
        features N = make_features(n.slots[i % 3], c, up(pixels, 16), t.as_n);
        multiply(&t.qkv, &N, pixels, before.slots[i % 3], wide);
      }
      int q = i - 1;
      if (q >= 0 && q < s->count) {
        pixels = pixels_of(s, q);
        const element *kept = strip_of(&t, j->kept, image, q);
        float *to = grads.slots[q % 3];
        const float *gy = padded(j->grad_y + start + (size_t)first_row(s, q) * j->width * C, C, pixels, s->most, g, c);
        const element *G = operand(gy, c, up(pixels, 16), c, as_g, &ld_g);
        for (int h = 0; h < t.heads; h++) mul(pixels, d, d, kept + c + h * d, t.ld, for_q + h * one_head, to + h * d, wide);
        for (int h = 0; h < t.heads; h++) mul(pixels, d, d, kept + h * d, t.ld, for_k + h * one_head, to + c + h * d, wide);
        mul(pixels, c, C, G, ld_g, t.packed, to + 2 * c, wide);
        for (int p = 0; p < pixels; p++)
          for (int k = 0; k < 2 * c; k += LANES) {
            float *z = to + (size_t)p * wide + k;
            store(z, load(z) + load(own + k) * load_element(kept + (size_t)p * t.ld + k));
          }
        for (int r = 0; r < rows_of(s, q); r++) {
          int y = first_row(s, q) + r;
          depthwise_taps(row_of(&before, s, y - 1), row_of(&before, s, y), row_of(&before, s, y + 1), to + (size_t)r * j->width * wide,
                         j->width, wide, wide, wide, grad_taps, wide);
        }
      }
      q = i - 2;
      if (q < 0) continue;
      pixels = pixels_of(s, q);
      for (int r = 0; r < rows_of(s, q); r++) {
        int y = first_row(s, q) + r;
        depthwise_row(row_of(&grads, s, y - 1), row_of(&grads, s, y), row_of(&grads, s, y + 1), j->width, wide, wide, turned, wide,
                      gh + (size_t)r * j->width * wide, wide, NULL, 0);
      }
      clear_rows(gh, wide, pixels, s->most);
      features G = make_features(gh, wide, s->most, t.as_wide), N = make_features(n.slots[q % 3], c, s->most, t.as_n);
      add_gradient(&t.entries, &G, &N, pixels, grad_qkv, c, &t.tiles, t.side);
      multiply(&qkv_back, &G, pixels, gn, c);
      size_t at_strip = start + (size_t)first_row(s, q) * j->width * C;
      const float *gy = padded(j->grad_y + at_strip, C, pixels, pixels, g, c);
      float *gx = C == c ? j->grad_x + at_strip : g;
      norm_backward(&t.norm, gn, xhat.slots[q % 3], rstd + q % 3 * s->most, pixels, gy, gx);
      if (gx == g) copy_rows(g, c, C, pixels, j->grad_x + at_strip);
    }
  }
  end_products();
  scatter(&t.entries, grad_qkv, c);
  for (int part = 0; part < 3; part++) {
    copy_rows(grad_qkv + (size_t)part * c * c, c, C, C, j->grad_qkv + (size_t)part * C * C);
    for (int k = 0; k < C; k++)
      for (int e = 0; e < 9; e++) j->grad_depthwise[((size_t)part * C + k) * 9 + e] = grad_taps[e * wide + part * c + k];
  }
  copy_rows(m.grad_project, c, C, C, j->grad_project);
  memcpy(j->grad_norm_weight, t.norm.grad_weight, sizeof(float) * C);
  memcpy(j->grad_norm_bias, t.norm.grad_bias, sizeof(float) * C);
  return 0;
}

#endif
