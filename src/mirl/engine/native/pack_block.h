/* Compaction of one transformer block: which queries, keys, values, outputs and hidden pairs live (see plan.h). */
#ifndef MIRL_PACK_BLOCK_H
#define MIRL_PACK_BLOCK_H

/* Lay out the live channels of one head, appending matrix rows to `q`, `k`, `v` and projection columns to `out`. */
typedef struct {
  int32_t *q, *k, *v, *out;              /* matrix rows (of qkv) and columns (of project) that live */
  int32_t *query_of_output, *key_of_value;
  int32_t *local;                        /* of a head's channels: its place among live queries, then among live keys */
} channel_lists;

static void compact_head(attention_plan *a, head_plan *h, int32_t index, const channel_lists *lists, const uint8_t *live,
                         const uint8_t *used) {
  int32_t width = a->width, channels = a->heads * width, first = index * width, values = 0, outputs = 0, queries = 0, keys = 0;
  *h = (head_plan){a->queries, 0, a->key_rows, 0, a->values, 0, a->outputs, 0, a->gram_size};
  for (int32_t i = first; i < first + width; i++) {
    values += live[2 * channels + i];
    outputs += used[i];
    queries += used[i] && live[i];
    keys += live[channels + i];
  }
  if (!values || !outputs) return;
  int32_t *query_at = lists->local, *key_at = lists->local + width;
  for (int32_t i = 0; i < width; i++) query_at[i] = key_at[i] = -1;
  if (queries && keys) {
    for (int32_t i = 0; i < width; i++) {
      if (used[first + i] && live[first + i]) {
        query_at[i] = a->queries + h->queries;
        lists->q[a->queries + h->queries++] = first + i;
      }
      if (live[channels + first + i]) {
        key_at[i] = h->keys;
        lists->k[a->keys + h->keys++] = channels + first + i;
      }
    }
  }
  for (int32_t i = 0; i < width; i++) {
    if (used[first + i]) {
      lists->query_of_output[a->outputs + h->outputs] = query_at[i];
      lists->out[a->outputs + h->outputs++] = first + i;
    }
    if (live[2 * channels + first + i]) {
      lists->key_of_value[a->values + h->values] = key_at[i];
      lists->v[a->values + h->values++] = 2 * channels + first + i;
    }
  }
  int32_t padded = (h->keys + UNIT - 1) / UNIT * UNIT;
  a->queries += h->queries;
  a->keys += h->keys;
  a->key_rows += padded;
  a->values += h->values;
  a->outputs += h->outputs;
  a->gram_size += h->queries * padded;
}

/* Cost, in multiply-accumulates per pixel, of mixing with and without the projection folded into the attention matrix. */
static int folding_pays(const attention_plan *a, int32_t channels, int64_t project, double *cost) {
  double apart = 0, folded = (double)channels * a->values;
  for (int32_t i = 0; i < a->heads; i++) apart += (double)a->head[i].outputs * a->head[i].values;
  *cost = folded;
  if (folded <= apart + 1.5 * (double)project + 2 * a->outputs) return 1;
  *cost = apart;
  return 0;
}

static void pack_attention(packer *p, attention_plan *a, const stage_shape *s) {
  arena *memory = &p->memory;
  int32_t channels = s->channels, width = channels / s->heads;
  const float *gain = *p->weights++, *shift = *p->weights++, *heat = *p->weights++;
  const float *qkv = *p->weights++, *depthwise = *p->weights++, *project = *p->weights++;
  head_plan *heads = take(memory, sizeof(head_plan) * (size_t)s->heads);
  int32_t *ints = take(memory, 4 * (9 * (size_t)channels + 2 * (size_t)width));
  uint8_t *live = take(memory, 4 * (size_t)channels), *used = live + 3 * (size_t)channels;
  float *temperature = take(memory, 4 * (size_t)s->heads);
  if (memory->failed) return;
  channel_lists lists = {ints, ints + channels, ints + 2 * channels, ints + 3 * channels, ints + 4 * channels,
                         ints + 5 * channels, ints + 9 * channels};
  int32_t *rows = ints + 6 * channels;
  __builtin_memcpy(temperature, heat, 4 * (size_t)s->heads);
  for (int32_t i = 0; i < 3 * channels; i++) live[i] = any(qkv + (int64_t)i * channels, channels, 1) && any(depthwise + i * 9, 9, 1);
  for (int32_t i = 0; i < channels; i++) used[i] = (uint8_t)any(project + i, channels, channels);
  *a = (attention_plan){.heads = s->heads, .width = width, .head = heads, .query_of_output = lists.query_of_output,
                        .key_of_value = lists.key_of_value, .temperature = temperature};
  for (int32_t h = 0; h < s->heads; h++) compact_head(a, &heads[h], h, &lists, live, used);

  int32_t count = 0;
  for (int32_t i = 0; i < a->queries; i++) rows[count++] = lists.q[i];
  for (int32_t i = 0; i < a->keys; i++) rows[count++] = lists.k[i];
  for (int32_t i = 0; i < a->values; i++) rows[count++] = lists.v[i];
  int64_t kept = 0;
  a->qkv = build(memory, &(source){qkv, channels, count, channels, rows, p->same, p->tile, gain, shift}, &kept);
  count_layer(p, qkv, 3 * (int64_t)channels * channels, kept, s->scale);
  kept = 0;
  a->filters = build_filters(p, depthwise, rows, count, &kept);
  count_layer(p, depthwise, 27 * (int64_t)channels, kept, s->scale);

  kept = 0;
  for (int32_t i = 0; i < a->outputs; i++)
    for (int32_t r = 0; r < channels; r++) kept += project[(int64_t)r * channels + lists.out[i]] != 0;
  double mixing, gram = 0;
  a->fold = folding_pays(a, channels, kept, &mixing);
  for (int32_t h = 0; h < a->heads; h++) gram += (double)heads[h].queries * heads[h].keys;
  double area = (double)s->scale * s->scale;
  if (a->fold) {
    int32_t *start = take(memory, 4 * ((size_t)channels + 1));
    entry *e = take(memory, sizeof(entry) * (size_t)kept);
    if (memory->failed) return;
    a->start = start;
    a->entries = e;
    for (int32_t r = 0; r < channels; r++) {
      start[r] = (int32_t)(e - a->entries);
      for (int32_t i = 0; i < a->outputs; i++) {
        float w = project[(int64_t)r * channels + lists.out[i]];
        if (w != 0) *e++ = (entry){w, i};
      }
    }
    start[channels] = (int32_t)(e - a->entries);
    p->macs -= (double)kept / area; /* done once an image, not for every pixel */
  } else {
    int64_t ignored = 0;
    a->project = build(memory, &(source){project, channels, channels, a->outputs, p->same, lists.out, p->tile, 0, 0}, &ignored);
  }
  count_layer(p, project, (int64_t)channels * channels, kept, s->scale);
  p->attention += (gram + mixing) / area;
  p->dense += 2.0 * channels * width / area;
  a->statistics = p->plan->statistics;
  p->plan->statistics += (size_t)a->gram_size + (size_t)a->queries + (size_t)a->key_rows;
}

static void pack_feed_forward(packer *p, feed_forward_plan *f, const stage_shape *s) {
  arena *memory = &p->memory;
  int32_t channels = s->channels, hidden = hidden_width(&p->plan->network, channels), pairs = 0;
  const float *gain = *p->weights++, *shift = *p->weights++;
  const float *expand = *p->weights++, *depthwise = *p->weights++, *project = *p->weights++;
  int32_t *rows = take(memory, 8 * (size_t)hidden), *cols = take(memory, 4 * (size_t)hidden);
  if (memory->failed) return;
  for (int32_t j = 0; j < hidden; j++) {
    int64_t other = hidden + j;
    if (any(expand + (int64_t)j * channels, channels, 1) && any(expand + other * channels, channels, 1) &&
        any(depthwise + j * 9, 9, 1) && any(depthwise + other * 9, 9, 1) && any(project + j, channels, hidden))
      cols[pairs++] = j;
  }
  for (int32_t i = 0; i < pairs; i++) {
    rows[i] = cols[i];
    rows[pairs + i] = hidden + cols[i];
  }
  int64_t kept = 0;
  f->pairs = pairs;
  f->expand = build(memory, &(source){expand, channels, 2 * pairs, channels, rows, p->same, p->tile, gain, shift}, &kept);
  count_layer(p, expand, 2 * (int64_t)hidden * channels, kept, s->scale);
  kept = 0;
  f->filters = build_filters(p, depthwise, rows, 2 * pairs, &kept);
  count_layer(p, depthwise, 18 * (int64_t)hidden, kept, s->scale);
  kept = 0;
  f->project = build(memory, &(source){project, hidden, channels, pairs, p->same, cols, p->tile, 0, 0}, &kept);
  count_layer(p, project, (int64_t)channels * hidden, kept, s->scale);
}

static block_plan pack_block(packer *p, const stage_shape *s) {
  block_plan b = {.channels = s->channels};
  plan *all = p->plan;
  pack_attention(p, &b.attention, s);
  if (!p->memory.failed) pack_feed_forward(p, &b.feed_forward, s);
  const attention_plan *a = &b.attention;
  most(&all->channels, s->channels);
  most(&all->hidden, b.feed_forward.pairs);
  most(&all->key_rows, a->key_rows);
  most(&all->queries, a->queries);
  most(&all->values, a->values);
  most(&all->outputs, a->outputs);
  return b;
}

#endif
