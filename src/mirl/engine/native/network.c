/* The list of tensors, in the order in which a ticket stores them. */
#include "network.h"

typedef struct {
  tensor_visitor visit;
  void *self;
  int stop;
} walk;

static void give(walk *w, const char *stage, int32_t block, const char *leaf, int32_t kind, int32_t a, int32_t b, int32_t c,
                 int32_t d, int32_t scale) {
  const int32_t shape[4] = {a, b, c, d};
  if (!w->stop) w->stop = w->visit(w->self, stage, block, leaf, kind, shape, scale);
}

static void conv(walk *w, const char *name, int32_t outputs, int32_t inputs, int32_t scale) {
  give(w, name, -1, "weight", MIRL_CONV, outputs, inputs, 3, 3, scale);
}

static void pointwise(walk *w, const char *name, int32_t outputs, int32_t inputs, int32_t scale) {
  give(w, name, -1, "weight", MIRL_POINTWISE, outputs, inputs, 0, 0, scale);
}

static void stage(walk *w, const mirl_network *n, const char *name, int index) {
  stage_shape s = stage_of(n, index);
  int32_t c = s.channels, hidden = hidden_width(n, c);
  for (int32_t i = 0; i < s.blocks && !w->stop; i++) {
    give(w, name, i, "norm1.weight", MIRL_NORM, c, 0, 0, 0, 0);
    give(w, name, i, "norm1.bias", MIRL_NORM, c, 0, 0, 0, 0);
    give(w, name, i, "attention.temperature", MIRL_TEMPERATURE, s.heads, 0, 0, 0, 0);
    give(w, name, i, "attention.qkv.weight", MIRL_POINTWISE, 3 * c, c, 0, 0, s.scale);
    give(w, name, i, "attention.qkv_depthwise.weight", MIRL_DEPTHWISE, 3 * c, 1, 3, 3, s.scale);
    give(w, name, i, "attention.project.weight", MIRL_POINTWISE, c, c, 0, 0, s.scale);
    give(w, name, i, "norm2.weight", MIRL_NORM, c, 0, 0, 0, 0);
    give(w, name, i, "norm2.bias", MIRL_NORM, c, 0, 0, 0, 0);
    give(w, name, i, "feed_forward.expand.weight", MIRL_POINTWISE, 2 * hidden, c, 0, 0, s.scale);
    give(w, name, i, "feed_forward.depthwise.weight", MIRL_DEPTHWISE, 2 * hidden, 1, 3, 3, s.scale);
    give(w, name, i, "feed_forward.project.weight", MIRL_POINTWISE, c, hidden, 0, 0, s.scale);
  }
}

int mirl_visit_tensors(const mirl_network *n, tensor_visitor visit, void *self) {
  static const char *const prompts[] = {"prompt1", "prompt2", "prompt3"}, *const mixes[] = {"mix1", "mix2", "mix3"};
  static const char *const convs[] = {"prompt1.conv", "prompt2.conv", "prompt3.conv"}, *const ups[] = {"up1", "up2", "up3"};
  static const char *const reduces[] = {"reduce1", "reduce2", "reduce3"}, *const fuses[] = {"", "fuse2", "fuse3"};
  static const char *const decoders[] = {"decoder1", "decoder2", "decoder3"};
  static const int mix_stages[] = {MIX1, MIX2, MIX3}, decoder_stages[] = {DECODER1, DECODER2, DECODER3};
  walk w = {visit, self, 0};
  int32_t width = n->width;
  conv(&w, "embed", width, 3, 1);
  stage(&w, n, "encoder1", ENCODER1);
  conv(&w, "down1", width / 2, width, 1);
  stage(&w, n, "encoder2", ENCODER2);
  conv(&w, "down2", width, 2 * width, 2);
  stage(&w, n, "encoder3", ENCODER3);
  conv(&w, "down3", 2 * width, 4 * width, 4);
  stage(&w, n, "latent", LATENT);
  for (int level = 3; level > 0; level--) {
    decoder_shape d = decoder_of(n, level);
    int i = level - 1;
    give(&w, prompts[i], -1, "values", MIRL_PROMPT, n->prompts, d.prompt_size, d.prompt_size, d.prompt_width, 0);
    give(&w, prompts[i], -1, "select.weight", MIRL_LINEAR, n->prompts, d.channels, 0, 0, 0);
    give(&w, prompts[i], -1, "select.bias", MIRL_BIAS, n->prompts, 0, 0, 0, 0);
    conv(&w, convs[i], d.prompt_width, d.prompt_width, d.scale);
    stage(&w, n, mixes[i], mix_stages[i]);
    pointwise(&w, reduces[i], d.reduced, d.channels + d.prompt_width, d.scale);
    conv(&w, ups[i], 2 * d.reduced, d.reduced, d.scale);
    if (d.fused) pointwise(&w, fuses[i], d.fused, d.reduced / 2 + d.fused, d.scale / 2);
    stage(&w, n, decoders[i], decoder_stages[i]);
  }
  stage(&w, n, "refinement", REFINEMENT);
  conv(&w, "output", 3, 2 * width, 1);
  return w.stop;
}

typedef struct {
  int32_t index, wanted, kind;
  char *name;
  int32_t *shape;
} search;

static char *append(char *at, const char *text) {
  while (*text) *at++ = *text++;
  return at;
}

static int found(void *self, const char *stage_name, int32_t block, const char *leaf, int32_t kind, const int32_t shape[4],
                 int32_t scale) {
  search *s = self;
  (void)scale;
  if (s->index++ != s->wanted) return 0;
  char digits[8], *at = append(s->name, stage_name);
  if (block >= 0) {
    int count = 0;
    do digits[count++] = (char)('0' + block % 10);
    while ((block /= 10) > 0);
    *at++ = '.';
    while (count) *at++ = digits[--count];
  }
  *at++ = '.';
  *append(at, leaf) = 0;
  for (int i = 0; i < 4; i++) s->shape[i] = shape[i];
  s->kind = kind;
  return 1;
}

int32_t mirl_tensor(const mirl_network *network, int32_t index, char *name, int32_t shape[4]) {
  search s = {0, index, MIRL_BAD_NETWORK, name, shape};
  if (network_is_valid(network)) mirl_visit_tensors(network, found, &s);
  return s.kind;
}

int32_t mirl_tensor_count(const mirl_network *network) {
  char name[MIRL_NAME];
  int32_t shape[4];
  search s = {0, -1, 0, name, shape};
  if (!network_is_valid(network)) return MIRL_BAD_NETWORK;
  mirl_visit_tensors(network, found, &s);
  return s.index;
}
