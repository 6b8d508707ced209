/* The inner loops: sparse rows, dense panels, depthwise filters, LayerNorm, Gram matrix. One tile at a time.

   A tile is a list of up to UNITS units of 16 neighbouring pixels, not necessarily of one row. Its channels lie STRIDE floats
   apart in scratch. Where results go, or come from outside of scratch, is given by one pointer per unit (at channel 0) and a
   distance between channels. */
#ifndef MIRL_KERNELS_H
#define MIRL_KERNELS_H

#include "plan.h"
#include "vector.h"

/* Height of a dense panel: as many accumulators as registers allow. */
#if MIRL_VECTOR_BYTES == 64
#define PANEL 6
#define DENSE_UNITS 4
#elif MIRL_VECTOR_BYTES == 32
#define PANEL 6
#define DENSE_UNITS 1
#elif defined(__aarch64__)
#define PANEL 6
#define DENSE_UNITS 1
#elif defined(__wasm__)
#define PANEL 2 /* browsers need the 16 registers of x86 for temporaries too */
#define DENSE_UNITS 1
#else
#define PANEL 3
#define DENSE_UNITS 1
#endif

typedef struct {
  float *unit[UNITS];
} pointers;

/* y[r] = first[r] + sum of weight * x over the entries of row r, `n` units at once. */
ALWAYS void sparse_rows(const linear *a, const float *x, float *const *first, ptrdiff_t first_step, float *const *y,
                        ptrdiff_t step, const int n) {
  const entry *e = a->entries;
  const int32_t *row = a->row;
  const float *bias = a->bias;
  for (const run_of_rows *run = a->runs; run->rows; run++)
    for (int32_t left = run->rows; left > 0; left--) {
      ptrdiff_t from = *row * first_step, to = *row * step;
      vf sum[8];
      row++;
      if (first) {
#pragma GCC unroll 8
        for (int i = 0; i < n * PER_UNIT; i++) sum[i] = load(first[i / PER_UNIT] + from + i % PER_UNIT * LANES);
      } else {
        vf start = splat(bias ? *bias++ : 0);
#pragma GCC unroll 8
        for (int i = 0; i < n * PER_UNIT; i++) sum[i] = start;
      }
#ifdef __wasm__
#pragma GCC unroll 1 /* more makes browsers spill registers */
#else
#pragma GCC unroll 4
#endif
      for (const entry *end = e + run->entries; e < end; e++) {
        const float *p = (const float *)((const char *)x + e->offset);
        vf w = splat(e->weight);
#pragma GCC unroll 8
        for (int i = 0; i < n * PER_UNIT; i++) sum[i] += w * load(p + i * LANES);
      }
#pragma GCC unroll 8
      for (int i = 0; i < n * PER_UNIT; i++) store(y[i / PER_UNIT] + to + i % PER_UNIT * LANES, sum[i]);
    }
}

/* The same for pairs of rows: an input that both use is loaded once, so arithmetic, not loading, sets the pace. */
ALWAYS void sparse_pairs(const linear *a, const float *x, float *const *first, ptrdiff_t first_step, float *const *y,
                         ptrdiff_t step, const int n) {
  const twin *t = a->twins;
  const entry *e = a->entries;
  const int32_t *row = a->row;
  const float *bias = a->bias;
  for (const run_of_pairs *run = a->pairs; run->pairs; run++)
    for (int32_t left = run->pairs; left > 0; left--, row += 2) {
      vf sum[2][8];
#pragma GCC unroll 2
      for (int j = 0; j < 2; j++) {
        ptrdiff_t from = row[j] * first_step;
        vf start = splat(bias ? bias[j] : 0);
#pragma GCC unroll 8
        for (int i = 0; i < n * PER_UNIT; i++) sum[j][i] = first ? load(first[i / PER_UNIT] + from + i % PER_UNIT * LANES) : start;
      }
      if (bias) bias += 2;
#pragma GCC unroll 2
      for (const twin *end = t + run->both; t < end; t++) {
        const float *p = (const float *)((const char *)x + t->offset);
        vf one = splat(t->weight[0]), other = splat(t->weight[1]);
#pragma GCC unroll 8
        for (int i = 0; i < n * PER_UNIT; i++) {
          vf in = load(p + i * LANES);
          sum[0][i] += one * in;
          sum[1][i] += other * in;
        }
      }
#pragma GCC unroll 2
      for (int j = 0; j < 2; j++) {
#pragma GCC unroll 2
        for (const entry *end = e + run->single; e < end; e++) {
          const float *p = (const float *)((const char *)x + e->offset);
          vf w = splat(e->weight);
#pragma GCC unroll 8
          for (int i = 0; i < n * PER_UNIT; i++) sum[j][i] += w * load(p + i * LANES);
        }
      }
#pragma GCC unroll 2
      for (int j = 0; j < 2; j++) {
        ptrdiff_t to = row[j] * step;
#pragma GCC unroll 8
        for (int i = 0; i < n * PER_UNIT; i++) store(y[i / PER_UNIT] + to + i % PER_UNIT * LANES, sum[j][i]);
      }
    }
}

/* The same with dense panels of PANEL rows. */
ALWAYS void dense_rows(const linear *a, const float *x, float *const *first, ptrdiff_t first_step, float *const *y,
                       ptrdiff_t step, const int n) {
  const float *w = a->panels;
  for (int32_t r = 0; r < a->rows; r += PANEL) {
    int32_t height = a->rows - r < PANEL ? a->rows - r : PANEL;
    vf sum[PANEL][4];
#pragma GCC unroll 8
    for (int j = 0; j < PANEL; j++) {
      vf bias = splat(a->bias && j < height ? a->bias[r + j] : 0);
#pragma GCC unroll 8
      for (int i = 0; i < n * PER_UNIT; i++) sum[j][i] = bias;
    }
    if (first)
#pragma GCC unroll 8
      for (int j = 0; j < PANEL; j++)
        if (j < height)
#pragma GCC unroll 8
          for (int i = 0; i < n * PER_UNIT; i++)
            sum[j][i] = load(first[i / PER_UNIT] + (r + j) * first_step + i % PER_UNIT * LANES);
    for (int32_t k = 0; k < a->cols; k++, w += PANEL) {
      const float *p = x + a->offsets[k];
      vf in[4];
#pragma GCC unroll 8
      for (int i = 0; i < n * PER_UNIT; i++) in[i] = load(p + i * LANES);
#pragma GCC unroll 8
      for (int j = 0; j < PANEL; j++)
#pragma GCC unroll 8
        for (int i = 0; i < n * PER_UNIT; i++) sum[j][i] += splat(w[j]) * in[i];
    }
#pragma GCC unroll 8
    for (int j = 0; j < PANEL; j++)
      if (j < height)
#pragma GCC unroll 8
        for (int i = 0; i < n * PER_UNIT; i++) store(y[i / PER_UNIT] + (r + j) * step + i % PER_UNIT * LANES, sum[j][i]);
  }
}

/* Apply one block of columns to at most `left` units; returns to how many. */
static int apply_block(const linear *a, const float *x, int left, float *const *first, ptrdiff_t first_step, float *const *y,
                       ptrdiff_t step) {
#define RUN(kernel, n) return kernel(a, x, first, first_step, y, step, n), n
  if (a->panels) {
#if DENSE_UNITS >= 4
    if (left >= 4) RUN(dense_rows, 4);
    if (left >= 2) RUN(dense_rows, 2);
#endif
    RUN(dense_rows, 1);
  }
  if (a->pairs) {
#if PER_UNIT == 1
    if (left >= 8 && a->units >= 8) RUN(sparse_pairs, 8);
    if (left >= 4) RUN(sparse_pairs, 4);
#endif
#if PER_UNIT <= 2
    if (left >= 2) RUN(sparse_pairs, 2);
#endif
    RUN(sparse_pairs, 1);
  }
#if PER_UNIT == 1
  if (left >= 8 && a->units >= 8) RUN(sparse_rows, 8);
#endif
#if PER_UNIT <= 2
  if (left >= 4) RUN(sparse_rows, 4);
#endif
  if (left >= 2) RUN(sparse_rows, 2);
  RUN(sparse_rows, 1);
#undef RUN
}

/* Apply `a` to the first `count` units of the tile `x`; `first` (may be NULL, may equal `y`) is added. */
static void apply_linear(const linear *a, const float *x, int count, const pointers *first, ptrdiff_t first_step,
                         const pointers *y, ptrdiff_t step) {
  for (int u = 0, done; u < count; u += done) {
    float *const *to = y->unit + u;
    done = apply_block(a, x + u * UNIT, count - u, first ? first->unit + u : 0, first_step, to, step);
    for (const linear *block = a->next; block; block = block->next)
      for (int i = 0; i < done;) i += apply_block(block, x + (u + i) * UNIT, done - i, to + i, step, to + i, step);
  }
}

/* Rows y-1, y, y+1 of the window for each unit, at channel 0, and how many units follow one another in a row from it on. */
typedef struct {
  const float *row[UNITS][3];
  int run[UNITS];
  int lead; /* 1: rows begin one float after a whole number of units; otherwise at one */
} windows;

ALWAYS void filter_units(const filter *f, const windows *w, ptrdiff_t channel, int count, const pointers *y, ptrdiff_t at,
                         const int taps, const int gate) {
  vf weight[9];
#pragma GCC unroll 9
  for (int t = 0; t < taps; t++) weight[t] = splat(taps == 9 ? f->taps[t] : f->weight[t]);
  for (int u = 0; u < count; u++) {
    const float *p[9];
#pragma GCC unroll 9
    for (int t = 0; t < taps; t++)
      p[t] = taps == 9 ? w->row[u][t / 3] + channel + (t % 3 - 1) : w->row[u][f->row[t]] + channel + f->shift[t];
#pragma GCC unroll 4
    for (int i = 0; i < PER_UNIT; i++) {
      float *to = y->unit[u] + at + i * LANES;
      vf sum = weight[0] * load(p[0] + i * LANES);
#pragma GCC unroll 9
      for (int t = 1; t < taps; t++) sum += weight[t] * load(p[t] + i * LANES);
      store(to, gate ? load(to) * sum : sum);
    }
  }
}

#if PER_UNIT == 1
typedef struct {
  vf left, own, right; /* sums over the three rows for the filter's left, middle and right column */
} columns;

ALWAYS columns sum_columns(const vf *weight, const float *above, const float *here, const float *below) {
  vf a = load(above), b = load(here), c = load(below);
  return (columns){weight[0] * a + weight[3] * b + weight[6] * c, weight[1] * a + weight[4] * b + weight[7] * c,
                   weight[2] * a + weight[5] * b + weight[8] * c};
}

/* All nine taps on `count` units that follow one another in a row. Sums of columns are formed where vectors are aligned and
   then moved by a lane or two: three aligned loads instead of nine, most of which would cross a cache line. The rows begin
   `lead` floats after an aligned place, 0 or 1. */
ALWAYS void filter_run(const float *taps, const float *above, const float *here, const float *below, int count, float *y,
                       const int lead, const int gate) {
  static const vi last_first = {15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30};
  static const vi by_one = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  static const vi by_two = {2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17};
  vf weight[9];
#pragma GCC unroll 9
  for (int t = 0; t < 9; t++) weight[t] = splat(taps[t]);
  above -= lead, here -= lead, below -= lead;
  vf before = lead ? splat(0) : sum_columns(weight, above - UNIT, here - UNIT, below - UNIT).left;
  columns now = sum_columns(weight, above, here, below);
  for (ptrdiff_t x = 0, end = count * UNIT; x < end; x += UNIT) {
    columns next = sum_columns(weight, above + x + UNIT, here + x + UNIT, below + x + UNIT);
    vf sum = lead ? now.left + two_vectors(now.own, next.own, by_one) + two_vectors(now.right, next.right, by_two)
                  : two_vectors(before, now.left, last_first) + now.own + two_vectors(now.right, next.right, by_one);
    store(y + x, gate ? load(y + x) * sum : sum);
    before = now.left;
    now = next;
  }
}

ALWAYS void filter_runs(const filter *f, const windows *w, ptrdiff_t channel, int count, const pointers *y, ptrdiff_t at,
                        const int gate) {
  for (int u = 0, n; u < count; u += n) {
    const float *above = w->row[u][0] + channel, *here = w->row[u][1] + channel, *below = w->row[u][2] + channel;
    n = w->run[u];
    if (w->lead == 1) filter_run(f->taps, above, here, below, n, y->unit[u] + at, 1, gate);
    else filter_run(f->taps, above, here, below, n, y->unit[u] + at, 0, gate);
  }
}
#else
#define filter_runs(f, w, channel, count, y, at, gate) filter_units(f, w, channel, count, y, at, 9, gate)
#endif

/* Apply a filter at `channel` floats into the window and store it at `at` floats past `y`, or with `gate` multiply what is
   there by it. */
ALWAYS void apply_filter(const filter *f, const windows *w, ptrdiff_t channel, int count, const pointers *y, ptrdiff_t at,
                         const int gate) {
  switch (f->count) {
    case 1: filter_units(f, w, channel, count, y, at, 1, gate); break;
    case 2: filter_units(f, w, channel, count, y, at, 2, gate); break;
    case 3: filter_units(f, w, channel, count, y, at, 3, gate); break;
    case 4: filter_units(f, w, channel, count, y, at, 4, gate); break;
    default: filter_runs(f, w, channel, count, y, at, gate); break;
  }
}

/* GELU in place on `count` units. */
static void gelu_units(float *x, int count) {
  enum { VECTORS = PER_UNIT == 1 ? 8 : 4, AT_ONCE = VECTORS / PER_UNIT };
  int u = 0;
  for (; u + AT_ONCE <= count; u += AT_ONCE) gelu(x + u * UNIT, VECTORS);
  for (; u < count; u++) gelu(x + u * UNIT, PER_UNIT);
}

/* y = (x - mean) / sqrt(variance + 1e-5) over the channels of every pixel; scale and shift are in the next map. Sums are of
   differences from the first channel: that is one of the values, so its square distance from the mean is at most `channels`
   variances and little is lost in the difference of the sums. */
ALWAYS void normalise_units(float *const *x, ptrdiff_t step, int32_t channels, float *y, const int n) {
  vf sum[4], squares[4], zero[4];
#pragma GCC unroll 4
  for (int i = 0; i < n; i++) {
    sum[i] = squares[i] = splat(0);
    zero[i] = load(x[i / PER_UNIT] + i % PER_UNIT * LANES);
  }
  for (int32_t c = 0; c < channels; c++)
#pragma GCC unroll 4
    for (int i = 0; i < n; i++) {
      vf d = load(x[i / PER_UNIT] + c * step + i % PER_UNIT * LANES) - zero[i];
      store(y + c * STRIDE + i * LANES, d);
      sum[i] += d;
      squares[i] += d * d;
    }
  vf share = splat(1.0f / (float)channels);
#pragma GCC unroll 4
  for (int i = 0; i < n; i++) {
    vf mean = sum[i] * share, variance = larger(squares[i] * share - mean * mean, splat(0));
    squares[i] = splat(1) / root(variance + splat(1e-5f));
    sum[i] = mean * squares[i];
  }
  for (int32_t c = 0; c < channels; c++)
#pragma GCC unroll 4
    for (int i = 0; i < n; i++) {
      float *p = y + c * STRIDE + i * LANES;
      store(p, load(p) * squares[i] - sum[i]);
    }
}

static void normalise(const pointers *x, ptrdiff_t step, int32_t channels, int count, float *y) {
  for (int u = 0; u < count;) {
#if PER_UNIT == 1
    if (count - u >= 4) { normalise_units(x->unit + u, step, channels, y + u * UNIT, 4); u += 4; continue; }
#elif PER_UNIT == 2
    if (count - u >= 2) { normalise_units(x->unit + u, step, channels, y + u * UNIT, 4); u += 2; continue; }
#endif
    normalise_units(x->unit + u, step, channels, y + u * UNIT, PER_UNIT); u += 1;
  }
}

/* gram[i][j] += sum over the pixels of the tile of q[i][p] * k[j][p], for `count` queries (STRIDE apart) and `n` units of
   keys; `k` is transposed: [pixel][k_step]. */
ALWAYS void gram_panel(const float *q, int count, const float *k, ptrdiff_t k_step, int pixels, float *gram,
                       ptrdiff_t gram_step, const int n) {
  vf sum[PANEL][4];
#pragma GCC unroll 8
  for (int j = 0; j < PANEL; j++)
#pragma GCC unroll 8
    for (int i = 0; i < n * PER_UNIT; i++) sum[j][i] = splat(0);
  const float *row[PANEL]; /* rows past the last repeat it and are not stored */
#pragma GCC unroll 8
  for (int j = 0; j < PANEL; j++) row[j] = q + (j < count ? j : count - 1) * STRIDE;
  for (int p = 0; p < pixels; p++, k += k_step) {
    vf in[4];
#pragma GCC unroll 8
    for (int i = 0; i < n * PER_UNIT; i++) in[i] = load(k + i * LANES);
#pragma GCC unroll 8
    for (int j = 0; j < PANEL; j++)
#pragma GCC unroll 8
      for (int i = 0; i < n * PER_UNIT; i++) sum[j][i] += splat(row[j][p]) * in[i];
  }
#pragma GCC unroll 8
  for (int j = 0; j < PANEL; j++)
    if (j < count)
#pragma GCC unroll 8
      for (int i = 0; i < n * PER_UNIT; i++) {
        float *to = gram + j * gram_step + i * LANES;
        store(to, load(to) + sum[j][i]);
      }
}

static void add_gram(const float *q, int queries, const float *k, ptrdiff_t k_step, int keys, int pixels, float *gram,
                     ptrdiff_t gram_step) {
  for (int first = 0; first < keys;) {
    int left = (keys - first + UNIT - 1) / UNIT, n = left < DENSE_UNITS ? left : DENSE_UNITS;
    for (int i = 0; i < queries; i += PANEL) {
      const float *rows = q + i * STRIDE, *at = k + first;
      float *to = gram + i * gram_step + first;
      int count = queries - i < PANEL ? queries - i : PANEL;
#if DENSE_UNITS >= 4
      if (n == 4) gram_panel(rows, count, at, k_step, pixels, to, gram_step, 4);
      else if (n == 3) gram_panel(rows, count, at, k_step, pixels, to, gram_step, 3);
      else if (n == 2) gram_panel(rows, count, at, k_step, pixels, to, gram_step, 2);
      else
#endif
        gram_panel(rows, count, at, k_step, pixels, to, gram_step, 1);
    }
    first += n * UNIT;
  }
}

/* Turn `rows` (a multiple of 4) tile rows around into [pixel][step]. */
static void transpose(const float *x, int rows, int pixels, float *y, ptrdiff_t step) {
  for (int r = 0; r < rows; r += 4)
    for (int p = 0; p < pixels; p += 4) transpose4(x + r * STRIDE + p, STRIDE, y + p * step + r, step);
}

/* Add x[r][p]^2 over the tile's pixels to squares[r], UNIT partial sums each. */
static void add_squares(const float *x, int rows, int count, float *squares) {
  for (int r = 0; r < rows; r++)
    for (int i = 0; i < PER_UNIT; i++) {
      float *to = squares + r * UNIT + i * LANES;
      vf sum = load(to);
      for (int u = 0; u < count; u++) {
        vf v = load(x + r * STRIDE + u * UNIT + i * LANES);
        sum += v * v;
      }
      store(to, sum);
    }
}

#endif
