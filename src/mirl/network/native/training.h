/* Training kernels: the transformer block and the 3x3 convolutions of the network, forward and backward, on one thread.

   Features are float32 (images, height, width, channels), contiguous. A backward function overwrites every gradient it is
   given. Scratch memory is asked for by a call with `scratch` NULL, which returns the bytes and touches nothing else; with
   memory (aligned to 64 bytes) the return value is 0. */
#ifndef MIRL_TRAINING_H
#define MIRL_TRAINING_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
  int32_t images, height, width, channels, hidden;
  const float *x, *norm_weight, *norm_bias, *expand, *depthwise, *project; /* (2 hidden, channels), (2 hidden, 3, 3), (channels, hidden) */
  float *y;
  const float *grad_y;
  float *grad_x, *grad_norm_weight, *grad_norm_bias, *grad_expand, *grad_depthwise, *grad_project;
} mirl_feed_forward;

typedef struct {
  int32_t images, height, width, channels, heads;
  const float *x, *norm_weight, *norm_bias, *qkv, *depthwise, *temperature, *project; /* (3 channels, channels), (3 channels, 3, 3), ... */
  float *y;
  void *kept; /* what backward takes from forward: mirl_attention_kept_bytes, aligned to 64 bytes */
  const float *grad_y;
  float *grad_x, *grad_norm_weight, *grad_norm_bias, *grad_qkv, *grad_depthwise, *grad_temperature, *grad_project;
} mirl_attention;

typedef struct {
  int32_t images, height, width, inputs, outputs;
  const float *x, *weight; /* (outputs, inputs, 3, 3) */
  float *y;
  const float *grad_y;
  float *grad_x, *grad_weight; /* grad_x may be NULL */
} mirl_convolution;

/* Comma-separated names of the variants that this processor runs, fastest float32 first; "amx" multiplies bfloat16. */
const char *mirl_training_variants(void);

size_t mirl_feed_forward_forward(const mirl_feed_forward *job, const char *variant, void *scratch);
size_t mirl_feed_forward_backward(const mirl_feed_forward *job, const char *variant, void *scratch);
size_t mirl_attention_kept_bytes(const mirl_attention *job, const char *variant);
size_t mirl_attention_forward(const mirl_attention *job, const char *variant, void *scratch);
size_t mirl_attention_backward(const mirl_attention *job, const char *variant, void *scratch);
size_t mirl_convolution_forward(const mirl_convolution *job, const char *variant, void *scratch);
size_t mirl_convolution_backward(const mirl_convolution *job, const char *variant, void *scratch);

#endif
