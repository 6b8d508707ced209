/* MIR-L sparse engine: the whole network of a ticket in one C library, for CPUs and (the same source) for WebAssembly.

   Plain C, no allocation, no global state but the chosen instruction set: the caller hands in all memory.
   - a network description says which tensors there are (mirl_tensor_count, mirl_tensor);
   - mirl_pack turns their float32 values into a plan: channels that cannot reach the output are dropped (exactly, no
     convolution has a bias), what is left becomes sparse rows, or dense panels where it is dense;
   - mirl_forward restores one image of any size with a plan and scratch memory.
   A plan holds pointers into itself: it must not be moved. Plans and scratch may be shared by nothing but the plan by
   any number of forward calls at a time, each with scratch of its own. */
#ifndef MIRL_H
#define MIRL_H

#include <stddef.h>
#include <stdint.h>

#define MIRL_NAME 64 /* bytes of a tensor's name with its final zero */

enum mirl_kind { /* as mirl.layers.Kind, in its order */
  MIRL_CONV, MIRL_POINTWISE, MIRL_DEPTHWISE, MIRL_LINEAR, MIRL_PROMPT, MIRL_NORM, MIRL_BIAS, MIRL_TEMPERATURE
};

enum mirl_error {
  MIRL_BAD_NETWORK = -1, /* sizes out of range, odd width or heads that do not divide */
  MIRL_BAD_SIZE = -2,    /* image sides below 1 or too large to address, threads outside 1..MIRL_THREADS */
  MIRL_BAD_MEMORY = -3   /* plan or scratch is smaller than asked for or not aligned to 64 bytes */
};

#define MIRL_THREADS 64 /* at most so many in one forward */

/* The shape of a network; fields as in mirl.recipe.NetworkConfig. A double and 18 int32 without padding. */
typedef struct {
  double expansion;
  int32_t width, blocks[4], refinement_blocks, heads[4], prompts, prompt_widths[3], prompt_sizes[3], reserved;
} mirl_network;

/* How mirl_forward treats what the network sums over a whole image (q kT, lengths of q and k, mean features). */
enum mirl_statistics {
  MIRL_OWN = 0, /* uses the image's own */
  MIRL_SUM = 1, /* uses the image's own and adds them to `statistics` */
  MIRL_USE = 2  /* uses those in `statistics`, sums over `images` tiles of one size */
};

/* What a plan holds; counts are of weights (not bytes) unless said otherwise. */
typedef struct {
  int64_t nonzero;         /* weights of convolutions and linear maps that are not zero */
  int64_t removed;         /* of them, those dropped with dead channels */
  int64_t plan_bytes;      /* memory of the plan that is in use */
  double macs_per_pixel;   /* multiply-accumulates done for each pixel of a large image, attention included */
  double attention_macs_per_pixel; /* of them, those of q kT and of mixing with the attention matrix */
  double dense_macs_per_pixel;     /* what a dense runtime does */
} mirl_facts;

/* Number of tensors, or MIRL_BAD_NETWORK. */
int32_t mirl_tensor_count(const mirl_network *network);

/* Name (such as encoder1.0.attention.qkv.weight), shape (unused axes 0) and kind of tensor `index`, in the order in which
   they are stored in a ticket; returns the kind or MIRL_BAD_NETWORK. */
int32_t mirl_tensor(const mirl_network *network, int32_t index, char *name, int32_t shape[4]);

/* Bytes to hand to mirl_pack (an upper bound; untouched pages cost nothing), 0 for a bad network. `weights[i]` points to
   the float32 values of tensor i. */
size_t mirl_plan_bytes(const mirl_network *network, const float *const *weights);

/* Build the plan in `plan` (64-byte aligned). Returns 0 or an error. */
int32_t mirl_pack(const mirl_network *network, const float *const *weights, void *plan, size_t bytes);

void mirl_describe(const void *plan, mirl_facts *facts);

/* Bytes of scratch memory for an image, 0 when it cannot be addressed. */
size_t mirl_scratch_bytes(const void *plan, int32_t height, int32_t width, int32_t threads);

/* Number of floats in `statistics`. */
size_t mirl_statistics_size(const void *plan);

/* Restore `image`, (height, width, 3) RGB in [0, 1], into `out` of the same shape, not clipped. `statistics` may be NULL with
   MIRL_OWN; `images` counts only with MIRL_USE. The result does not depend on `threads`. Returns 0 or an error. */
int32_t mirl_forward(const void *plan, const float *image, float *out, int32_t height, int32_t width, int32_t threads,
                     void *scratch, size_t scratch_bytes, float *statistics, int32_t mode, int32_t images);

/* Instruction sets compiled in that this processor runs, fastest first, separated by commas. */
const char *mirl_variants(void);

/* Choose one of them by name for plans made from now on; 0, or -1 for an unknown name. The fastest is chosen at first. */
int32_t mirl_choose(const char *variant);

#endif
