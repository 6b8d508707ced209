/* The two sweeps of a transformer block, each over a thread's rows with a rolling window of rows that never leaves the cache.

   1. `attend`: LayerNorm, sparse qkv, depthwise filters; sums q kT and the squared lengths, writes only the values.
   2. `transform`: mixes the values with the attention matrix (projection and residual included), LayerNorm, sparse expand,
      depthwise filters, GELU gate, sparse project, residual. Reads one map and writes another, since neighbouring rows and
      columns still need the old one.
   Restormer (arXiv 2111.09881), equations 1 and 2. */
#ifndef MIRL_SWEEPS_H
#define MIRL_SWEEPS_H

#include "job.h"

/* The part of a map that is swept at a time: output columns x0..x1. Column x0 lies `lead` floats into a window row; pixels
   are computed from column `from` on, `units` units a row. */
typedef struct {
  const map *source;
  sweep_shape shape;
  float *window;
  int32_t channels; /* of the window */
  int32_t x0, x1, lead, from, units;
  int32_t ready;    /* rows below this one are in the window */
} sweep;

static void begin_strip(sweep *s, int32_t x0, int32_t y0) {
  int32_t width = s->source->width, past;
  s->x0 = x0;
  s->x1 = x0 + s->shape.strip < width ? x0 + s->shape.strip : width;
  s->lead = x0 ? 1 : UNIT; /* a first strip computes whole units from its own column on, later ones their left neighbour too */
  s->from = x0 ? x0 - 1 : 0;
  past = s->x1 < width ? s->x1 + 1 : width;
  s->units = (past - s->from + UNIT - 1) / UNIT;
  s->ready = y0 - 1;
  for (ptrdiff_t c = 0; c < (ptrdiff_t)s->shape.slots * s->channels; c++) {
    float *p = s->window + c * s->shape.step;
    p[s->lead - 1] = 0;
    p[s->lead + s->x1 - x0] = 0;
  }
}

static float *window_row(const sweep *s, int32_t y) {
  return s->window + (ptrdiff_t)((y + s->shape.slots) % s->shape.slots) * s->channels * s->shape.step;
}

/* Zero what the filters see right of the image in row y, where a unit reached past its edge. */
static void zero_past_edge(const sweep *s, int32_t y, int32_t first) {
  int32_t width = s->source->width;
  if (s->x1 < width || (width - s->from) % UNIT == 0) return;
  float *p = window_row(s, y) + s->lead + width - s->x0;
  for (int32_t c = first; c < s->channels; c++) p[c * s->shape.step] = 0;
}

typedef struct {
  int32_t y[UNITS], x[UNITS], count;
} tile;

/* Fill the window up to row `last` (included), calling `compute` for each tile of new pixels. Rows outside are zero from
   channel `first` on. */
#define FILL_WINDOW(s, last, first, compute)                                              \
  do {                                                                                    \
    tile t = {.count = 0};                                                                \
    int32_t begin_ = (s)->ready;                                                          \
    for (; (s)->ready <= (last); (s)->ready++) {                                          \
      int32_t y_ = (s)->ready;                                                            \
      if (y_ < 0 || y_ >= (s)->source->height) {                                          \
        __builtin_memset(window_row(s, y_) + (first) * (s)->shape.step, 0,                \
                         sizeof(float) * (size_t)((s)->channels - (first)) * (size_t)(s)->shape.step); \
        continue;                                                                         \
      }                                                                                   \
      for (int32_t u_ = 0; u_ < (s)->units; u_++) {                                       \
        t.y[t.count] = y_;                                                                \
        t.x[t.count++] = (s)->from + u_ * UNIT;                                           \
        if (t.count == UNITS) {                                                           \
          compute;                                                                        \
          t.count = 0;                                                                    \
        }                                                                                 \
      }                                                                                   \
    }                                                                                     \
    if (t.count) compute;                                                                 \
    for (int32_t y_ = begin_; y_ < (s)->ready; y_++)                                      \
      if (y_ >= 0 && y_ < (s)->source->height) zero_past_edge(s, y_, first);                  \
  } while (0)

static pointers in_map(const map *m, const tile *t) {
  pointers p;
  for (int u = 0; u < t->count; u++) p.unit[u] = at(m, t->y[u], t->x[u]);
  return p;
}

static pointers in_window(const sweep *s, const tile *t) {
  pointers p;
  for (int u = 0; u < t->count; u++) p.unit[u] = window_row(s, t->y[u]) + s->lead + t->x[u] - s->x0;
  return p;
}

static pointers in_tile(float *data) {
  pointers p;
  for (int u = 0; u < UNITS; u++) p.unit[u] = data + u * UNIT;
  return p;
}

static windows around(const sweep *s, const tile *t) {
  windows w = {.lead = s->lead};
  for (int u = 0; u < t->count; u++)
    for (int d = 0; d < 3; d++) w.row[u][d] = window_row(s, t->y[u] + d - 1) + s->lead + t->x[u] - s->x0;
  for (int u = t->count - 1, run = 0; u >= 0; u--) {
    run = u + 1 < t->count && t->y[u + 1] == t->y[u] ? run + 1 : 1;
    w.run[u] = run;
  }
  return w;
}

/* Lines of memory that will be needed, asked for a few at a time between other work: the processor does not foresee so many
   strides, and stalls when asked for all at once. */
typedef struct {
  const float *next;
  ptrdiff_t step;
  int32_t left, count, share; /* channels left, units of each, channels for each step of the work */
} foresight;

/* `channels` channels of the tile `rows` rows below `t`, over `steps` steps. */
static foresight plan_foresight(const map *m, const tile *t, int rows, int32_t channels, int32_t steps) {
  return (foresight){at(m, t->y[0] + rows, t->x[0]), m->step, channels, t->count, (channels + steps - 1) / (steps > 0 ? steps : 1)};
}

ALWAYS void foresee(foresight *f, const int write) {
  for (int32_t share = f->share < f->left ? f->share : f->left; share > 0; share--, f->left--, f->next += f->step)
    for (int u = 0; u < f->count; u++) {
      if (write) __builtin_prefetch(f->next + u * UNIT, 1, 2); /* clang takes nothing but literals */
      else __builtin_prefetch(f->next + u * UNIT, 0, 2);
    }
}

/* Copy `channels` channels of a map into a tile. */
static void gather(const map *m, const tile *t, int32_t channels, float *y) {
  pointers from = in_map(m, t);
  for (int32_t c = 0; c < channels; c++)
    for (int u = 0; u < t->count; u++)
      for (int i = 0; i < PER_UNIT; i++)
        store(y + c * STRIDE + u * UNIT + i * LANES, load(from.unit[u] + c * m->step + i * LANES));
}

/* Zero the pixels of a tile that lie right of the image. */
static void zero_outside(float *x, int32_t rows, const tile *t, int32_t width) {
  for (int u = 0; u < t->count; u++)
    for (int32_t i = width - t->x[u]; i < UNIT; i++)
      for (int32_t r = 0; r < rows; r++) x[r * STRIDE + u * UNIT + i] = 0;
}

/* Call `consume` for tiles of output pixels, `rows` rows at a time from y to end. */
#define FOR_TILES(s, begin, end, consume)                              \
  do {                                                               \
    tile t = {.count = 0};                                           \
    for (int32_t y_ = (begin); y_ < (end); y_++)                         \
      for (int32_t x_ = (s)->x0; x_ < (s)->x1; x_ += UNIT) {         \
        t.y[t.count] = y_;                                           \
        t.x[t.count++] = x_;                                         \
        if (t.count == UNITS) {                                      \
          consume;                                                   \
          t.count = 0;                                               \
        }                                                            \
      }                                                              \
    if (t.count) consume;                                            \
  } while (0)

static void compute_qkv(const worker *w, const attention_plan *a, const sweep *s, const tile *t) {
  pointers from = in_map(s->source, t), to = in_window(s, t);
  normalise(&from, s->source->step, a->qkv.cols, t->count, w->work->normal);
  apply_linear(&a->qkv, w->work->normal, t->count, 0, 0, &to, s->shape.step);
}

/* Filter one tile: queries and keys into the sums, values into their map. */
static void filter_qkv(const worker *w, const attention_plan *a, const sweep *s, const tile *t, float *gram, float *squares) {
  const job *j = w->job;
  windows around_tile = around(s, t);
  float *q = w->work->tile, *k = q + (ptrdiff_t)a->queries * STRIDE;
  pointers to = in_tile(q);
  ptrdiff_t step = s->shape.step;
  const filter *f = a->filters;
  int32_t channel = 0, sums = a->queries + a->keys;
  map values = map_at(j->values, a->values, s->source->height, s->source->width);
  pointers value = in_map(&values, t);
  foresight written = plan_foresight(&values, t, 0, a->values, sums);
  foresight read = plan_foresight(s->source, t, s->shape.rows + 1, a->qkv.cols, sums);
  for (int32_t i = 0; i < a->queries; i++, channel++) {
    apply_filter(f++, &around_tile, channel * step, t->count, &to, i * STRIDE, 0);
    foresee(&written, 1);
    foresee(&read, 0);
  }
  for (int32_t h = 0; h < a->heads; h++) {
    const head_plan *head = &a->head[h];
    for (int32_t i = 0; i < head->keys; i++, channel++) {
      apply_filter(f++, &around_tile, channel * step, t->count, &to, (a->queries + head->k + i) * STRIDE, 0);
      foresee(&written, 1);
      foresee(&read, 0);
    }
  }
  for (int32_t i = 0; i < a->values; i++, channel++) apply_filter(f++, &around_tile, channel * step, t->count, &value, i * values.step, 0);
  if (!a->queries) return;
  zero_outside(q, a->queries + a->key_rows, t, s->source->width);
  add_squares(q, a->queries + a->key_rows, t->count, squares);
  transpose(k, a->key_rows, t->count * UNIT, w->work->turned, a->key_rows);
  for (int32_t h = 0; h < a->heads; h++) {
    const head_plan *head = &a->head[h];
    int32_t padded = (head->keys + UNIT - 1) / UNIT * UNIT;
    add_gram(q + head->q * STRIDE, head->queries, w->work->turned + head->k, a->key_rows, padded, t->count * UNIT,
             gram + head->gram, padded);
  }
}

/* First sweep, over this thread's bands of rows of `x`. */
static void attend(const worker *w, const attention_plan *a, const map *x) {
  const job *j = w->job;
  int32_t bands = band_count(x->height), first = part(bands, w->index, j->threads), last = part(bands, w->index + 1, j->threads);
  sweep s = {.source = x, .shape = shape_sweep(a->qkv.rows, x->width), .window = w->work->window, .channels = a->qkv.rows};
  if (first == last || !a->values) return;
  size_t summed = (size_t)(a->queries + a->key_rows);
  __builtin_memset(j->gram + (size_t)first * (size_t)a->gram_size, 0, sizeof(float) * (size_t)(last - first) * (size_t)a->gram_size);
  __builtin_memset(j->squares + (size_t)first * summed * UNIT, 0, sizeof(float) * (size_t)(last - first) * summed * UNIT);
  __builtin_memset(w->work->tile, 0, sizeof(float) * STRIDE * summed); /* rows that pad the keys stay zero */
  for (int32_t x0 = 0; x0 < x->width; x0 += s.shape.strip) {
    begin_strip(&s, x0, part(x->height, first, bands));
    for (int32_t b = first; b < last; b++) {
      float *gram = j->gram + (size_t)b * (size_t)a->gram_size, *squares = j->squares + (size_t)b * summed * UNIT;
      for (int32_t y = part(x->height, b, bands), end = part(x->height, b + 1, bands); y < end; y += s.shape.rows) {
        int32_t stop = y + s.shape.rows < end ? y + s.shape.rows : end;
        FILL_WINDOW(&s, stop, 0, compute_qkv(w, a, &s, &t));
        FOR_TILES(&s, y, stop, filter_qkv(w, a, &s, &t, gram, squares));
      }
    }
  }
}

/* x + attention, then its LayerNorm through expand: channels of the window are the sum, gates, contents. */
static void compute_hidden(const worker *w, const block_plan *b, const linear *mix, const sweep *s, const tile *t) {
  const attention_plan *a = &b->attention;
  const job *j = w->job;
  map values = map_at(j->values, a->values, s->source->height, s->source->width);
  pointers from = in_map(s->source, t), sum = in_window(s, t), hidden = sum, mixed = in_tile(w->work->normal);
  gather(&values, t, a->values, w->work->tile);
  if (a->fold) {
    apply_linear(mix, w->work->tile, t->count, &from, s->source->step, &sum, s->shape.step);
  } else {
    for (int32_t h = 0; h < a->heads; h++) {
      pointers to = mixed;
      for (int u = 0; u < t->count; u++) to.unit[u] += a->head[h].out * STRIDE;
      apply_linear(&mix[h], w->work->tile + a->head[h].v * STRIDE, t->count, 0, 0, &to, STRIDE);
    }
    apply_linear(&a->project, w->work->normal, t->count, &from, s->source->step, &sum, s->shape.step);
  }
  normalise(&sum, s->shape.step, b->channels, t->count, w->work->normal);
  for (int u = 0; u < t->count; u++) hidden.unit[u] += b->channels * s->shape.step;
  apply_linear(&b->feed_forward.expand, w->work->normal, t->count, 0, 0, &hidden, s->shape.step);
}

static void gate_and_project(const worker *w, const block_plan *b, const sweep *s, const tile *t, const map *y) {
  const feed_forward_plan *f = &b->feed_forward;
  windows around_tile = around(s, t);
  pointers gated = in_tile(w->work->hidden), sum = in_window(s, t), to = in_map(y, t);
  ptrdiff_t step = s->shape.step;
  map values = map_at(w->job->values, b->attention.values, s->source->height, s->source->width);
  foresight written = plan_foresight(y, t, 0, b->channels, f->pairs);
  foresight read = plan_foresight(s->source, t, s->shape.rows + 1, b->channels, f->pairs);
  foresight valued = plan_foresight(&values, t, s->shape.rows + 1, b->attention.values, f->pairs);
  for (int32_t i = 0; i < f->pairs; i++) {
    foresee(&written, 1);
    foresee(&read, 0);
    foresee(&valued, 0);
    apply_filter(&f->filters[i], &around_tile, (b->channels + i) * step, t->count, &gated, i * STRIDE, 0);
    gelu_units(w->work->hidden + i * STRIDE, t->count);
    apply_filter(&f->filters[f->pairs + i], &around_tile, (b->channels + f->pairs + i) * step, t->count, &gated, i * STRIDE, 1);
  }
  apply_linear(&f->project, w->work->hidden, t->count, &sum, step, &to, y->step);
}

/* Second sweep, from map `x` into map `y`. `mix`: the projected attention matrix, or one matrix a head. */
static void transform(const worker *w, const block_plan *b, const linear *mix, const map *x, const map *y) {
  int32_t bands = band_count(x->height), threads = w->job->threads;
  int32_t first = part(x->height, part(bands, w->index, threads), bands);
  int32_t last = part(x->height, part(bands, w->index + 1, threads), bands);
  int32_t channels = b->channels + 2 * b->feed_forward.pairs;
  sweep s = {.source = x, .shape = shape_sweep(channels, x->width), .window = w->work->window, .channels = channels};
  if (first == last) return;
  for (int32_t x0 = 0; x0 < x->width; x0 += s.shape.strip) {
    begin_strip(&s, x0, first);
    for (int32_t row = first; row < last; row += s.shape.rows) {
      int32_t stop = row + s.shape.rows < last ? row + s.shape.rows : last;
      FILL_WINDOW(&s, stop, b->channels, compute_hidden(w, b, mix, &s, &t));
      FOR_TILES(&s, row, stop, gate_and_project(w, b, &s, &t, y));
    }
  }
}

#endif
