/* One forward: threads, feature maps and scratch memory, all laid out before any work. */
#ifndef MIRL_JOB_H
#define MIRL_JOB_H

#include "guard.h"
#include "kernels.h"
#include "threads.h"

#define SCALE 8              /* the encoder halves the resolution three times */
#define BANDS 16             /* rows are summed in so many bands at most, whatever the number of threads: equal sums */
#define WINDOW_BYTES 1200000 /* of rolling rows that stay in the second-level cache */
#define SLACK 64             /* floats past a map that a unit may read */

/* A feature map: channel c of row y begins at data + y * row + c * step. */
typedef struct {
  float *data;
  ptrdiff_t row, step;
  int32_t height, width;
} map;

/* Memory of one thread. */
typedef struct {
  float *window, *tile, *normal, *hidden, *turned, *row;
  linear *mix;
} workspace;

typedef struct {
  const plan *plan;
  const float *image;
  float *out, *statistics;
  int32_t height, width, mode, images, threads; /* height and width of the image */
  map input, full, half, quarter, eighth;       /* the image; features that meet again in the decoder */
  map half_decoder, quarter_decoder;
  float *spare, *values;                        /* temporary maps */
  float *gram, *squares, *attention, *panels, *means, *prompt;
  workspace *work;
  barrier barrier;
} job;

typedef struct {
  job *job;
  workspace *work;
  int32_t index;
} worker;

static inline map map_at(float *data, int32_t channels, int32_t height, int32_t width) {
  ptrdiff_t units = (width + UNIT - 1) / UNIT;
  ptrdiff_t step = (units | 1) * UNIT; /* an odd number of cache lines */
  return (map){data, step * channels, step, height, width};
}

static inline size_t map_floats(int32_t channels, int32_t height, int32_t width) {
  map m = map_at(0, channels, height, width);
  return (size_t)m.row * (size_t)height + SLACK;
}

static inline map from_channel(map m, int32_t channel) {
  m.data += m.step * channel;
  return m;
}

static inline float *at(const map *m, int32_t y, int32_t x) { return m->data + y * m->row + x; }

static inline int32_t band_count(int32_t height) { return height / 4 < 1 ? 1 : height / 4 > BANDS ? BANDS : height / 4; }

/* Split 0..count into parts; part i begins here. */
static inline int32_t part(int32_t count, int32_t i, int32_t parts) { return (int32_t)((int64_t)count * i / parts); }

/* How a map is swept with a rolling window of `channels`: `rows` at a time, in strips of `strip` columns. */
typedef struct {
  int32_t rows, strip, slots;
  ptrdiff_t step; /* floats between channels of the window */
  size_t floats;
} sweep_shape;

static inline sweep_shape shape_sweep(int32_t channels, int32_t width) {
  sweep_shape s;
  int32_t units = (width + UNIT - 1) / UNIT;
  s.rows = units >= UNITS ? 1 : UNITS / units;
  s.slots = s.rows + 2;
  int64_t most = WINDOW_BYTES / 4 / (channels > 0 ? channels : 1) / s.slots / UNIT;
  if (most < 6) most = 6;
  int32_t strips = (int32_t)((units + most - 1) / most);
  s.strip = (units + strips - 1) / strips * UNIT;
  s.step = ((s.strip / UNIT + 2) | 1) * UNIT;
  s.floats = (size_t)s.step * (size_t)channels * (size_t)s.slots + SLACK;
  return s;
}

typedef struct {
  char *base;
  size_t used;
} layout;

static inline float *reserve(layout *l, size_t floats) {
  float *p = l->base ? (float *)(l->base + l->used) : 0;
  if (p) forbid(p + floats, guarded(floats * 4) - floats * 4);
  l->used += guarded(floats * 4);
  return p;
}

static inline void at_least(size_t *largest, size_t value) {
  if (value > *largest) *largest = value;
}

/* Lay out all memory of a forward at `base` (NULL: only count) and return its bytes. */
static size_t lay_out(job *j, const plan *p, int32_t height, int32_t width, int32_t threads, char *base) {
  const mirl_network *n = &p->network;
  layout l = {base, 0};
  int32_t w = n->width, h0 = (height + SCALE - 1) / SCALE * SCALE, w0 = (width + SCALE - 1) / SCALE * SCALE;
  const int32_t *prompt = n->prompt_widths;
  j->input = map_at(reserve(&l, map_floats(3, h0, w0)), 3, h0, w0);
  j->full = map_at(reserve(&l, map_floats(2 * w, h0, w0)), 2 * w, h0, w0);
  j->half = map_at(reserve(&l, map_floats(4 * w, h0 / 2, w0 / 2)), 4 * w, h0 / 2, w0 / 2);
  j->quarter = map_at(reserve(&l, map_floats(6 * w, h0 / 4, w0 / 4)), 6 * w, h0 / 4, w0 / 4);
  j->eighth = map_at(reserve(&l, map_floats(8 * w + prompt[2], h0 / 8, w0 / 8)), 8 * w + prompt[2], h0 / 8, w0 / 8);
  j->half_decoder = map_at(reserve(&l, map_floats(2 * w + prompt[0], h0 / 2, w0 / 2)), 2 * w + prompt[0], h0 / 2, w0 / 2);
  j->quarter_decoder = map_at(reserve(&l, map_floats(4 * w + prompt[1], h0 / 4, w0 / 4)), 4 * w + prompt[1], h0 / 4, w0 / 4);

  size_t spare = 0, values = 0, window = 0, gram = 0, squares = 0, attention = 0, panels = 0, means = 0, mixed = 0, heads = 1;
  for (int s = 0; s < STAGES; s++) {
    const stage_plan *stage = &p->stage[s];
    int32_t sh = h0 / stage->scale, sw = w0 / stage->scale, bands = band_count(sh);
    at_least(&spare, map_floats(stage->channels, sh, sw));
    for (int32_t i = 0; i < stage->count; i++) {
      const attention_plan *a = &stage->blocks[i].attention;
      int32_t pairs = stage->blocks[i].feed_forward.pairs;
      size_t mix = 0, rows = 0;
      at_least(&heads, (size_t)a->heads);
      for (int32_t h = 0; h < a->heads; h++) {
        size_t outputs = (size_t)a->head[h].outputs, per_head = (size_t)a->head[h].values;
        mix += outputs * per_head;
        rows += (outputs + PANEL) * per_head;
      }
      at_least(&values, map_floats(a->values, sh, sw));
      at_least(&window, shape_sweep(a->qkv.rows, sw).floats);
      at_least(&window, shape_sweep(stage->channels + 2 * pairs, sw).floats);
      at_least(&gram, (size_t)a->gram_size * (size_t)bands);
      at_least(&squares, (size_t)(a->queries + a->key_rows) * UNIT * (size_t)bands);
      at_least(&attention, mix);
      at_least(&panels, a->fold ? (size_t)(stage->channels + PANEL) * (size_t)a->values : rows);
    }
  }
  for (int i = 0; i < 3; i++) {
    const decoder_shape *d = &p->decoder[i].shape;
    at_least(&values, map_floats(d->prompt_width, h0 / d->scale, w0 / d->scale));
    at_least(&means, (size_t)BANDS * (size_t)d->channels);
    at_least(&mixed, (size_t)d->prompt_width * (size_t)d->prompt_size * (size_t)d->prompt_size);
  }
  j->spare = reserve(&l, spare);
  j->values = reserve(&l, values);
  j->gram = reserve(&l, gram);
  j->squares = reserve(&l, squares);
  j->attention = reserve(&l, attention);
  j->panels = reserve(&l, panels);
  j->means = reserve(&l, means);
  j->prompt = reserve(&l, mixed);
  size_t tile = (size_t)(3 * p->conv_inputs > p->channels ? 3 * p->conv_inputs : p->channels), row = 0;
  at_least(&tile, (size_t)p->values);
  at_least(&tile, (size_t)(p->queries + p->key_rows));
  at_least(&tile, (size_t)(6 * w)); /* the widest features that a 1x1 convolution fuses */
  size_t normal = (size_t)p->channels;
  at_least(&normal, (size_t)p->outputs);
  at_least(&normal, (size_t)p->conv_outputs);
  at_least(&row, (size_t)p->values);
  at_least(&row, 2 * (size_t)p->key_rows);
  at_least(&row, (size_t)n->prompts + 2 * (size_t)p->channels);
  j->work = (workspace *)reserve(&l, ((size_t)threads * sizeof(workspace) + 3) / 4);
  for (int32_t t = 0; t < threads; t++) {
    workspace work;
    work.window = reserve(&l, window);
    work.tile = reserve(&l, tile * STRIDE + SLACK);
    work.normal = reserve(&l, normal * STRIDE + SLACK);
    work.hidden = reserve(&l, (size_t)p->hidden * STRIDE + SLACK);
    work.turned = reserve(&l, (size_t)p->key_rows * TILE + SLACK);
    work.row = reserve(&l, row + SLACK);
    work.mix = (linear *)reserve(&l, heads * sizeof(linear) / 4);
    if (base) j->work[t] = work;
  }
  return l.used;
}

#endif
