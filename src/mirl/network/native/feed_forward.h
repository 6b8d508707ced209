/* The gated feed-forward half of a block: y = x + project(gelu(a) b), a and b the depthwise filtered halves of
   expand(LayerNorm(x)) (Restormer, arXiv 2111.09881, equation 2). Strip by strip: the hidden features never leave the cache, and
   backward makes them again. */
#ifndef MIRL_FEED_FORWARD_H
#define MIRL_FEED_FORWARD_H

#include "matmul.h"
#include "pieces.h"
#include "weights.h"

typedef struct {
  int C, H, c, h, wide; /* channels and hidden, padded to 16; wide = 2 h */
  strips s;
  layer_norm norm;
  float *x, *o, *taps, *both; /* both: the expansion, padded */
  element *as_n, *as_u;
  turned_tiles tiles;
  sparse entries; /* of the expansion */
  weights expand;
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

static half make_half(const mirl_feed_forward *j, arena *a, int gradient) {
  half f = {.C = j->channels, .H = j->hidden, .c = up(j->channels, UNIT), .h = up(j->hidden, UNIT)};
  f.wide = 2 * f.h;
  f.s = cut(j->height, j->width);
  f.norm = make_norm(a, f.C, j->norm_weight, j->norm_bias);
  f.x = FLOATS(a, (size_t)f.s.most * f.c);
  f.o = FLOATS(a, (size_t)f.s.most * (f.wide > f.c ? f.wide : f.c));
  f.taps = FLOATS(a, 9 * f.wide);
  f.as_n = take(a, sizeof(element) * f.s.most * up(f.c, 32));
  f.as_u = take(a, sizeof(element) * f.s.most * up(f.wide, 32));
  f.both = FLOATS(a, (size_t)f.wide * f.C);
  f.tiles = make_tiles(a, f.wide > f.c ? f.wide : f.c);
  if (a->base) both_halves(j, f.h, f.both);
  f.entries = make_sparse(a, f.both, f.wide, f.C, gradient);
  f.expand = make_weights(a, f.both, &f.entries, &f.tiles);
  if (a->base) half_taps(j, f.h, 0, f.taps);
  return f;
}

static size_t feed_forward_forward(const mirl_feed_forward *j, void *scratch) {
  arena a = {scratch, 0};
  half f = make_half(j, &a, 0);
  ring hidden = make_ring(&a, &f.s, f.wide);
  float *n = FLOATS(&a, (size_t)f.s.most * f.c), *both = FLOATS(&a, (size_t)j->width * f.wide), *u = FLOATS(&a, (size_t)f.s.most * f.h);
  sparse entries = make_sparse(&a, j->project, f.C, f.H, 0);
  weights project = make_weights(&a, j->project, &entries, &f.tiles);
  if (!scratch) return a.used;
  memset(u, 0, sizeof(float) * f.s.most * f.h);
  memset(n, 0, sizeof(float) * f.s.most * f.c);
  begin_products();
  for (int image = 0; image < j->images; image++) {
    size_t start = (size_t)image * j->height * j->width * f.C;
    for (int s = 0; s <= f.s.count; s++) {
      if (s < f.s.count) {
        int pixels = pixels_of(&f.s, s);
        const float *x = padded(j->x + start + (size_t)first_row(&f.s, s) * j->width * f.C, f.C, pixels, pixels, f.x, f.c);
        norm_forward(&f.norm, x, pixels, NULL, NULL, n);
        features N = make_features(n, f.c, up(pixels, 16), f.as_n);
        multiply(&f.expand, &N, pixels, hidden.slots[s % 3], f.wide);
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
      features U = make_features(u, f.h, up(pixels, 16), f.as_u);
      multiply(&project, &U, pixels, f.o, f.c);
      size_t at_strip = start + (size_t)first_row(&f.s, q) * j->width * f.C;
      add_rows(j->x + at_strip, f.o, f.c, f.C, pixels, j->y + at_strip);
    }
  }
  end_products();
  return 0;
}

static size_t feed_forward_backward(const mirl_feed_forward *j, void *scratch) {
  arena a = {scratch, 0};
  half f = make_half(j, &a, 1);
  const strips *s = &f.s;
  ring hidden = make_ring(&a, s, f.wide), grads = make_ring(&a, s, f.wide), n = make_ring(&a, s, f.c), xhat = make_ring(&a, s, f.c);
  float *rstd = FLOATS(&a, 3 * s->most), *both = FLOATS(&a, (size_t)j->width * f.wide), *u = FLOATS(&a, (size_t)s->most * f.h);
  float *g = FLOATS(&a, (size_t)s->most * f.c), *gu = FLOATS(&a, (size_t)s->most * f.h), *gh = FLOATS(&a, (size_t)s->most * f.wide);
  float *gn = FLOATS(&a, (size_t)s->most * f.c), *turned = FLOATS(&a, 9 * f.wide), *grad_taps = FLOATS(&a, 9 * f.wide);
  float *grad_expand = FLOATS(&a, (size_t)f.wide * f.c), *grad_project = FLOATS(&a, (size_t)f.c * f.h);
  element *as_g = take(&a, sizeof(element) * s->most * up(f.c, 32));
  void *side = take(&a, outer_bytes(s->most, f.wide, f.wide));
  sparse project = make_sparse(&a, j->project, f.C, f.H, 1);
  weights unproject = make_transposed(&a, j->project, &project, &f.tiles), unexpand = make_transposed(&a, f.both, &f.entries, &f.tiles);
  if (!scratch) return a.used;
  half_taps(j, f.h, 1, turned);
  memset(grad_taps, 0, sizeof(float) * 9 * f.wide);
  memset(grad_expand, 0, sizeof(float) * f.wide * f.c);
  memset(grad_project, 0, sizeof(float) * f.c * f.h);
  memset(u, 0, sizeof(float) * s->most * f.h);
  begin_products();
  for (int image = 0; image < j->images; image++) {
    size_t start = (size_t)image * j->height * j->width * f.C;
    for (int t = 0; t < s->count + 2; t++) {
      int pixels;
      if (t < s->count) {
        pixels = pixels_of(s, t);
        const float *x = padded(j->x + start + (size_t)first_row(s, t) * j->width * f.C, f.C, pixels, pixels, f.x, f.c);
        norm_forward(&f.norm, x, pixels, xhat.slots[t % 3], rstd + t % 3 * s->most, n.slots[t % 3]);
        features N = make_features(n.slots[t % 3], f.c, up(pixels, 16), f.as_n);
        multiply(&f.expand, &N, pixels, hidden.slots[t % 3], f.wide);
      }
      int q = t - 1;
      if (q >= 0 && q < s->count) {
        pixels = pixels_of(s, q);
        const float *gy = padded(j->grad_y + start + (size_t)first_row(s, q) * j->width * f.C, f.C, pixels, s->most, g, f.c);
        features G = make_features(gy, f.c, s->most, as_g);
        multiply(&unproject, &G, pixels, gu, f.h);
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
        features U = make_features(u, f.h, s->most, f.as_u);
        add_gradient(&project, &G, &U, pixels, grad_project, f.h, &f.tiles, side);
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
      features G = make_features(gh, f.wide, s->most, f.as_u), N = make_features(n.slots[q % 3], f.c, s->most, f.as_n);
      add_gradient(&f.entries, &G, &N, pixels, grad_expand, f.c, &f.tiles, side);
      multiply(&unexpand, &G, pixels, gn, f.c);
      size_t at_strip = start + (size_t)first_row(s, q) * j->width * f.C;
      const float *gy = padded(j->grad_y + at_strip, f.C, pixels, pixels, f.o, f.c);
      float *gx = f.C == f.c ? j->grad_x + at_strip : f.o;
      norm_backward(&f.norm, gn, xhat.slots[q % 3], rstd + q % 3 * s->most, pixels, gy, gx);
      if (gx == f.o) copy_rows(f.o, f.c, f.C, pixels, j->grad_x + at_strip);
    }
  }
  end_products();
  scatter(&f.entries, grad_expand, f.c);
  scatter(&project, grad_project, f.h);
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
