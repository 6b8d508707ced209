/* What lies between the matrix products: LayerNorm, depthwise 3x3 and the gate, forward and backward, channels last. */
#ifndef MIRL_PIECES_H
#define MIRL_PIECES_H

#include "layout.h"

#define EPSILON 1e-5f /* of the LayerNorm */

#if MIRL_VECTOR_BYTES == 64
ALWAYS float total(vf x) { return _mm512_reduce_add_ps((__m512)x); }
#else
ALWAYS float total(vf x) { return sum_lanes(x); }
#endif

/* A LayerNorm over `channels` of rows of `ld` floats; weight, bias and `valid` (ones, then zeros) are padded to `ld`. */
typedef struct {
  int channels, ld;
  float *weight, *bias, *valid, *grad_weight, *grad_bias;
} layer_norm;

static layer_norm make_norm(arena *a, int channels, const float *weight, const float *bias) {
  int ld = up(channels, UNIT);
  layer_norm n = {channels, ld, FLOATS(a, ld), FLOATS(a, ld), FLOATS(a, ld), FLOATS(a, ld), FLOATS(a, ld)};
  if (!a->base) return n;
  for (int c = 0; c < ld; c++) {
    int in = c < channels;
    n.weight[c] = in ? weight[c] : 0;
    n.bias[c] = in ? bias[c] : 0;
    n.valid[c] = in;
    n.grad_weight[c] = n.grad_bias[c] = 0;
  }
  return n;
}

/* x in rows of n->ld -> xhat = (x - mean) rstd, which may be NULL, and out = xhat weight + bias. */
static void norm_forward(const layer_norm *n, const float *x, int pixels, float *xhat, float *rstd, float *out) {
  for (int p = 0; p < pixels; p++) {
    const float *row = x + (size_t)p * n->ld;
    vf sum = splat(0), square = splat(0);
    for (int c = 0; c < n->ld; c += LANES) sum += load(row + c);
    vf mean = splat(total(sum) / n->channels);
    for (int c = 0; c < n->ld; c += LANES) {
      vf d = (load(row + c) - mean) * load(n->valid + c);
      square += d * d;
    }
    float r = 1 / __builtin_sqrtf(total(square) / n->channels + EPSILON);
    for (int c = 0; c < n->ld; c += LANES) {
      vf h = (load(row + c) - mean) * load(n->valid + c) * splat(r);
      if (xhat) store(xhat + (size_t)p * n->ld + c, h);
      store(out + (size_t)p * n->ld + c, h * load(n->weight + c) + load(n->bias + c));
    }
    if (rstd) rstd[p] = r;
  }
}

/* gx = gy + the gradient at x from that at the output, rows of n->ld; gradients of weight and bias add up. */
static void norm_backward(const layer_norm *n, const float *g, const float *xhat, const float *rstd, int pixels, const float *gy, float *gx) {
  for (int p = 0; p < pixels; p++) {
    const float *row = g + (size_t)p * n->ld, *h = xhat + (size_t)p * n->ld;
    float *to = gx + (size_t)p * n->ld;
    vf sum = splat(0), with = splat(0);
    for (int c = 0; c < n->ld; c += LANES) {
      vf q = load(row + c), e = load(h + c), w = q * load(n->weight + c);
      sum += w;
      with += w * e;
      store(n->grad_weight + c, load(n->grad_weight + c) + q * e);
      store(n->grad_bias + c, load(n->grad_bias + c) + q);
    }
    vf m1 = splat(total(sum) / n->channels), m2 = splat(total(with) / n->channels), r = splat(rstd[p]);
    for (int c = 0; c < n->ld; c += LANES)
      store(to + c, load(gy + (size_t)p * n->ld + c) + r * (load(row + c) * load(n->weight + c) - m1 - load(h + c) * m2));
  }
}

/* Depthwise filters (channels, 3, 3) as nine rows of `ld` floats; `turned` by 180 degrees. Channels `from` on go to `to` on. */
static void tap_rows(const float *filters, int channels, int turned, float *rows, int ld) {
  for (int t = 0; t < 9; t++)
    for (int c = 0; c < channels; c++) rows[t * ld + c] = filters[c * 9 + (turned ? 8 - t : t)];
}

/* A row of the filtered map from three rows of the map; `squares`, for the first `squared` channels, adds up out^2. */
static void depthwise_row(const float *above, const float *here, const float *below, int width, int n, int ld, const float *taps,
                          int taps_ld, float *out, int ld_out, float *squares, int squared) {
  for (int c = 0; c < n; c += LANES) {
    vf k[9], sum = splat(0);
#pragma GCC unroll 9
    for (int t = 0; t < 9; t++) k[t] = load(taps + t * taps_ld + c);
    const float *p0 = above + c, *p1 = here + c, *p2 = below + c;
    vf a0 = splat(0), b0 = splat(0), c0 = splat(0), a1 = load(p0), b1 = load(p1), c1 = load(p2);
    float *to = out + c;
    int squaring = c < squared;
    for (int x = 1; x <= width; x++, to += ld_out) {
      p0 += ld, p1 += ld, p2 += ld;
      vf a2 = splat(0), b2 = a2, c2 = a2;
      if (x < width) a2 = load(p0), b2 = load(p1), c2 = load(p2);
      vf s = k[0] * a0 + k[1] * a1 + k[2] * a2, u = k[3] * b0 + k[4] * b1 + k[5] * b2, v = k[6] * c0 + k[7] * c1 + k[8] * c2;
      s += u + v;
      store(to, s);
      if (squaring) sum += s * s;
      a0 = a1, b0 = b1, c0 = c1, a1 = a2, b1 = b2, c1 = c2;
    }
    if (squaring) store(squares + c, load(squares + c) + sum);
  }
}

/* Gradients of the taps, nine rows of `taps_ld`, from a row of gradients of the filtered map and three rows of the map. */
static void depthwise_taps(const float *above, const float *here, const float *below, const float *g, int width, int n, int ld, int ld_g,
                           float *taps, int taps_ld) {
  for (int c = 0; c < n; c += LANES) {
    vf k[9];
#pragma GCC unroll 9
    for (int t = 0; t < 9; t++) k[t] = load(taps + t * taps_ld + c);
    const float *p0 = above + c, *p1 = here + c, *p2 = below + c, *q = g + c;
    vf a0 = splat(0), b0 = splat(0), c0 = splat(0), a1 = load(p0), b1 = load(p1), c1 = load(p2);
    for (int x = 1; x <= width; x++, q += ld_g) {
      p0 += ld, p1 += ld, p2 += ld;
      vf a2 = splat(0), b2 = a2, c2 = a2, d = load(q);
      if (x < width) a2 = load(p0), b2 = load(p1), c2 = load(p2);
      k[0] += d * a0, k[1] += d * a1, k[2] += d * a2;
      k[3] += d * b0, k[4] += d * b1, k[5] += d * b2;
      k[6] += d * c0, k[7] += d * c1, k[8] += d * c2;
      a0 = a1, b0 = b1, c0 = c1, a1 = a2, b1 = b2, c1 = c2;
    }
#pragma GCC unroll 9
    for (int t = 0; t < 9; t++) store(taps + t * taps_ld + c, k[t]);
  }
}

/* Distribution function and density of the normal distribution (Abramowitz and Stegun 26.2.17, error 7.5e-8). */
ALWAYS void normal(vf x, vf *distribution, vf *density) {
  const vf magic = splat(12582912.0f); /* 1.5 * 2^23: adding it rounds to a whole number */
  vf z = larger(x * x * splat(-0.72134752f), splat(-100)), n = z + magic, r = z - (n - magic);
  vf y = splat(1.5404e-4f);
  y = y * r + splat(1.333355e-3f), y = y * r + splat(9.618129e-3f), y = y * r + splat(5.550411e-2f);
  y = y * r + splat(0.24022651f), y = y * r + splat(0.69314718f), y = y * r + splat(1);
  vf d = (vf)((vi)y + ((vi)n << 23)) * splat(0.39894228f), size = larger(x, -x), t = splat(1) / (splat(1) + splat(0.2316419f) * size);
  vf s = splat(1.330274429f);
  s = s * t + splat(-1.821255978f), s = s * t + splat(1.781477937f), s = s * t + splat(-0.356563782f), s = s * t + splat(0.319381530f);
  vf tail = s * t * d; /* of -|x| */
  vi positive = x > splat(0);
  *distribution = (vf)((positive & (vi)(splat(1) - tail)) | (~positive & (vi)tail));
  *density = d;
}

/* u = gelu(a) b for n floats; n is a multiple of 16. */
static void gate_forward(const float *a, const float *b, int n, float *u) {
  for (int i = 0; i < n; i += LANES) {
    vf x = load(a + i), F, f;
    normal(x, &F, &f);
    store(u + i, x * F * load(b + i));
  }
}

/* The same with the gradients of a and b from that of u. */
static void gate_backward(const float *a, const float *b, const float *gu, int n, float *u, float *ga, float *gb) {
  for (int i = 0; i < n; i += LANES) {
    vf x = load(a + i), y = load(b + i), g = load(gu + i), F, f;
    normal(x, &F, &f);
    vf gelu_x = x * F;
    store(u + i, gelu_x * y);
    store(ga + i, g * y * (F + x * f));
    store(gb + i, g * gelu_x);
  }
}

/* y = x + o: rows of n floats from rows of n and of ld. */
static void add_rows(const float *x, const float *o, int ld, int n, int pixels, float *y) {
  for (int p = 0; p < pixels; p++)
    for (int c = 0; c < n; c++) y[(size_t)p * n + c] = x[(size_t)p * n + c] + o[(size_t)p * ld + c];
}
static void copy_rows(const float *from, int ld, int n, int pixels, float *to) {
  for (int p = 0; p < pixels; p++) memcpy(to + (size_t)p * n, from + (size_t)p * ld, sizeof(float) * n);
}
static void clear_rows(float *x, int ld, int from, int to) { memset(x + (size_t)from * ld, 0, sizeof(float) * ld * (to - from)); }

#endif
