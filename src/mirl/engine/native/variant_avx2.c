/* The engine for one instruction set; mirl.c chooses. */
#if defined(__x86_64__)
#define MIRL_VECTOR_BYTES 32
#define VARIANT mirl_avx2
#define VARIANT_NAME "avx2"
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi,bmi2,prfchw"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,bmi,bmi2,prfchw")
#endif
#include "forward.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#else
typedef int nothing_here; /* C wants a declaration in every file */
#endif
