/* The network as a list of stages and tensors; the C twin of mirl/layers.py, held equal to it by a test.

   Architecture: PromptIR (arXiv 2306.13090, figure 2) on the blocks of Restormer (arXiv 2111.09881, section 3). */
#ifndef MIRL_NETWORK_H
#define MIRL_NETWORK_H

#include "mirl.h"

enum stage_name { ENCODER1, ENCODER2, ENCODER3, LATENT, MIX3, DECODER3, MIX2, DECODER2, MIX1, DECODER1, REFINEMENT, STAGES };

typedef struct {
  int32_t channels, heads, blocks, scale;
} stage_shape;

static inline stage_shape stage_of(const mirl_network *n, int stage) {
  int32_t w = n->width;
  const int32_t *p = n->prompt_widths, *h = n->heads, *b = n->blocks;
  switch (stage) {
    case ENCODER1: return (stage_shape){w, h[0], b[0], 1};
    case ENCODER2: return (stage_shape){2 * w, h[1], b[1], 2};
    case ENCODER3: return (stage_shape){4 * w, h[2], b[2], 4};
    case LATENT: return (stage_shape){8 * w, h[3], b[3], 8};
    case MIX3: return (stage_shape){8 * w + p[2], h[2], 1, 8};
    case DECODER3: return (stage_shape){4 * w, h[2], b[2], 4};
    case MIX2: return (stage_shape){4 * w + p[1], h[2], 1, 4};
    case DECODER2: return (stage_shape){2 * w, h[1], b[1], 2};
    case MIX1: return (stage_shape){2 * w + p[0], h[2], 1, 2};
    case DECODER1: return (stage_shape){2 * w, h[0], b[0], 1};
    default: return (stage_shape){2 * w, h[0], n->refinement_blocks, 1};
  }
}

static inline int32_t hidden_width(const mirl_network *n, int32_t channels) { return (int32_t)(channels * n->expansion); }

/* The decoder's three levels, from 1/8 to 1/2 resolution: channels that meet the prompt and channels after `reduce`. */
typedef struct {
  int32_t level, channels, reduced, scale, prompt_width, prompt_size, fused; /* fused: outputs of the fuse after it, 0: none */
} decoder_shape;

static inline decoder_shape decoder_of(const mirl_network *n, int level) {
  int32_t w = n->width, width = n->prompt_widths[level - 1], size = n->prompt_sizes[level - 1];
  switch (level) {
    case 3: return (decoder_shape){3, 8 * w, 4 * w, 8, width, size, 4 * w};
    case 2: return (decoder_shape){2, 4 * w, 4 * w, 4, width, size, 2 * w};
    default: return (decoder_shape){1, 2 * w, 2 * w, 2, width, size, 0};
  }
}

static inline int network_is_valid(const mirl_network *n) {
  if (!n || n->width < 2 || n->width > 4096 || n->width % 2) return 0;
  if (!(n->expansion >= 0.5 && n->expansion <= 16)) return 0;
  if (n->refinement_blocks < 1 || n->refinement_blocks > 4096 || n->prompts < 1 || n->prompts > 4096) return 0;
  for (int i = 0; i < 4; i++)
    if (n->blocks[i] < 1 || n->blocks[i] > 4096 || n->heads[i] < 1 || n->heads[i] > 4096) return 0;
  for (int i = 0; i < 3; i++)
    if (n->prompt_widths[i] < 1 || n->prompt_widths[i] > 4096 || n->prompt_sizes[i] < 1 || n->prompt_sizes[i] > 512) return 0;
  for (int s = 0; s < STAGES; s++)
    if (stage_of(n, s).channels % stage_of(n, s).heads) return 0;
  return 1;
}

/* Receives one tensor: prefix ("encoder1.0.attention.qkv"), leaf ("weight"), kind, shape (unused axes 0), uses per pixel
   as 1/scale^2, or 0 for what is computed once an image. Returns non-zero to stop. */
typedef int (*tensor_visitor)(void *self, const char *stage, int32_t block, const char *leaf, int32_t kind,
                              const int32_t shape[4], int32_t scale);

int mirl_visit_tensors(const mirl_network *n, tensor_visitor visit, void *self);

#endif
