/* What a variant offers. */
#ifndef MIRL_VARIANTS_H
#define MIRL_VARIANTS_H
#include "training.h"

struct training_variant {
  const char *name;
  size_t (*feed_forward_forward)(const mirl_feed_forward *, void *), (*feed_forward_backward)(const mirl_feed_forward *, void *);
  size_t (*attention_kept_bytes)(const mirl_attention *);
  size_t (*attention_forward)(const mirl_attention *, void *), (*attention_backward)(const mirl_attention *, void *);
  size_t (*convolution_forward)(const mirl_convolution *, void *), (*convolution_backward)(const mirl_convolution *, void *);
};

extern const struct training_variant mirl_training_baseline;
#if defined(__x86_64__)
extern const struct training_variant mirl_training_avx2, mirl_training_avx512, mirl_training_amx;
#endif
#endif
