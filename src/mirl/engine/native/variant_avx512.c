/* The engine for one instruction set; mirl.c chooses. */
#if defined(__x86_64__)
#define MIRL_VECTOR_BYTES 64
#define VARIANT mirl_avx512
#define VARIANT_NAME "avx512"
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx2,fma,bmi,bmi2,prfchw"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx2,fma,bmi,bmi2,prfchw,tune=icelake-server,prefer-vector-width=512")
#endif
#include "forward.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#else
typedef int nothing_here; /* C wants a declaration in every file */
#endif
