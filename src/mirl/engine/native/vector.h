/* Vectors of the instruction set that this variant is compiled for, and the few primitives built on them.

   MIRL_VECTOR_BYTES is 64 (AVX-512), 32 (AVX2) or 16 (SSE, NEON, WebAssembly). Everything is laid out in units of 16 floats whatever
   the vector, so that plans differ between variants only in the height of dense panels. */
#ifndef MIRL_VECTOR_H
#define MIRL_VECTOR_H

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
#endif

#define ALWAYS static inline __attribute__((always_inline))
#define UNIT 16                       /* floats; 64 bytes, a cache line */
#define UNITS 8                       /* units of a tile */
#define TILE (UNITS * UNIT)           /* pixels of a tile */
#define STRIDE (TILE + UNIT)          /* floats between channels of a tile: an odd number of cache lines, so that channels spread
                                         over all sets of the cache */
#define LANES (MIRL_VECTOR_BYTES / 4) /* floats in a vector */
#define PER_UNIT (UNIT / LANES)       /* vectors in a unit */

typedef float vf __attribute__((vector_size(MIRL_VECTOR_BYTES)));
typedef float vf_any __attribute__((vector_size(MIRL_VECTOR_BYTES), aligned(4), may_alias));
typedef float v4 __attribute__((vector_size(16)));
typedef float v4_any __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t v4i __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(MIRL_VECTOR_BYTES)));

ALWAYS vf load(const float *p) { return *(const vf_any *)p; }
ALWAYS void store(float *p, vf x) { *(vf_any *)p = x; }
ALWAYS vf splat(float x) { return x - (vf){0}; }

/* The one place with intrinsics: GCC's C has no vector minimum, and makes four instructions of a comparison. */
#if defined(__x86_64__) && MIRL_VECTOR_BYTES == 64
ALWAYS vf smaller(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
ALWAYS vf larger(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
ALWAYS vf root(vf x) { return (vf)_mm512_sqrt_ps((__m512)x); }
#elif defined(__x86_64__) && MIRL_VECTOR_BYTES == 32
ALWAYS vf smaller(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
ALWAYS vf larger(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
ALWAYS vf root(vf x) { return (vf)_mm256_sqrt_ps((__m256)x); }
#elif defined(__x86_64__)
ALWAYS vf smaller(vf a, vf b) { return (vf)_mm_min_ps((__m128)a, (__m128)b); }
ALWAYS vf larger(vf a, vf b) { return (vf)_mm_max_ps((__m128)a, (__m128)b); }
ALWAYS vf root(vf x) { return (vf)_mm_sqrt_ps((__m128)x); }
#elif defined(__aarch64__)
ALWAYS vf smaller(vf a, vf b) { return (vf)vminq_f32((float32x4_t)a, (float32x4_t)b); }
ALWAYS vf larger(vf a, vf b) { return (vf)vmaxq_f32((float32x4_t)a, (float32x4_t)b); }
ALWAYS vf root(vf x) { return (vf)vsqrtq_f32((float32x4_t)x); }
#elif defined(__wasm_simd128__)
ALWAYS vf smaller(vf a, vf b) { return (vf)wasm_f32x4_pmin((v128_t)a, (v128_t)b); }
ALWAYS vf larger(vf a, vf b) { return (vf)wasm_f32x4_pmax((v128_t)a, (v128_t)b); }
ALWAYS vf root(vf x) { return (vf)wasm_f32x4_sqrt((v128_t)x); }
#else
ALWAYS vf smaller(vf a, vf b) { vi m = a < b; return (vf)((m & (vi)a) | (~m & (vi)b)); }
ALWAYS vf larger(vf a, vf b) { vi m = a > b; return (vf)((m & (vi)a) | (~m & (vi)b)); }
ALWAYS vf root(vf x) {
  for (int i = 0; i < LANES; i++) x[i] = __builtin_sqrtf(x[i]);
  return x;
}
#endif

#if MIRL_VECTOR_BYTES == 64
/* Lanes 0..15 of `order` come from a, 16..31 from b. */
#ifdef __clang__
#define two_vectors(a, b, order) ((vf)_mm512_permutex2var_ps((__m512)(a), (__m512i)(order), (__m512)(b)))
#else
#define two_vectors(a, b, order) __builtin_shuffle(a, b, order)
#endif
#endif

ALWAYS float sum_lanes(vf x) {
  float total = 0;
  for (int i = 0; i < LANES; i++) total += x[i];
  return total;
}

/* GELU, x times the normal distribution function: 1/2 + x q(x^2), q a least-squares fit of degree 13 on |x| <= 5.5 where the
   function is 1 to 2e-8. Largest error 1.6e-6. In place on `n` vectors in step: one by one they would wait for each other. */
ALWAYS void gelu(float *x, const int n) {
  static const float q[14] = {
      0.128551953f,    -0.0641719509f, 0.04773485f,    -0.0388049288f,  0.0321257302f,  -0.0259460072f, 0.0199610228f,
      -0.0153324614f,  0.0115947557f,  -0.0064158554f, 0.00228694403f,  -0.00236682857f, 0.00266919751f, -0.000977349728f};
  vf c[8], t[8], y[8];
#pragma GCC unroll 8
  for (int i = 0; i < n; i++) {
    c[i] = smaller(larger(load(x + i * LANES), splat(-5.5f)), splat(5.5f));
    t[i] = c[i] * c[i] * splat(2 / 30.25f) - splat(1);
    y[i] = splat(q[13]);
  }
#pragma GCC unroll 16
  for (int k = 12; k >= 0; k--)
#pragma GCC unroll 8
    for (int i = 0; i < n; i++) y[i] = y[i] * t[i] + splat(q[k]);
#pragma GCC unroll 8
  for (int i = 0; i < n; i++) store(x + i * LANES, load(x + i * LANES) * (c[i] * y[i] + splat(0.5f)));
}

/* Turn 4x4 floats around: 4 rows of `in` become 4 columns of `out`. */
ALWAYS void transpose4(const float *in, ptrdiff_t in_stride, float *out, ptrdiff_t out_stride) {
  v4 a = *(const v4_any *)in, b = *(const v4_any *)(in + in_stride);
  v4 c = *(const v4_any *)(in + 2 * in_stride), d = *(const v4_any *)(in + 3 * in_stride);
#ifdef __clang__
  v4 ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), AB = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  v4 cd = __builtin_shufflevector(c, d, 0, 4, 1, 5), CD = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  *(v4_any *)out = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
  *(v4_any *)(out + out_stride) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
  *(v4_any *)(out + 2 * out_stride) = __builtin_shufflevector(AB, CD, 0, 1, 4, 5);
  *(v4_any *)(out + 3 * out_stride) = __builtin_shufflevector(AB, CD, 2, 3, 6, 7);
#else
  v4 ab = __builtin_shuffle(a, b, (v4i){0, 4, 1, 5}), AB = __builtin_shuffle(a, b, (v4i){2, 6, 3, 7});
  v4 cd = __builtin_shuffle(c, d, (v4i){0, 4, 1, 5}), CD = __builtin_shuffle(c, d, (v4i){2, 6, 3, 7});
  *(v4_any *)out = __builtin_shuffle(ab, cd, (v4i){0, 1, 4, 5});
  *(v4_any *)(out + out_stride) = __builtin_shuffle(ab, cd, (v4i){2, 3, 6, 7});
  *(v4_any *)(out + 2 * out_stride) = __builtin_shuffle(AB, CD, (v4i){0, 1, 4, 5});
  *(v4_any *)(out + 3 * out_stride) = __builtin_shuffle(AB, CD, (v4i){2, 3, 6, 7});
#endif
}

/* exp of x <= 0 in double precision, to about 1e-9; below -80 it is 0. */
ALWAYS float exponential(float value) {
  if (!(value > -80)) return value == value ? 0 : value;
  double x = value, scaled = x * 1.4426950408889634;
  int32_t n = (int32_t)(scaled - 0.5);
  double r = x - n * 0.6931471805599453, y = 1;
  for (int i = 10; i > 0; i--) y = 1 + y * r / i;
  union { uint64_t bits; double value; } power = {(uint64_t)(1023 + n) << 52};
  return (float)(y * power.value);
}

#endif
