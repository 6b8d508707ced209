/* The public functions: check what comes in, choose the instruction set, pass on. */
#include "plan.h"

extern const struct variant mirl_baseline;
#if defined(__x86_64__)
extern const struct variant mirl_avx512, mirl_avx2;
#endif

#define MOST 3

/* Fill `list` with what this processor runs, fastest first; returns the number. */
static int available(const struct variant **list) {
  int count = 0;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma"))
    list[count++] = &mirl_avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) list[count++] = &mirl_avx2;
#endif
  list[count++] = &mirl_baseline;
  return count;
}

static const struct variant *chosen; /* NULL: the fastest */

static const struct variant *current(void) {
  const struct variant *list[MOST];
  if (chosen) return chosen;
  available(list);
  return list[0];
}

static int same(const char *a, const char *b) {
  while (*a && *a == *b) a++, b++;
  return *a == *b;
}

const char *mirl_variants(void) {
  static char names[64];
  const struct variant *list[MOST];
  char *to = names;
  int count = available(list);
  for (int i = 0; i < count; i++) {
    if (i) *to++ = ',';
    for (const char *from = list[i]->name; *from;) *to++ = *from++;
  }
  *to = 0;
  return names;
}

int32_t mirl_choose(const char *variant) {
  const struct variant *list[MOST];
  int count = available(list);
  for (int i = 0; i < count; i++)
    if (same(variant, list[i]->name)) {
      chosen = list[i];
      return 0;
    }
  return -1;
}

size_t mirl_plan_bytes(const mirl_network *network, const float *const *weights) { return current()->plan_bytes(network, weights); }

int32_t mirl_pack(const mirl_network *network, const float *const *weights, void *memory, size_t bytes) {
  return current()->pack(network, weights, memory, bytes, current());
}

void mirl_describe(const void *memory, mirl_facts *facts) { *facts = ((const plan *)memory)->facts; }

size_t mirl_statistics_size(const void *memory) { return ((const plan *)memory)->statistics; }

/* Largest side of an image: offsets within a map stay far below the range of 64 bits, and counts of rows below 32 bits. */
#define LARGEST_SIDE (1 << 20)

size_t mirl_scratch_bytes(const void *memory, int32_t height, int32_t width, int32_t threads) {
  const plan *p = memory;
  if (height < 1 || width < 1 || threads < 1 || threads > MIRL_THREADS || height > LARGEST_SIDE || width > LARGEST_SIDE) return 0;
  return p->variant->scratch_bytes(p, height, width, threads);
}

int32_t mirl_forward(const void *memory, const float *image, float *out, int32_t height, int32_t width, int32_t threads,
                     void *scratch, size_t scratch_bytes, float *statistics, int32_t mode, int32_t images) {
  const plan *p = memory;
  if (!mirl_scratch_bytes(p, height, width, threads)) return MIRL_BAD_SIZE;
  return p->variant->forward(p, image, out, height, width, threads, scratch, scratch_bytes, statistics, mode, images);
}
