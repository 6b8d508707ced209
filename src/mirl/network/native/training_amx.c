/* Training kernels for amx. */
#if defined(__x86_64__)
#define MIRL_VECTOR_BYTES 64
#define MIRL_AMX
#define VARIANT mirl_training_amx
#define VARIANT_NAME "amx"
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx512bf16,amx-tile,amx-bf16,avx2,fma,bmi,bmi2,tune=sapphirerapids,prefer-vector-width=512")
#include "variant.h"
#else
typedef int nothing_here; /* C wants a declaration in every file */
#endif
