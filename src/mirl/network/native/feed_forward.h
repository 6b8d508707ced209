/* The gated feed-forward half of a block: y = x + project(gelu(a) b), a and b the depthwise filtered halves of
   expand(LayerNorm(x)) (Restormer, arXiv 2111.09881, equation 2). Strip by strip: the hidden features never leave the cache, and
   backward makes them again. */
#ifndef MIRL_FEED_FORWARD_H
#define MIRL_FEED_FORWARD_H

#include "matmul.h"
#include "pieces.h"
#include "sparse.h"

typedef struct {
  int C, H, c, h, wide; /* channels and hidden, padded to 16; wide = 2 h */
  strips s;
  layer_norm norm;
  float *x, *n, *o, *taps;
  element *expand, *project, *as_n, *as_u;
  sparse by_unit; /* the expansion, if it goes by its non-zeros */
  turned_tiles tiles;
  float *both; /* the expansion, padded */
} half;

/* Rows of both halves of a matrix or of the filters: row i of the second half begins at h. */
static void both_halves(const mirl_feed_forward *j, int h, float *wide) {
  int C = j->channels, H = j->hidden;
  memset(wide, 0, sizeof(float) * 2 * h * C);
  memcpy(wide, j->expand, sizeof(float) * H * C);
  memcpy(wide + (size_t)h * C, j->expand + (size_t)H * C, sizeof(float) * H * C);
}
static void half_taps(const mirl_feed_forward *j, int h, int turned, float *taps) {
  memset(taps, 0, sizeof(float) * 9 * 2 * h);
  tap_rows(j->depthwise, j->hidden, turned, taps, 2 * h);
  tap_rows(j->depthwise + 9 * j->hidden, j->hidden, turned, taps + h, 2 * h);
}

static half make_half(const mirl_feed_forward *j, arena *a) {
  half f = {.C = j->channels, .H = j->hidden, .c = up(j->channels, UNIT), .h = up(j->hidden, UNIT)};
  f.wide = 2 * f.h;
  f.s = cut(j->height, j->width);
  f.norm = make_norm(a, f.C, j->norm_weight, j->norm_bias);
  f.x = FLOATS(a, (size_t)f.s.most * f.c);
  f.o = FLOATS(a, (size_t)f.s.most * (f.wide > f.c ? f.wide : f.c));
  f.taps = FLOATS(a, 9 * f.wide);
  f.expand = take(a, sizeof(element) * packed_size(f.C, f.wide));
  f.project = take(a, sizeof(element) * packed_size(f.wide, f.wide > f.c ? f.wide : f.c));
  f.as_n = take(a, sizeof(element) * f.s.most * up(f.c, 32));
  f.as_u = take(a, sizeof(element) * f.s.most * up(f.wide, 32));
  f.both = FLOATS(a, (size_t)f.wide * f.C);
  f.tiles = make_tiles(a, f.wide > f.c ? f.wide : f.c);
  if (a->base) both_halves(j, f.h, f.both);
  view v = {f.both, 1, f.C, f.C, f.wide};
  f.by_unit = make_sparse(a, f.both, f.wide, f.C, 1);
  if (!a->base) return f;
  half_taps(j, f.h, 0, f.taps);
  if (!f.by_unit.used) pack(&v, f.expand);
  return f;
}

/* hidden = expand n for the pixels of a strip. */
static void expanded(const half *f, const float *n, int pixels, float *hidden) {
  int ld;
  if (f->by_unit.used) {
    sparse_mul(&f->by_unit, n, f->c, pixels, hidden, f->wide, &f->tiles);
    return;
  }
  const element *A = operand(n, f->c, up(pixels, 16), f->c, f->as_n, &ld);
  mul(pixels, f->wide, f->C, A, ld, f->expand, hidden, f->wide, 0);
}

static size_t feed_forward_forward(const mirl_feed_forward *j, void *scratch) {
  arena a = {scratch, 0};
  half f = make_half(j, &a);
  ring hidden = make_ring(&a, &f.s, f.wide);
  float *n = FLOATS(&a, (size_t)f.s.most * f.c), *both = FLOATS(&a, (size_t)j->width * f.wide), *u = FLOATS(&a, (size_t)f.s.most * f.h);
  view v = {j->project, 1, f.H, f.H, f.C};
  sparse project = make_sparse(&a, j->project, f.C, f.H, 0);
  if (!scratch) return a.used;
  if (!project.used) pack(&v, f.project);
  memset(u, 0, sizeof(float) * f.s.most * f.h);
  memset(n, 0, sizeof(float) * f.s.most * f.c);
  begin_products();
  for (int image = 0; image < j->images; image++) {
    size_t start = (size_t)image * j->height * j->width * f.C;
    for (int s = 0; s <= f.s.count; s++) {
      int ld;
      if (s < f.s.count) {
        int pixels = pixels_of(&f.s, s);
        const float *x = padded(j->x + start + (size_t)first_row(&f.s, s) * j->width * f.C, f.C, pixels, pixels, f.x, f.c);
        norm_forward(&f.norm, x, pixels, NULL, NULL, n);
        expanded(&f, n, pixels, hidden.slots[s % 3]);
      }
      int q = s - 1;
      if (q < 0) continue;
      int pixels = pixels_of(&f.s, q);
      for (int r = 0; r < rows_of(&f.s, q); r++) {
        int y = first_row(&f.s, q) + r;
        depthwise_row(row_of(&hidden, &f.s, y - 1), row_of(&hidden, &f.s, y), row_of(&hidden, &f.s, y + 1), j->width, f.wide, f.wide,
                      f.taps, f.wide, both, f.wide, NULL, 0);
        for (int p = 0; p < j->width; p++)
          gate_forward(both + (size_t)p * f.wide, both + (size_t)p * f.wide + f.h, f.h, u + ((size_t)r * j->width + p) * f.h);
      }
      if (project.used) {
        sparse_mul(&project, u, f.h, pixels, f.o, f.c, &f.tiles);
      } else {
        const element *A = operand(u, f.h, up(pixels, 16), f.h, f.as_u, &ld);
        mul(pixels, f.c, f.H, A, ld, f.project, f.o, f.c, 0);
      }
      size_t at_strip = start + (size_t)first_row(&f.s, q) * j->width * f.C;
      add_rows(j->x + at_strip, f.o, f.c, f.C, pixels, j->y + at_strip);
    }
  }
  end_products();
  return 0;
}

static size_t feed_forward_backward(const mirl_feed_forward *j, void *scratch) {
  arena a = {scratch, 0};
  half f = make_half(j, &a);
  const strips *s = &f.s;
  ring hidden = make_ring(&a, s, f.wide), grads = make_ring(&a, s, f.wide), n = make_ring(&a, s, f.c), xhat = make_ring(&a, s, f.c);
  float *rstd = FLOATS(&a, 3 * s->most), *both = FLOATS(&a, (size_t)j->width * f.wide), *u = FLOATS(&a, (size_t)s->most * f.h);
  float *g = FLOATS(&a, (size_t)s->most * f.c), *gu = FLOATS(&a, (size_t)s->most * f.h), *gh = FLOATS(&a, (size_t)s->most * f.wide);
  float *gn = FLOATS(&a, (size_t)s->most * f.c), *turned = FLOATS(&a, 9 * f.wide), *grad_taps = FLOATS(&a, 9 * f.wide);
  float *grad_expand = FLOATS(&a, (size_t)f.wide * f.c), *grad_project = FLOATS(&a, (size_t)f.c * f.h);
  element *expand_back = take(&a, sizeof(element) * packed_size(f.wide, f.c)), *as_g = take(&a, sizeof(element) * s->most * up(f.c, 32));
  void *side = take(&a, outer_bytes(s->most, f.wide, f.wide));
  view back = {f.both, f.C, 1, f.wide, f.C}, v = {j->project, f.H, 1, f.C, f.H};
  sparse project = make_sparse(&a, j->project, f.C, f.H, 1), unproject = transposed(&a, &project);
  sparse unexpand = transposed(&a, &f.by_unit);
  if (!scratch) return a.used;
  half_taps(j, f.h, 1, turned);
  if (!unexpand.used) pack(&back, expand_back);
  if (!unproject.used) pack(&v, f.project);
  memset(grad_taps, 0, sizeof(float) * 9 * f.wide);
  memset(grad_expand, 0, sizeof(float) * f.wide * f.c);
  memset(grad_project, 0, sizeof(float) * f.c * f.h);
  memset(u, 0, sizeof(float) * s->most * f.h);
  begin_products();
  for (int image = 0; image < j->images; image++) {
    size_t start = (size_t)image * j->height * j->width * f.C;
    for (int t = 0; t < s->count + 2; t++) {
      int ld, ld_g, pixels;
      if (t < s->count) {
        pixels = pixels_of(s, t);
        const float *x = padded(j->x + start + (size_t)first_row(s, t) * j->width * f.C, f.C, pixels, pixels, f.x, f.c);
        norm_forward(&f.norm, x, pixels, xhat.slots[t % 3], rstd + t % 3 * s->most, n.slots[t % 3]);
        expanded(&f, n.slots[t % 3], pixels, hidden.slots[t % 3]);
      }
      int q = t - 1;
      if (q >= 0 && q < s->count) {
        pixels = pixels_of(s, q);
        const float *gy = padded(j->grad_y + start + (size_t)first_row(s, q) * j->width * f.C, f.C, pixels, s->most, g, f.c);
        const element *G = operand(gy, f.c, s->most, f.c, as_g, &ld_g);
        if (unproject.used) sparse_mul(&unproject, gy, f.c, pixels, gu, f.h, &f.tiles);
        else mul(pixels, f.h, f.C, G, ld_g, f.project, gu, f.h, 0);
        for (int r = 0; r < rows_of(s, q); r++) {
          int y = first_row(s, q) + r;
          const float *above = row_of(&hidden, s, y - 1), *here = row_of(&hidden, s, y), *below = row_of(&hidden, s, y + 1);
          float *to = grads.slots[q % 3] + (size_t)r * j->width * f.wide;
          depthwise_row(above, here, below, j->width, f.wide, f.wide, f.taps, f.wide, both, f.wide, NULL, 0);
          for (int p = 0; p < j->width; p++) {
            size_t i = ((size_t)r * j->width + p) * f.h;
            const float *ab = both + (size_t)p * f.wide;
            gate_backward(ab, ab + f.h, gu + i, f.h, u + i, to + (size_t)p * f.wide, to + (size_t)p * f.wide + f.h);
          }
          depthwise_taps(above, here, below, to, j->width, f.wide, f.wide, f.wide, grad_taps, f.wide);
        }
        if (project.used) {
          sparse_gradient(&project, gy, f.c, u, f.h, pixels, &f.tiles);
        } else {
          const element *U = operand(u, f.h, s->most, f.h, f.as_u, &ld);
          outer(pixels, f.C, f.H, G, ld_g, U, ld, grad_project, f.h, side);
        }
      }
      q = t - 2;
      if (q < 0) continue;
      pixels = pixels_of(s, q);
      for (int r = 0; r < rows_of(s, q); r++) {
        int y = first_row(s, q) + r;
        depthwise_row(row_of(&grads, s, y - 1), row_of(&grads, s, y), row_of(&grads, s, y + 1), j->width, f.wide, f.wide, turned, f.wide,
                      gh + (size_t)r * j->width * f.wide, f.wide, NULL, 0);
      }
      clear_rows(gh, f.wide, pixels, s->most);
      const element *G = operand(gh, f.wide, s->most, f.wide, f.as_u, &ld_g), *N = operand(n.slots[q % 3], f.c, s->most, f.c, f.as_n, &ld);
      if (f.by_unit.used) sparse_gradient(&f.by_unit, gh, f.wide, n.slots[q % 3], f.c, pixels, &f.tiles);
      else outer(pixels, f.wide, f.C, G, ld_g, N, ld, grad_expand, f.c, side);
      if (unexpand.used) sparse_mul(&unexpand, gh, f.wide, pixels, gn, f.c, &f.tiles);
      else mul(pixels, f.c, f.wide, G, ld_g, expand_back, gn, f.c, 0);
      size_t at_strip = start + (size_t)first_row(s, q) * j->width * f.C;
      const float *gy = padded(j->grad_y + at_strip, f.C, pixels, pixels, f.o, f.c);
      float *gx = f.C == f.c ? j->grad_x + at_strip : f.o;
      norm_backward(&f.norm, gn, xhat.slots[q % 3], rstd + q % 3 * s->most, pixels, gy, gx);
      if (gx == f.o) copy_rows(f.o, f.c, f.C, pixels, j->grad_x + at_strip);
    }
  }
  end_products();
  if (f.by_unit.used) scatter(&f.by_unit, grad_expand, f.c);
  if (project.used) scatter(&project, grad_project, f.h);
  copy_rows(grad_expand, f.c, f.C, f.H, j->grad_expand);
  copy_rows(grad_expand + (size_t)f.h * f.c, f.c, f.C, f.H, j->grad_expand + (size_t)f.H * f.C);
  copy_rows(grad_project, f.h, f.H, f.C, j->grad_project);
  for (int c = 0; c < 2 * f.H; c++)
    for (int t = 0; t < 9; t++) j->grad_depthwise[c * 9 + t] = grad_taps[t * f.wide + (c < f.H ? c : c - f.H + f.h)];
  memcpy(j->grad_norm_weight, f.norm.grad_weight, sizeof(float) * f.C);
  memcpy(j->grad_norm_bias, f.norm.grad_bias, sizeof(float) * f.C);
  return 0;
}

#endif
