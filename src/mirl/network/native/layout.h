/* Scratch memory, padding, and rows of a picture in a ring of strips. */
#ifndef MIRL_LAYOUT_H
#define MIRL_LAYOUT_H

#include "training.h"
#include "vector.h"
#include <string.h>

#define STRIP 64 /* pixels that a strip has at least, where the picture has them */

ALWAYS int up(int n, int unit) { return (n + unit - 1) / unit * unit; }

/* A stretch of memory handed out piece by piece; without memory it counts. */
typedef struct {
  char *base;
  size_t used;
} arena;

static void *take(arena *a, size_t bytes) {
  void *piece = a->base ? a->base + a->used : NULL;
  a->used += (bytes + 191) / 64 * 64; /* operands may be read up to 64 bytes beyond their end */
  return piece;
}
#define FLOATS(a, n) ((float *)take(a, sizeof(float) * (size_t)(n)))

/* A picture cut into strips of whole rows. */
typedef struct {
  int height, width, rows, count, most; /* rows of a strip, strips, pixels of a strip rounded up to 32 */
} strips;

static strips cut(int height, int width) {
  int rows = STRIP / width;
  if (rows < 1) rows = 1;
  if (rows > height) rows = height;
  return (strips){height, width, rows, (height + rows - 1) / rows, up(rows * width, 32)};
}
ALWAYS int first_row(const strips *s, int strip) { return strip * s->rows; }
ALWAYS int rows_of(const strips *s, int strip) { return strip + 1 < s->count ? s->rows : s->height - strip * s->rows; }
ALWAYS int pixels_of(const strips *s, int strip) { return rows_of(s, strip) * s->width; }

/* Rows of `n` floats into rows of `ld`, zeros behind them; rows `count` to `most` are zero. */
static void pad_rows(const float *from, int n, int count, int most, float *to, int ld) {
  for (int p = 0; p < count; p++) {
    memcpy(to + (size_t)p * ld, from + (size_t)p * n, sizeof(float) * n);
    memset(to + (size_t)p * ld + n, 0, sizeof(float) * (ld - n));
  }
  memset(to + (size_t)count * ld, 0, sizeof(float) * ld * (most - count));
}

/* The same rows where they are, if they need neither padding nor rows of zeros behind them; else a copy in `to`. */
static const float *padded(const float *from, int n, int count, int most, float *to, int ld) {
  if (n == ld && count == most) return from;
  pad_rows(from, n, count, most, to, ld);
  return to;
}

/* Three strips of features in turn, `ld` floats a pixel, and a row of zeros for what lies outside. */
typedef struct {
  float *slots[3], *zeros;
  int ld;
} ring;

static ring make_ring(arena *a, const strips *s, int ld) {
  ring r = {.ld = ld};
  for (int i = 0; i < 3; i++) r.slots[i] = FLOATS(a, (size_t)s->most * ld);
  r.zeros = FLOATS(a, (size_t)s->width * ld);
  if (a->base) {
    for (int i = 0; i < 3; i++) memset(r.slots[i], 0, sizeof(float) * s->most * ld);
    memset(r.zeros, 0, sizeof(float) * s->width * ld);
  }
  return r;
}
ALWAYS const float *row_of(const ring *r, const strips *s, int y) {
  if (y < 0 || y >= s->height) return r->zeros;
  return r->slots[y / s->rows % 3] + (size_t)(y % s->rows) * s->width * r->ld;
}

#endif
