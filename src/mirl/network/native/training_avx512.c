/* Training kernels for avx512. */
#if defined(__x86_64__)
#define MIRL_VECTOR_BYTES 64
#define VARIANT mirl_training_avx512
#define VARIANT_NAME "avx512"
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx2,fma,bmi,bmi2,tune=icelake-server,prefer-vector-width=512")
#include "variant.h"
#else
typedef int nothing_here; /* C wants a declaration in every file */
#endif
