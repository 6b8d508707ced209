/* Training kernels for processors without AVX2. */
#define MIRL_VECTOR_BYTES 16
#define VARIANT mirl_training_baseline
#define VARIANT_NAME "baseline"
#include "variant.h"
