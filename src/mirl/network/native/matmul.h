/* Matrix products of pixels and weights: float32 in vector registers, or bfloat16 in AMX tiles.

   `mul`: C (pixels x N) = sum over segments of A_s (pixels x K) B_s (K x N), A in rows of `lda` elements, B packed.
   `outer`: W (M x K) += G^T X, G (pixels x M), X (pixels x K); with the sides made before, `outer_sides`.
   Operands are of type `element`; `operand` makes one from floats. Pixels of `mul` are rounded up to 16 (rows of C and A must
   be there), N to 16; a product may read A and X up to 32 columns beyond K, where B and the caller see to zeros. */
#ifndef MIRL_MATMUL_H
#define MIRL_MATMUL_H

#include "layout.h"

/* Element (k, n) of the matrix to pack is w[k * sk + n * sn] inside K x N. */
typedef struct {
  const float *w;
  ptrdiff_t sk, sn;
  int K, N;
} view;
ALWAYS float at(const view *v, int k, int n) { return k < v->K && n < v->N ? v->w[k * v->sk + n * v->sn] : 0; }

#ifdef MIRL_AMX
typedef uint16_t element;
#define K_UNIT 32
#else
typedef float element;
#define K_UNIT 1
#endif

#if MIRL_VECTOR_BYTES == 64
/* 16 x 16 words turned around. */
ALWAYS void turn16(const uint32_t *from, ptrdiff_t ld, uint32_t *to, ptrdiff_t ld_to) {
  __m512i r[16], t[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_si512(from + i * ld);
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]), t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 8)
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
      t[i + j] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0x88);
      t[i + j + 4] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0xdd);
    }
#pragma GCC unroll 8
  for (int j = 0; j < 8; j++) {
    _mm512_storeu_si512(to + j * ld_to, _mm512_shuffle_i32x4(t[j], t[j + 8], 0x88));
    _mm512_storeu_si512(to + (j + 8) * ld_to, _mm512_shuffle_i32x4(t[j], t[j + 8], 0xdd));
  }
}
#endif

/* Elements of a packed K x N matrix. */
ALWAYS size_t packed_size(int K, int N) { return (size_t)up(K, K_UNIT) * up(N, UNIT); }

#ifdef MIRL_AMX

typedef struct {
  uint8_t palette, start_row, reserved[14];
  uint16_t bytes[16];
  uint8_t rows[16];
} tile_config;

static void begin_products(void) {
  tile_config c = {.palette = 1};
  for (int i = 0; i < 8; i++) c.bytes[i] = 64, c.rows[i] = 16;
  _tile_loadconfig(&c);
}
static void end_products(void) { _tile_release(); }

ALWAYS element to_bf16(float x) {
  union { float f; uint32_t u; } v = {x};
  return (element)((v.u + 0x7fff + (v.u >> 16 & 1)) >> 16);
}

ALWAYS void store_pair(element *to, vf a, vf b) { _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a)); }

/* Floats as an operand in `to`, in rows of up(n, 32) and 32 zeros behind the last; n is a multiple of 16. */
static const element *operand(const float *from, int ld, int pixels, int n, element *to, int *ld_out) {
  int wide = up(n, 32);
  *ld_out = wide;
  for (int p = 0; p < pixels; p++) {
    const float *x = from + (size_t)p * ld;
    element *t = to + (size_t)p * wide;
    for (int c = 0; c < wide; c += 32) store_pair(t + c, load(x + c), c + 16 < n ? load(x + c + 16) : splat(0));
  }
  store_pair(to + (size_t)pixels * wide, splat(0), splat(0));
  return to;
}

ALWAYS void tiles(const int rows, const int columns, int segments, const element *const *A, int lda, ptrdiff_t skip, const element *B,
                  int depth, size_t per_column, float *C, int ldc) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int s = 0; s < segments; s++)
    for (int k = 0; k < depth; k++, B += 512) {
      const element *a = A[s] + skip + 32 * k;
      _tile_loadd(4, a, lda * 2);
      _tile_loadd(6, B, 64);
      _tile_dpbf16ps(0, 4, 6);
      if (columns > 1) {
        _tile_loadd(7, B + per_column, 64);
        _tile_dpbf16ps(1, 4, 7);
      }
      if (rows > 1) {
        _tile_loadd(5, a + 16 * (size_t)lda, lda * 2);
        _tile_dpbf16ps(2, 5, 6);
        if (columns > 1) _tile_dpbf16ps(3, 5, 7);
      }
    }
  _tile_stored(0, C, ldc * 4);
  if (columns > 1) _tile_stored(1, C + 16, ldc * 4);
  if (rows > 1) _tile_stored(2, C + 16 * (size_t)ldc, ldc * 4);
  if (rows > 1 && columns > 1) _tile_stored(3, C + 16 * (size_t)ldc + 16, ldc * 4);
}

/* With several segments each is packed by itself, (n / 16, segment, k / 32): pack_segments. */
static void mul_segments(int pixels, int N, int K, int segments, const element *const *A, int lda, const element *B, float *C, int ldc) {
  int depth = up(K, 32) / 32;
  size_t per_column = (size_t)depth * segments * 512;
  for (int n = 0; n < N; n += 32, B += 2 * per_column) {
    int columns = n + 16 < N ? 2 : 1;
    for (int p = 0; p < pixels; p += 32) {
      float *c = C + (size_t)p * ldc + n;
      ptrdiff_t skip = (ptrdiff_t)p * lda;
      if (p + 16 < pixels) {
        if (columns == 2) tiles(2, 2, segments, A, lda, skip, B, depth, per_column, c, ldc);
        else tiles(2, 1, segments, A, lda, skip, B, depth, per_column, c, ldc);
      } else {
        if (columns == 2) tiles(1, 2, segments, A, lda, skip, B, depth, per_column, c, ldc);
        else tiles(1, 1, segments, A, lda, skip, B, depth, per_column, c, ldc);
      }
    }
  }
}
/* A tile of 16 pairs of k by 16 n by 2, from k and n on. */
static void pack_tile(const view *v, int k, int n, element *to) {
  int whole = n + 16 <= v->N && k + 32 <= v->K;
  if (whole && v->sk == 1) { /* rows of k: pairs are words, turned around */
    element rows[16 * 32];
    for (int j = 0; j < 16; j++) {
      const float *w = v->w + (n + j) * v->sn + k;
      store_pair(rows + 32 * j, load(w), load(w + 16));
    }
    turn16((const uint32_t *)rows, 16, (uint32_t *)to, 16);
  } else if (whole && v->sn == 1) { /* rows of n: two rows, pair by pair */
    const __m512i pairs = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    for (int i = 0; i < 16; i++) {
      const float *w = v->w + (k + 2 * i) * v->sk + n;
      __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)load(w + v->sk), (__m512)load(w));
      _mm512_storeu_si512(to + 32 * i, _mm512_permutexvar_epi16(pairs, both));
    }
  } else {
    for (int i = 0; i < 16; i++)
      for (int j = 0; j < 16; j++)
        for (int h = 0; h < 2; h++) *to++ = to_bf16(at(v, k + 2 * i + h, n + j));
  }
}
static void pack_segments(const view *segment, int segments, ptrdiff_t between, element *to) {
  for (int n = 0; n < segment->N; n += 16)
    for (int s = 0; s < segments; s++) {
      view v = *segment;
      v.w += s * between;
      for (int k = 0; k < v.K; k += 32, to += 512) pack_tile(&v, k, n, to);
    }
}
static void pack(const view *v, element *to) { pack_segments(v, 1, 0, to); }

/* Pairs of rows p, p + 1 side by side: (pixels / 2, n, 2). `n` is rounded up to 32 columns. */
static void interleave(const element *x, int ld, int pixels, int n, element *to, int wide) {
  static const uint16_t low[32] = {0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7, 39, 8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
  __m512i l = _mm512_loadu_si512(low), h = _mm512_add_epi16(l, _mm512_set1_epi16(16));
  for (int p = 0; p < pixels; p += 2)
    for (int c = 0; c < n; c += 32) {
      __m512i a = _mm512_loadu_si512(x + (size_t)p * ld + c), b = _mm512_loadu_si512(x + (size_t)(p + 1) * ld + c);
      element *t = to + ((size_t)p / 2 * wide + c) * 2;
      _mm512_storeu_si512(t, _mm512_permutex2var_epi16(a, l, b));
      _mm512_storeu_si512(t + 32, _mm512_permutex2var_epi16(a, h, b));
    }
}

/* Both sides of `outer` as tiles want them: G turned around, (M, pixels); X pair of pixels by pair, (pixels / 2, K, 2). */
typedef const element *left;
typedef const element *right;
#define LEFT_BYTES(pixels, M) (2 * sizeof(element) * (size_t)(pixels) * up(M, 32))
#define RIGHT_BYTES(pixels, K) (sizeof(element) * (size_t)(pixels) * up(K, 32))

/* `pixels` is a multiple of 32; columns of G are read up to a multiple of 32. */
static left make_left(int pixels, int M, const element *G, int ld, element *memory) {
  int wide = up(M, 32);
  element *turned = memory + (size_t)pixels * wide;
  interleave(G, ld, pixels, wide, memory, wide);
  for (int p = 0; p < pixels / 2; p += 16)
    for (int m = 0; m < M; m += 16)
      turn16((const uint32_t *)memory + (size_t)p * wide + m, wide, (uint32_t *)turned + (size_t)m * (pixels / 2) + p, pixels / 2);
  return turned;
}
/* `pixels` is even; columns of X are read up to a multiple of 32. */
static right make_right(int pixels, int K, const element *X, int ld, element *memory) {
  interleave(X, ld, pixels, up(K, 32), memory, up(K, 32));
  return memory;
}
/* The right side from pixel `by` on, which is even. */
ALWAYS right shifted(right x, int by, int K) { return x + (size_t)by * up(K, 32); }

/* `pixels` is a multiple of 32, and those beyond the picture are zero on the left and numbers on the right. */
static void outer_sides(int pixels, int M, int K, left G, right X, float *W, int ldw) {
  int k32 = up(K, 32), mt = (M + 15) / 16, kt = (K + 15) / 16;
  for (int m = 0; m < mt; m += 2)
    for (int k = 0; k < kt; k += 2) {
      int two = m + 1 < mt, both = k + 1 < kt;
      float *c = W + (size_t)m * 16 * ldw + k * 16;
      _tile_loadd(0, c, ldw * 4);
      if (both) _tile_loadd(1, c + 16, ldw * 4);
      if (two) _tile_loadd(2, c + 16 * (size_t)ldw, ldw * 4);
      if (two && both) _tile_loadd(3, c + 16 * (size_t)ldw + 16, ldw * 4);
      for (int p = 0; p < pixels; p += 32) {
        const element *g = G + (size_t)m * 16 * pixels + p, *x = X + ((size_t)p / 2 * k32 + k * 16) * 2;
        _tile_loadd(4, g, pixels * 2);
        _tile_loadd(6, x, k32 * 4);
        _tile_dpbf16ps(0, 4, 6);
        if (both) {
          _tile_loadd(7, x + 32, k32 * 4);
          _tile_dpbf16ps(1, 4, 7);
        }
        if (two) {
          _tile_loadd(5, g + 16 * (size_t)pixels, pixels * 2);
          _tile_dpbf16ps(2, 5, 6);
          if (both) _tile_dpbf16ps(3, 5, 7);
        }
      }
      _tile_stored(0, c, ldw * 4);
      if (both) _tile_stored(1, c + 16, ldw * 4);
      if (two) _tile_stored(2, c + 16 * (size_t)ldw, ldw * 4);
      if (two && both) _tile_stored(3, c + 16 * (size_t)ldw + 16, ldw * 4);
    }
}

#else /* float32 */

static void begin_products(void) {}
static void end_products(void) {}

#if MIRL_VECTOR_BYTES == 64
#define ROWS 8
#define PANEL 48
#elif MIRL_VECTOR_BYTES == 32
#define ROWS 4
#define PANEL 16
#else
#define ROWS 2
#define PANEL 16
#endif

static const element *operand(const float *from, int ld, int pixels, int n, element *to, int *ld_out) {
  (void)pixels, (void)n, (void)to;
  *ld_out = ld;
  return from;
}

/* C (rows x columns vectors) = or (add) += sum over t of a[row * sj + t * st] * b[t * sb + ...]. */
ALWAYS void micro(const int rows, const int columns, int segments, const float *const *A, ptrdiff_t skip, int steps, ptrdiff_t sj,
                  ptrdiff_t st, const float *b, ptrdiff_t sb, float *c, int ldc, int add) {
  vf s[ROWS][PANEL / LANES];
#pragma GCC unroll 8
  for (int j = 0; j < rows; j++)
#pragma GCC unroll 4
    for (int v = 0; v < columns; v++) s[j][v] = add ? load(c + j * (ptrdiff_t)ldc + v * LANES) : splat(0);
  for (int i = 0; i < segments; i++) {
    const float *a = A[i] + skip;
    for (int t = 0; t < steps; t++, a += st, b += sb) {
      vf y[PANEL / LANES];
#pragma GCC unroll 4
      for (int v = 0; v < columns; v++) y[v] = load(b + v * LANES);
#pragma GCC unroll 8
      for (int j = 0; j < rows; j++) {
        vf w = splat(a[j * sj]);
#pragma GCC unroll 4
        for (int v = 0; v < columns; v++) s[j][v] += w * y[v];
      }
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < rows; j++)
#pragma GCC unroll 4
    for (int v = 0; v < columns; v++) store(c + j * (ptrdiff_t)ldc + v * LANES, s[j][v]);
}

/* Panels of PANEL columns, the last one narrower: (panel, segment, k, column). */
static void pack_segments(const view *segment, int segments, ptrdiff_t between, element *to) {
  for (int n = 0; n < segment->N; n += PANEL) {
    int wide = up(segment->N, UNIT) - n < PANEL ? up(segment->N, UNIT) - n : PANEL;
    for (int s = 0; s < segments; s++) {
      view v = *segment;
      v.w += s * between;
      if (n + wide <= v.N) {
        for (int k = 0; k < v.K; k += 16)
          for (int j = 0; j < wide; j++)
            for (int i = k; i < v.K && i < k + 16; i++) to[i * wide + j] = v.w[i * v.sk + (n + j) * v.sn];
      } else {
        for (int k = 0; k < v.K; k++)
          for (int j = 0; j < wide; j++) to[k * wide + j] = at(&v, k, n + j);
      }
      to += (size_t)v.K * wide;
    }
  }
}
static void pack(const view *v, element *to) { pack_segments(v, 1, 0, to); }

ALWAYS void panel(const int columns, int pixels, int K, int segments, const float *const *A, int lda, const float *B, float *C, int ldc) {
  for (int p = 0; p < pixels; p += ROWS)
    micro(ROWS, columns, segments, A, (ptrdiff_t)p * lda, K, lda, 1, B, columns * LANES, C + (size_t)p * ldc, ldc, 0);
}
static void mul_segments(int pixels, int N, int K, int segments, const element *const *A, int lda, const element *B, float *C, int ldc) {
  int most = up(N, UNIT);
  for (int n = 0; n < most; n += PANEL) {
    int wide = most - n < PANEL ? most - n : PANEL;
#if PANEL > 16
    if (wide == 48) panel(48 / LANES, pixels, K, segments, A, lda, B, C + n, ldc);
    else if (wide == 32) panel(32 / LANES, pixels, K, segments, A, lda, B, C + n, ldc);
    else
#endif
      panel(16 / LANES, pixels, K, segments, A, lda, B, C + n, ldc);
    B += (size_t)segments * K * wide;
  }
}

/* Both sides of `outer` are as they were: pixels in rows. */
typedef struct {
  const element *p;
  int ld;
} left, right;
#define LEFT_BYTES(pixels, M) ((void)(pixels), (void)(M), (size_t)0)
#define RIGHT_BYTES(pixels, K) ((void)(pixels), (void)(K), (size_t)0)
ALWAYS left make_left(int pixels, int M, const element *G, int ld, element *memory) {
  return (void)pixels, (void)M, (void)memory, (left){G, ld};
}
ALWAYS right make_right(int pixels, int K, const element *X, int ld, element *memory) {
  return (void)pixels, (void)K, (void)memory, (right){X, ld};
}
ALWAYS right shifted(right x, int by, int K) { return (void)K, (right){x.p + (ptrdiff_t)by * x.ld, x.ld}; }

static void outer_sides(int pixels, int M, int K, left G, right X, float *W, int ldw) {
  int most = up(K, UNIT);
  for (int k = 0; k < most; k += PANEL) {
#if PANEL > 16
    int wide = most - k < PANEL ? most - k : PANEL;
#endif
    for (int m = 0; m < M; m += ROWS) {
      const float *g = G.p + m;
      float *c = W + (size_t)m * ldw + k;
#if PANEL > 16
      if (wide == 48) micro(ROWS, 48 / LANES, 1, &g, 0, pixels, 1, G.ld, X.p + k, X.ld, c, ldw, 1);
      else if (wide == 32) micro(ROWS, 32 / LANES, 1, &g, 0, pixels, 1, G.ld, X.p + k, X.ld, c, ldw, 1);
      else
#endif
        micro(ROWS, 16 / LANES, 1, &g, 0, pixels, 1, G.ld, X.p + k, X.ld, c, ldw, 1);
    }
  }
}

#endif

static void mul(int pixels, int N, int K, const element *A, int lda, const element *B, float *C, int ldc) {
  mul_segments(up(pixels, 16), up(N, UNIT), K, 1, &A, lda, B, C, ldc);
}

/* Bytes that `outer` needs besides its operands. */
ALWAYS size_t outer_bytes(int pixels, int M, int K) { return LEFT_BYTES(up(pixels, 32), M) + RIGHT_BYTES(up(pixels, 32), K); }

/* Rows of pixels beyond `pixels`, up to a multiple of 32, must be zero in G and hold numbers in X. */
static void outer(int pixels, int M, int K, const element *G, int ldg, const element *X, int ldx, float *W, int ldw, void *scratch) {
  int wide = up(pixels, K_UNIT);
  element *side = (element *)((char *)scratch + LEFT_BYTES(wide, M));
  outer_sides(wide, M, K, make_left(wide, M, G, ldg, scratch), make_right(wide, K, X, ldx, side), W, ldw);
}

#endif
