/* Training kernels for avx2. */
#if defined(__x86_64__)
#define MIRL_VECTOR_BYTES 32
#define VARIANT mirl_training_avx2
#define VARIANT_NAME "avx2"
#pragma GCC target("avx2,fma,bmi,bmi2")
#include "variant.h"
#else
typedef int nothing_here; /* C wants a declaration in every file */
#endif
