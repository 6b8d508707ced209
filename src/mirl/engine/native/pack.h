/* From dense float32 tensors to a plan: which channels live, and what is left of every layer. */
#ifndef MIRL_PACK_H
#define MIRL_PACK_H

#include "guard.h"
#include "kernels.h"

#define DENSE_FROM 0.7f /* density from which panels beat sparse pairs of rows */
#define BLOCK_COLS 256 /* inputs of a block */
#define MOST_COLS 600  /* more than these are cut into blocks */
#ifdef __wasm__
#define PAIRS_FROM 2.0f /* never: with separate multiply and add, arithmetic sets the pace of single rows as well */
#else
#define PAIRS_FROM 0.2f /* density from which pairs beat single rows */
#endif

typedef struct {
  char *at, *end;
  int failed;
} arena;

static void *take(arena *a, size_t bytes) {
  if (guarded(bytes) > (size_t)(a->end - a->at)) {
    a->failed = 1;
    return 0;
  }
  char *p = a->at;
  forbid(p + bytes, guarded(bytes) - bytes);
  a->at += guarded(bytes);
  return p;
}

static int bound_tensor(void *self, const char *stage, int32_t block, const char *leaf, int32_t kind, const int32_t shape[4],
                        int32_t scale) {
  struct { const float *const *weights; size_t bytes; } *bound = self;
  const float *w = *bound->weights++;
  size_t size = 1, nonzero = 0, cols;
  (void)stage, (void)block, (void)leaf, (void)scale;
  for (int i = 0; i < 4; i++)
    if (shape[i]) size *= (size_t)shape[i];
  cols = size / (size_t)shape[0];
  for (size_t i = 0; i < size; i++) nonzero += w[i] != 0;
  bound->bytes += kind == MIRL_PROMPT || kind == MIRL_LINEAR ? 4 * size : 16 * nonzero;
  bound->bytes += (160 + 96 * (cols / BLOCK_COLS + 1)) * (size_t)shape[0] + 128 * cols + 1024 * (cols / BLOCK_COLS + 4);
  return 0;
}

static size_t plan_bytes(const mirl_network *network, const float *const *weights) {
  struct { const float *const *weights; size_t bytes; } bound = {weights, sizeof(plan) + 4096};
  if (!network_is_valid(network)) return 0;
  mirl_visit_tensors(network, bound_tensor, &bound);
  return bound.bytes;
}

/* What a linear map is built from: chosen rows and columns of a matrix with `step` floats to a row. Column k of the result is
   matrix column `col[k]`, and its input lies `offset[k]` floats into the tile; scale and shift (may be NULL) act on the
   columns of the matrix before it. */
typedef struct {
  const float *matrix;
  ptrdiff_t step;
  int32_t rows, cols;
  const int32_t *row, *col, *offset;
  const float *scale, *shift;
} source;

/* What the shift of the inputs adds to every row, in the order `row` (NULL: as they are). */
static const float *build_bias(arena *a, const source *s, const int32_t *row, int32_t count) {
  if (!s->shift) return 0;
  float *bias = take(a, sizeof(float) * (size_t)count);
  for (int32_t i = 0; bias && i < count; i++) {
    const float *w = s->matrix + s->row[row ? row[i] : i] * s->step;
    double sum = 0;
    for (int32_t k = 0; k < s->cols; k++) sum += (double)w[s->col[k]] * s->shift[s->col[k]];
    bias[i] = (float)sum;
  }
  return bias;
}

ALWAYS const float *source_row(const source *s, int32_t r) { return s->matrix + s->row[r] * s->step; }

/* Append entry k of row r if it is not zero. */
ALWAYS entry *put_entry(const source *s, int32_t r, int32_t k, entry *e) {
  float w = source_row(s, r)[s->col[k]];
  if (w != 0) *e++ = (entry){w * (s->scale ? s->scale[s->col[k]] : 1), s->offset[k] * 4};
  return e;
}

static void build_panels(arena *a, const source *s, linear *out) {
  size_t panels = (size_t)((s->rows + PANEL - 1) / PANEL);
  float *w = take(a, sizeof(float) * panels * PANEL * (size_t)s->cols);
  int32_t *offsets = take(a, sizeof(int32_t) * (size_t)s->cols);
  out->panels = w;
  out->offsets = offsets;
  out->bias = build_bias(a, s, 0, s->rows);
  if (a->failed) return;
  for (int32_t k = 0; k < s->cols; k++) offsets[k] = s->offset[k];
  for (size_t p = 0; p < panels; p++)
    for (int32_t k = 0; k < s->cols; k++)
      for (int32_t j = 0; j < PANEL; j++, w++) {
        int32_t r = (int32_t)p * PANEL + j;
        *w = r < s->rows ? source_row(s, r)[s->col[k]] * (s->scale ? s->scale[s->col[k]] : 1) : 0;
      }
}

/* Put the rows of a map in the order of their number of entries: `row` gets rows, `entries` the number in each row. */
static void order_rows(const source *s, int32_t *row, int32_t *entries) {
  int32_t done = 0;
  for (int32_t r = 0; r < s->rows; r++) {
    entries[r] = 0;
    for (int32_t k = 0; k < s->cols; k++) entries[r] += source_row(s, r)[s->col[k]] != 0;
  }
  for (int32_t length = 0; done < s->rows; length++)
    for (int32_t r = 0; r < s->rows; r++)
      if (entries[r] == length) row[done++] = r;
}

static void build_rows(arena *a, const source *s, const source *all, int64_t count, linear *out) {
  int32_t *row = take(a, sizeof(int32_t) * 2 * (size_t)s->rows), *entries = row + s->rows;
  run_of_rows *run = take(a, sizeof(run_of_rows) * ((size_t)s->rows + 1));
  entry *e = take(a, sizeof(entry) * (size_t)count);
  out->row = row;
  out->runs = run;
  out->entries = e;
  if (a->failed) return;
  order_rows(s, row, entries);
  for (int32_t i = 0; i < s->rows; i++) {
    if (i && entries[row[i]] == entries[row[i - 1]]) run[-1].rows++;
    else *run++ = (run_of_rows){1, entries[row[i]]};
    for (int32_t k = 0; k < s->cols; k++) e = put_entry(s, row[i], k, e);
  }
  run->rows = 0;
  if (s->shift) out->bias = build_bias(a, all, row, s->rows);
}

#include "pack_pairs.h"

static int64_t count_source(const source *s) {
  int64_t count = 0;
  for (int32_t r = 0; r < s->rows; r++)
    for (int32_t k = 0; k < s->cols; k++) count += source_row(s, r)[s->col[k]] != 0;
  return count;
}

/* Sparse rows or pairs of rows of one block of columns. All blocks walk equally many units at a time. */
static void build_block(arena *a, const source *s, const source *all, linear *out) {
  int64_t count = count_source(s);
  double density = (double)count / ((double)s->rows * s->cols + 1e-9);
  *out = (linear){.rows = s->rows, .cols = s->cols, .units = all->cols <= 60 || (density > PAIRS_FROM && all == s) ? 8 : 4};
  if (density > PAIRS_FROM) build_pairs(a, s, all, out);
  else build_rows(a, s, all, count, out);
}

static linear build(arena *a, const source *s, int64_t *nonzero) {
  linear out = {.rows = s->rows, .cols = s->cols};
  int64_t count = count_source(s);
  *nonzero += count;
  if ((double)count > DENSE_FROM * (double)s->rows * s->cols) {
    build_panels(a, s, &out);
    return out;
  }
  if (s->cols <= MOST_COLS) {
    build_block(a, s, s, &out);
    return out;
  }
  int32_t blocks = (s->cols + BLOCK_COLS - 1) / BLOCK_COLS;
  linear *rest = take(a, sizeof(linear) * (size_t)(blocks - 1));
  for (int32_t b = 0; rest && b < blocks; b++) {
    int32_t first = (int32_t)((int64_t)s->cols * b / blocks), end = (int32_t)((int64_t)s->cols * (b + 1) / blocks);
    source part = *s;
    part.cols = end - first;
    part.col += first;
    part.offset += first;
    linear *block = b ? &rest[b - 1] : &out;
    if (b) part.shift = 0; /* the first block's bias stands for all columns */
    build_block(a, &part, s, block);
    block->next = b + 1 < blocks ? &rest[b] : 0;
  }
  out.cols = s->cols; /* of all blocks: what is to be gathered */
  return out;
}

typedef struct {
  arena memory;
  plan *plan;
  const float *const *weights; /* the next tensor */
  int64_t total, kept;         /* weights that are not zero, in all and after compaction */
  double macs, attention, dense; /* multiply-accumulates for each pixel of the input */
  const int32_t *same;         /* 0, 1, 2, ... */
  const int32_t *tile;         /* offsets 0, STRIDE, 2 STRIDE, ... */
} packer;

static int64_t count_nonzero(const float *w, int64_t size) {
  int64_t count = 0;
  for (int64_t i = 0; i < size; i++) count += w[i] != 0;
  return count;
}

static void most(int32_t *largest, int32_t value) {
  if (value > *largest) *largest = value;
}

/* Note what a layer cost before and after. */
static void count_layer(packer *p, const float *w, int64_t size, int64_t kept, int32_t scale) {
  p->total += count_nonzero(w, size);
  p->kept += kept;
  p->macs += (double)kept / scale / scale;
  p->dense += (double)size / scale / scale;
}

/* A layer that is kept as it is: every row and column. */
static linear whole(packer *p, int32_t rows, int32_t cols, int32_t scale) {
  const float *w = *p->weights++;
  int64_t kept = 0;
  linear out = build(&p->memory, &(source){w, cols, rows, cols, p->same, p->same, p->tile, 0, 0}, &kept);
  count_layer(p, w, (int64_t)rows * cols, kept, scale);
  return out;
}

/* A 3x3 convolution on a tile that holds, for each of three rows, all channels (`conv_offset`). */
static linear conv3x3(packer *p, int32_t outputs, int32_t inputs, int32_t scale) {
  const float *w = *p->weights++;
  int32_t cols = 9 * inputs, *col = take(&p->memory, 8 * (size_t)cols), *offset = col + cols;
  int64_t kept = 0;
  if (!col) return (linear){0};
  for (int32_t y = 0, k = 0; y < 3; y++)
    for (int32_t c = 0; c < inputs; c++)
      for (int32_t x = 0; x < 3; x++, k++) {
        col[k] = c * 9 + y * 3 + x;
        offset[k] = (y * inputs + c) * STRIDE + x;
      }
  linear out = build(&p->memory, &(source){w, cols, outputs, cols, p->same, col, offset, 0, 0}, &kept);
  count_layer(p, w, (int64_t)outputs * cols, kept, scale);
  most(&p->plan->conv_inputs, inputs);
  most(&p->plan->conv_outputs, outputs);
  return out;
}

static int any(const float *w, int64_t count, int64_t step) {
  for (int64_t i = 0; i < count; i++)
    if (w[i * step] != 0) return 1;
  return 0;
}

static const filter *build_filters(packer *p, const float *w, const int32_t *channel, int32_t count, int64_t *kept) {
  filter *filters = take(&p->memory, sizeof(filter) * (size_t)count);
  for (int32_t i = 0; filters && i < count; i++) {
    filter f = {.count = 0};
    for (int8_t t = 0; t < 9; t++) {
      float tap = w[channel[i] * 9 + t];
      f.taps[t] = tap;
      if (tap == 0) continue;
      f.weight[f.count] = tap;
      f.row[f.count] = t / 3;
      f.shift[f.count++] = (int8_t)(t % 3 - 1);
    }
    *kept += f.count;
    filters[i] = f;
  }
  return filters;
}

#include "pack_block.h"

static void pack_stage(packer *p, int index) {
  stage_shape s = stage_of(&p->plan->network, index);
  block_plan *blocks = take(&p->memory, sizeof(block_plan) * (size_t)s.blocks);
  p->plan->stage[index] = (stage_plan){blocks, s.blocks, s.channels, s.scale};
  for (int32_t i = 0; blocks && i < s.blocks; i++) {
    blocks[i] = pack_block(p, &s);
    if (p->memory.failed) return;
  }
}

static void pack_decoder(packer *p, int level) {
  decoder_shape d = decoder_of(&p->plan->network, level);
  decoder_plan *out = &p->plan->decoder[level - 1];
  int32_t prompts = p->plan->network.prompts, size = d.prompt_size, width = d.prompt_width;
  const float *values = *p->weights++;
  float *turned = take(&p->memory, sizeof(float) * (size_t)prompts * (size_t)size * (size_t)size * (size_t)width);
  float *select = take(&p->memory, sizeof(float) * (size_t)prompts * ((size_t)d.channels + 1));
  if (p->memory.failed) return;
  for (int32_t i = 0; i < prompts; i++)
    for (int32_t c = 0; c < width; c++)
      for (int32_t y = 0; y < size; y++)
        for (int32_t x = 0; x < size; x++)
          turned[((i * (size_t)width + c) * size + y) * size + x] = values[((i * (size_t)size + y) * size + x) * width + c];
  const float *w = *p->weights++, *bias = *p->weights++;
  __builtin_memcpy(select, w, sizeof(float) * (size_t)prompts * (size_t)d.channels);
  __builtin_memcpy(select + prompts * (size_t)d.channels, bias, sizeof(float) * (size_t)prompts);
  out->shape = d;
  out->prompts = prompts;
  out->values = turned;
  out->select = select;
  out->bias = select + prompts * (size_t)d.channels;
  out->statistics = p->plan->statistics;
  p->plan->statistics += (size_t)d.channels;
  out->conv = conv3x3(p, width, width, d.scale);
  pack_stage(p, level == 3 ? MIX3 : level == 2 ? MIX2 : MIX1);
  out->reduce = whole(p, d.reduced, d.channels + width, d.scale);
  out->up = conv3x3(p, 2 * d.reduced, d.reduced, d.scale);
  if (d.fused) out->fuse = whole(p, d.fused, d.reduced / 2 + d.fused, d.scale / 2);
  pack_stage(p, level == 3 ? DECODER3 : level == 2 ? DECODER2 : DECODER1);
}

static int32_t pack(const mirl_network *network, const float *const *weights, void *memory, size_t bytes,
                    const struct variant *variant) {
  if (!network_is_valid(network)) return MIRL_BAD_NETWORK;
  if ((uintptr_t)memory % 64) return MIRL_BAD_MEMORY;
  allow(memory, bytes);
  packer p = {{memory, (char *)memory + bytes, 0}, 0, weights, 0, 0, 0, 0, 0, 0, 0};
  int32_t w = network->width, widest = 0;
  for (int s = 0; s < STAGES; s++) {
    most(&widest, 3 * stage_of(network, s).channels);
    most(&widest, 2 * hidden_width(network, stage_of(network, s).channels));
  }
  most(&widest, 16 * w); /* the outputs of the widest convolution */
  p.plan = take(&p.memory, sizeof(plan));
  int32_t *same = take(&p.memory, 8 * (size_t)widest);
  if (p.memory.failed) return MIRL_BAD_MEMORY;
  for (int32_t i = 0; i < widest; i++) {
    same[i] = i;
    same[widest + i] = i * STRIDE;
  }
  p.same = same;
  p.tile = same + widest;
  *p.plan = (plan){.variant = variant, .network = *network, .tile = p.tile};
  static const int encoders[] = {ENCODER1, ENCODER2, ENCODER3, LATENT};
  p.plan->embed = conv3x3(&p, w, 3, 1);
  for (int i = 0; i < 4; i++) {
    pack_stage(&p, encoders[i]);
    if (i < 3) p.plan->down[i] = conv3x3(&p, (w << i) / 2, w << i, 1 << i);
  }
  for (int level = 3; level > 0 && !p.memory.failed; level--) pack_decoder(&p, level);
  if (!p.memory.failed) pack_stage(&p, REFINEMENT);
  if (!p.memory.failed) p.plan->output = conv3x3(&p, 3, 2 * w, 1);
  if (p.memory.failed) return MIRL_BAD_MEMORY;
  p.plan->facts = (mirl_facts){p.total, p.total - p.kept, p.memory.at - (char *)memory, p.macs + p.attention, p.attention, p.dense};
  return 0;
}

#endif
