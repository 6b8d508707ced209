/* A dense 3x3 convolution with zero padding, channels last: nine products with pixels of a padded copy, each shifted by a tap. The
   copy's rows follow each other with two columns of zeros in between, so that a strip is one product; what falls on these
   columns is left out. */
#ifndef MIRL_CONVOLUTION_H
#define MIRL_CONVOLUTION_H

#include "matmul.h"
#include "pieces.h"

/* Rows first - 1 to first + rows of a picture with zeros around them, n floats a pixel into rows of ld. */
static void padded_strip(const float *picture, int height, int width, int n, int first, int rows, float *to, int ld) {
  size_t line = (size_t)(width + 2) * ld;
  for (int r = -1; r <= rows; r++, to += line) {
    int y = first + r;
    memset(to, 0, sizeof(float) * line);
    if (y < 0 || y >= height) continue;
    pad_rows(picture + (size_t)y * width * n, n, width, width, to + ld, ld);
  }
}

typedef struct {
  strips s;
  int i, o, most; /* inputs and outputs padded to 16, padded pixels of a strip rounded up to 32 */
  size_t padded;  /* pixels of a padded strip, with room for shifted products */
} convolution;

static convolution make_convolution(const mirl_convolution *j) {
  convolution k = {.s = cut(j->height, j->width), .i = up(j->inputs, UNIT), .o = up(j->outputs, UNIT)};
  k.most = up(k.s.rows * (j->width + 2), 32);
  k.padded = (size_t)(k.s.rows + 2) * (j->width + 2) + 64;
  return k;
}

/* y = weight * x, `n` inputs in rows of ld; packed (outputs, tap, inputs). */
static void convolve(const convolution *k, int images, const float *x, int n, int ld, const element *packed, float *y, int outputs, int ldo,
                     float *copy, element *as_copy, float *out) {
  const strips *s = &k->s;
  int w = s->width;
  for (int image = 0; image < images; image++)
    for (int i = 0; i < s->count; i++) {
      int rows = rows_of(s, i), ld_a;
      padded_strip(x + (size_t)image * s->height * w * n, s->height, w, n, first_row(s, i), rows, copy, ld);
      const element *A = operand(copy, ld, (int)k->padded, ld, as_copy, &ld_a), *at_tap[9];
      for (int t = 0; t < 9; t++) at_tap[t] = A + (size_t)(t / 3 * (w + 2) + t % 3) * ld_a;
      mul_segments(up(rows * (w + 2) - 2, 16), ldo, n, 9, at_tap, ld_a, packed, out, ldo);
      for (int r = 0; r < rows; r++)
        copy_rows(out + (size_t)r * (w + 2) * ldo, ldo, outputs, w, y + (((size_t)image * s->height + first_row(s, i) + r) * w) * outputs);
    }
}

/* The weights (outputs, inputs, 3, 3) tap by tap: (9, outputs, inputs). */
static void by_tap(const mirl_convolution *j, float *to) {
  size_t n = (size_t)j->outputs * j->inputs;
  for (size_t i = 0; i < n; i++)
    for (int t = 0; t < 9; t++) to[t * n + i] = j->weight[i * 9 + t];
}

static size_t convolution_forward(const mirl_convolution *j, void *scratch) {
  arena a = {scratch, 0};
  convolution k = make_convolution(j);
  ptrdiff_t tap = (ptrdiff_t)j->outputs * j->inputs;
  float *copy = FLOATS(&a, k.padded * k.i), *out = FLOATS(&a, (size_t)k.most * k.o), *taps = FLOATS(&a, 9 * tap);
  element *as_copy = take(&a, sizeof(element) * k.padded * up(k.i, 32)), *packed = take(&a, sizeof(element) * 9 * packed_size(j->inputs, k.o));
  if (!scratch) return a.used;
  memset(copy, 0, sizeof(float) * k.padded * k.i);
  by_tap(j, taps);
  view v = {taps, 1, j->inputs, j->inputs, j->outputs};
  pack_segments(&v, 9, tap, packed);
  begin_products();
  convolve(&k, j->images, j->x, j->inputs, k.i, packed, j->y, j->outputs, k.o, copy, as_copy, out);
  end_products();
  return 0;
}

static size_t convolution_backward(const mirl_convolution *j, void *scratch) {
  arena a = {scratch, 0};
  convolution k = make_convolution(j);
  const strips *s = &k.s;
  int w = j->width;
  ptrdiff_t tap = (ptrdiff_t)j->outputs * j->inputs;
  float *copy = FLOATS(&a, k.padded * k.i), *grads = FLOATS(&a, k.padded * k.o), *out = FLOATS(&a, (size_t)k.most * k.i);
  float *sums = FLOATS(&a, (size_t)9 * k.o * k.i), *taps = FLOATS(&a, 9 * tap);
  element *as_copy = take(&a, sizeof(element) * k.padded * up(k.i, 32)), *as_grads = take(&a, sizeof(element) * k.padded * up(k.o, 32));
  element *packed = take(&a, sizeof(element) * 9 * packed_size(j->outputs, k.i)), *turned = take(&a, LEFT_BYTES(k.most, k.o));
  element *pairs[2] = {take(&a, RIGHT_BYTES(k.padded, k.i)), take(&a, RIGHT_BYTES(k.padded, k.i))};
  if (!scratch) return a.used;
  memset(copy, 0, sizeof(float) * k.padded * k.i);
  memset(grads, 0, sizeof(float) * k.padded * k.o);
  memset(sums, 0, sizeof(float) * 9 * k.o * k.i);
  begin_products();
  if (j->grad_x) {
    by_tap(j, taps);
    view v = {taps + 8 * tap, j->inputs, 1, j->outputs, j->inputs};
    pack_segments(&v, 9, -tap, packed);
    convolve(&k, j->images, j->grad_y, j->outputs, k.o, packed, j->grad_x, j->inputs, k.i, grads, as_grads, out);
  }
  memset(grads, 0, sizeof(float) * k.padded * k.o);
  for (int image = 0; image < j->images; image++)
    for (int i = 0; i < s->count; i++) {
      int rows = rows_of(s, i), pixels = rows * (w + 2), ld, ld_g;
      padded_strip(j->x + (size_t)image * j->height * w * j->inputs, j->height, w, j->inputs, first_row(s, i), rows, copy, k.i);
      /* The gradients begin at their own first pixel: zeros are the two columns between rows. */
      for (int r = 0; r < rows; r++) {
        const float *from = j->grad_y + (((size_t)image * j->height + first_row(s, i) + r) * w) * j->outputs;
        pad_rows(from, j->outputs, w, w + 2, grads + (size_t)r * (w + 2) * k.o, k.o);
      }
      clear_rows(grads, k.o, pixels, k.most);
      const element *X = operand(copy, k.i, (int)k.padded, k.i, as_copy, &ld), *G = operand(grads, k.o, k.most, k.o, as_grads, &ld_g);
      int wide = up(pixels, K_UNIT), all = up((int)k.padded - 1, 2) - 2;
      left g = make_left(wide, j->outputs, G, ld_g, turned);
      right even = make_right(all, j->inputs, X, ld, pairs[0]), odd = make_right(all, j->inputs, X + ld, ld, pairs[1]);
      for (int t = 0; t < 9; t++) {
        int by = t / 3 * (w + 2) + t % 3;
        right x = by % 2 ? shifted(odd, by - 1, j->inputs) : shifted(even, by, j->inputs);
        outer_sides(wide, j->outputs, j->inputs, g, x, sums + (size_t)t * k.o * k.i, k.i);
      }
    }
  end_products();
  for (int o = 0; o < j->outputs; o++)
    for (int i = 0; i < j->inputs; i++)
      for (int t = 0; t < 9; t++) j->grad_weight[((size_t)o * j->inputs + i) * 9 + t] = sums[((size_t)t * k.o + o) * k.i + i];
  return 0;
}

#endif
