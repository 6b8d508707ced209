/* Products with weights and their gradients; of matrices that are mostly zero, at what is not: tiles of 64 pixels are turned around, so that a
   weight meets a row of pixels. For float32; tiles of bfloat16 are faster than any zeros.

   A weight is taken for pruned when it is exactly zero. */
#ifndef MIRL_WEIGHTS_H
#define MIRL_WEIGHTS_H

#include "matmul.h"

#ifdef MIRL_AMX
#define SPARSEST 0 /* no density is low enough */
#else
#define SPARSEST 0.22f /* density up to which zeros pay */
#endif
#define LEAST_WEIGHTS 4096 /* of a matrix: below it the turning costs more than the zeros save */
#define TILE_PIXELS 64
#define TILE_LD (TILE_PIXELS + UNIT)

typedef struct {
  int rows, columns, used; /* `used`: this matrix goes by its non-zeros */
  int32_t *start, *column; /* of the entries of a row */
  float *value, *sums;     /* of an entry; of its gradient LANES partial sums */
} sparse;

typedef struct {
  float *in, *out; /* tiles of both sides */
} turned_tiles;

static turned_tiles make_tiles(arena *a, int most) {
  turned_tiles t = {FLOATS(a, (size_t)up(most, UNIT) * TILE_LD), FLOATS(a, (size_t)up(most, UNIT) * TILE_LD)};
  return t;
}

ALWAYS int may_be_sparse(int rows, int columns) { return SPARSEST > 0 && (size_t)rows * columns >= LEAST_WEIGHTS; }

static size_t most_entries(int rows, int columns) { return (size_t)(SPARSEST * rows * columns) + LANES; }

static sparse room(arena *a, int rows, int columns, int gradient) {
  sparse m = {.rows = rows, .columns = columns};
  size_t most = most_entries(rows, columns);
  m.start = take(a, sizeof(int32_t) * (rows + 1));
  m.column = take(a, sizeof(int32_t) * most);
  m.value = FLOATS(a, most);
  m.sums = gradient ? FLOATS(a, most * LANES) : NULL;
  return m;
}

static size_t count_entries(const float *w, size_t n) {
  size_t i = 0, count = 0;
  vi sum = {0};
  for (; i + LANES <= n; i += LANES) sum -= load(w + i) != splat(0);
  for (int k = 0; k < LANES; k++) count += (size_t)sum[k];
  for (; i < n; i++) count += w[i] != 0;
  return count;
}

/* The non-zeros of a matrix (rows, columns), if they are few; with `gradient` room for their gradients. */
static sparse make_sparse(arena *a, const float *w, int rows, int columns, int gradient) {
  if (!may_be_sparse(rows, columns)) return (sparse){.rows = rows, .columns = columns};
  sparse m = room(a, rows, columns, gradient);
  if (!a->base || count_entries(w, (size_t)rows * columns) > most_entries(rows, columns) - LANES) return m;
  int32_t count = 0;
  for (int r = 0; r < rows; r++) {
    m.start[r] = count;
    for (int k = 0; k < columns; k++) { /* without a branch: what is zero is written over */
      float x = w[(size_t)r * columns + k];
      m.column[count] = k;
      m.value[count] = x;
      count += x != 0;
    }
  }
  m.start[rows] = count;
  m.used = 1;
  if (gradient) memset(m.sums, 0, sizeof(float) * count * LANES);
  return m;
}

/* The matrix (columns, rows) of the same entries. */
static sparse transposed(arena *a, const sparse *m) {
  if (!may_be_sparse(m->rows, m->columns)) return (sparse){.rows = m->columns, .columns = m->rows};
  sparse t = room(a, m->columns, m->rows, 0);
  if (!m->used) return t;
  t.used = 1;
  memset(t.start, 0, sizeof(int32_t) * (t.rows + 1));
  for (int e = 0; e < m->start[m->rows]; e++) t.start[m->column[e] + 1]++;
  for (int r = 0; r < t.rows; r++) t.start[r + 1] += t.start[r];
  for (int r = 0; r < m->rows; r++)
    for (int e = m->start[r]; e < m->start[r + 1]; e++) {
      int32_t to = t.start[m->column[e]]++;
      t.column[to] = r;
      t.value[to] = m->value[e];
    }
  for (int r = t.rows; r > 0; r--) t.start[r] = t.start[r - 1];
  t.start[0] = 0;
  return t;
}

/* Rows x columns floats turned around; both are multiples of 16. */
static void turn(const float *from, int rows, int columns, int ld, float *to, int ld_to) {
#if MIRL_VECTOR_BYTES == 64
  for (int r = 0; r < rows; r += 16)
    for (int c = 0; c < columns; c += 16)
      turn16((const uint32_t *)from + (size_t)r * ld + c, ld, (uint32_t *)to + (size_t)c * ld_to + r, ld_to);
#else
  for (int r = 0; r < rows; r += 4)
    for (int c = 0; c < columns; c += 4) transpose4(from + (size_t)r * ld + c, ld, to + (size_t)c * ld_to + r, ld_to);
#endif
}

#if MIRL_VECTOR_BYTES == 64
#define CHAINS 2 /* sums of each vector beside each other: 8 in all, as many as two units with a latency of 4 keep busy */
#else
#define CHAINS 1
#endif
#define VECTORS (TILE_PIXELS / LANES)

ALWAYS void row_of_tile(const sparse *m, int row, const float *x, float *y) {
  vf s[CHAINS][VECTORS];
#pragma GCC unroll 16
  for (int i = 0; i < VECTORS; i++)
#pragma GCC unroll 2
    for (int c = 0; c < CHAINS; c++) s[c][i] = splat(0);
  int e = m->start[row], end = m->start[row + 1];
  for (; e + CHAINS <= end; e += CHAINS)
#pragma GCC unroll 2
    for (int c = 0; c < CHAINS; c++) {
      const float *p = x + (ptrdiff_t)m->column[e + c] * TILE_LD;
      vf w = splat(m->value[e + c]);
#pragma GCC unroll 16
      for (int i = 0; i < VECTORS; i++) s[c][i] += w * load(p + i * LANES);
    }
  for (; e < end; e++) {
    const float *p = x + (ptrdiff_t)m->column[e] * TILE_LD;
    vf w = splat(m->value[e]);
#pragma GCC unroll 16
    for (int i = 0; i < VECTORS; i++) s[0][i] += w * load(p + i * LANES);
  }
#pragma GCC unroll 16
  for (int i = 0; i < VECTORS; i++) {
    if (CHAINS > 1) s[0][i] += s[CHAINS - 1][i];
    store(y + i * LANES, s[0][i]);
  }
}

/* y (pixels x rows) = m x (pixels x columns), both channels last; pixels are rounded up to 16. */
static void sparse_mul(const sparse *m, const float *x, int ldx, int pixels, float *y, int ldy, const turned_tiles *t) {
  pixels = up(pixels, 16);
  for (int p = 0; p < pixels; p += TILE_PIXELS) {
    int n = pixels - p < TILE_PIXELS ? pixels - p : TILE_PIXELS;
    turn(x + (size_t)p * ldx, n, up(m->columns, UNIT), ldx, t->in, TILE_LD);
    for (int r = 0; r < m->rows; r++) row_of_tile(m, r, t->in, t->out + (size_t)r * TILE_LD);
    for (int r = m->rows; r < up(m->rows, UNIT); r++) memset(t->out + (size_t)r * TILE_LD, 0, sizeof(float) * n);
    turn(t->out, up(m->rows, UNIT), n, TILE_LD, y + (size_t)p * ldy, ldy);
  }
}

static void clear_behind(float *tile, int rows, int pixels) {
  for (int r = 0; r < rows; r++) memset(tile + (size_t)r * TILE_LD + pixels, 0, sizeof(float) * (TILE_PIXELS - pixels));
}

ALWAYS void gradients_of_row(const sparse *m, int row, const float *g, const float *x) {
  vf q[VECTORS];
#pragma GCC unroll 16
  for (int i = 0; i < VECTORS; i++) q[i] = load(g + (ptrdiff_t)row * TILE_LD + i * LANES);
  for (int e = m->start[row]; e < m->start[row + 1]; e++) {
    const float *p = x + (ptrdiff_t)m->column[e] * TILE_LD;
    float *sum = m->sums + (ptrdiff_t)e * LANES;
    vf s = load(sum), t = splat(0);
#pragma GCC unroll 16
    for (int i = 0; i < VECTORS; i++)
      if (i % 2) t += q[i] * load(p + i * LANES);
      else s += q[i] * load(p + i * LANES);
    store(sum, s + t);
  }
}

/* Gradients of the entries from g (pixels x rows) and x (pixels x columns): rows of pixels up to a multiple of 16 are there, and
   zero in g. */
static void sparse_gradient(const sparse *m, const float *g, int ldg, const float *x, int ldx, int pixels, const turned_tiles *t) {
  pixels = up(pixels, 16);
  for (int p = 0; p < pixels; p += TILE_PIXELS) {
    int n = pixels - p < TILE_PIXELS ? pixels - p : TILE_PIXELS;
    turn(g + (size_t)p * ldg, n, up(m->rows, UNIT), ldg, t->out, TILE_LD);
    turn(x + (size_t)p * ldx, n, up(m->columns, UNIT), ldx, t->in, TILE_LD);
    if (n < TILE_PIXELS) clear_behind(t->out, m->rows, n), clear_behind(t->in, m->columns, n);
    for (int r = 0; r < m->rows; r++) gradients_of_row(m, r, t->out, t->in);
  }
}

/* The gradients of the entries, if the matrix goes by them, in a matrix of rows of ld, zero so far. */
static void scatter(const sparse *m, float *to, int ld) {
  if (!m->used) return;
  for (int r = 0; r < m->rows; r++)
    for (int e = m->start[r]; e < m->start[r + 1]; e++) {
      vf s = load(m->sums + (ptrdiff_t)e * LANES);
      to[(size_t)r * ld + m->column[e]] += sum_lanes(s);
    }
}

/* Pixels by channels, as floats and as an operand. */
typedef struct {
  const float *x;
  int ld;
  const element *operand;
  int ld_operand;
} features;

/* `pixels` rows of `ld` floats, a multiple of 16, as both; `memory` is the operand's. */
static features make_features(const float *x, int ld, int pixels, element *memory) {
  features f = {.x = x, .ld = ld};
  f.operand = operand(x, ld, pixels, ld, memory, &f.ld_operand);
  return f;
}

/* A matrix (rows, columns) to multiply pixels with: by its entries where these are few, else packed. */
typedef struct {
  sparse entries;
  element *packed;
  turned_tiles tiles;
} weights;

static weights make_weights(arena *a, const float *w, const sparse *entries, const turned_tiles *tiles) {
  int rows = entries->rows, columns = entries->columns;
  weights m = {*entries, take(a, sizeof(element) * packed_size(columns, rows)), *tiles};
  view v = {w, 1, columns, columns, rows};
  if (a->base && !entries->used) pack(&v, m.packed);
  return m;
}

/* The same matrix transposed: (columns, rows). */
static weights make_transposed(arena *a, const float *w, const sparse *entries, const turned_tiles *tiles) {
  int rows = entries->rows, columns = entries->columns;
  weights m = {transposed(a, entries), take(a, sizeof(element) * packed_size(rows, columns)), *tiles};
  view v = {w, columns, 1, rows, columns};
  if (a->base && !entries->used) pack(&v, m.packed);
  return m;
}

/* y (pixels x rows) = m x; rows of pixels up to a multiple of 16 are there in both. */
static void multiply(const weights *m, const features *x, int pixels, float *y, int ldy) {
  if (m->entries.used) sparse_mul(&m->entries, x->x, x->ld, pixels, y, ldy, &m->tiles);
  else mul(pixels, m->entries.rows, m->entries.columns, x->operand, x->ld_operand, m->packed, y, ldy);
}

/* The gradient of a matrix from g (pixels x rows) and x (pixels x columns) added to W, or to the sums of its entries until
   `scatter`; rows of pixels as for `outer`. */
static void add_gradient(const sparse *m, const features *g, const features *x, int pixels, float *W, int ldw, const turned_tiles *t,
                         void *side) {
  if (m->used) sparse_gradient(m, g->x, g->ld, x->x, x->ld, pixels, t);
  else outer(pixels, m->rows, m->columns, g->operand, g->ld_operand, x->operand, x->ld_operand, W, ldw, side);
}

#endif
