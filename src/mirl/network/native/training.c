/* The public functions: find the variant by its name, pass on. */
#define _GNU_SOURCE
#include "variants.h"
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define MOST 4

#if defined(__x86_64__)
/* Whether the processor multiplies bfloat16 tiles and the kernel lets this process use them (asked for once a process). */
static int has_amx(void) {
#if defined(__linux__)
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
  if (!(d >> 22 & 1) || !(d >> 24 & 1)) return 0; /* AMX-BF16, AMX-TILE */
  if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a >> 5 & 1)) return 0; /* AVX512-BF16 */
  const int ask = 0x1023, tile_data = 18;
  return syscall(SYS_arch_prctl, ask, tile_data) == 0;
#else
  return 0;
#endif
}
#endif

/* Fill `list` with what this processor runs; returns the number. */
static int available(const struct training_variant **list) {
  int count = 0;
#if defined(__x86_64__)
  __builtin_cpu_init();
  int wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
  if (wide) list[count++] = &mirl_training_avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) list[count++] = &mirl_training_avx2;
  if (wide && has_amx()) list[count++] = &mirl_training_amx;
#endif
  list[count++] = &mirl_training_baseline;
  return count;
}

static const struct training_variant *named(const char *name) {
  const struct training_variant *list[MOST];
  int count = available(list);
  for (int i = 0; i < count; i++)
    if (!strcmp(name, list[i]->name)) return list[i];
  return list[0]; /* the caller asks for names of mirl_training_variants alone */
}

const char *mirl_training_variants(void) {
  static char names[64];
  const struct training_variant *list[MOST];
  int count = available(list);
  names[0] = 0;
  for (int i = 0; i < count; i++) {
    if (i) strcat(names, ",");
    strcat(names, list[i]->name);
  }
  return names;
}

size_t mirl_feed_forward_forward(const mirl_feed_forward *j, const char *variant, void *scratch) {
  return named(variant)->feed_forward_forward(j, scratch);
}
size_t mirl_feed_forward_backward(const mirl_feed_forward *j, const char *variant, void *scratch) {
  return named(variant)->feed_forward_backward(j, scratch);
}
size_t mirl_attention_kept_bytes(const mirl_attention *j, const char *variant) { return named(variant)->attention_kept_bytes(j); }
size_t mirl_attention_forward(const mirl_attention *j, const char *variant, void *scratch) {
  return named(variant)->attention_forward(j, scratch);
}
size_t mirl_attention_backward(const mirl_attention *j, const char *variant, void *scratch) {
  return named(variant)->attention_backward(j, scratch);
}
size_t mirl_convolution_forward(const mirl_convolution *j, const char *variant, void *scratch) {
  return named(variant)->convolution_forward(j, scratch);
}
size_t mirl_convolution_backward(const mirl_convolution *j, const char *variant, void *scratch) {
  return named(variant)->convolution_backward(j, scratch);
}
