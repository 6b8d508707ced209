/* All kernels for one instruction set, under the name VARIANT; training.c chooses. */
#include "attention.h"
#include "convolution.h"
#include "feed_forward.h"
#include "variants.h"

const struct training_variant VARIANT = {
    VARIANT_NAME,          feed_forward_forward, feed_forward_backward, attention_kept_bytes,
    attention_forward,     attention_backward,   convolution_forward,   convolution_backward,
};
