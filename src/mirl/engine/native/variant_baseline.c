/* The engine for one instruction set; mirl.c chooses. */
#define MIRL_VECTOR_BYTES 16
#define VARIANT mirl_baseline
#define VARIANT_NAME "baseline"
#include "forward.h"
