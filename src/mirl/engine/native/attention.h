/* Between the sweeps: from sums over pixels to the matrix that mixes the values (Restormer, equation 1). */
#ifndef MIRL_ATTENTION_H
#define MIRL_ATTENTION_H

#include "job.h"

/* Sum `count` sums over the bands, `step` floats apart; each consists of `parts` floats. Then add them to the statistics, or
   take those instead, as the mode says; `owner`: this call is the one that adds them. */
static void sum_bands(const job *j, const float *x, size_t step, int32_t bands, int32_t count, int parts, size_t place, int owner,
                      float *y) {
  for (int32_t i = 0; i < count; i++) y[i] = 0;
  for (int32_t b = 0; b < bands; b++, x += step)
    for (int32_t i = 0; i < count; i++)
      for (int k = 0; k < parts; k++) y[i] += x[i * parts + k];
  if (j->mode == MIRL_SUM && owner)
    for (int32_t i = 0; i < count; i++) j->statistics[place + (size_t)i] += y[i];
  if (j->mode == MIRL_USE)
    for (int32_t i = 0; i < count; i++) y[i] = j->statistics[place + (size_t)i];
}

/* Row `output` of head h's attention matrix over its live values: softmax of temperature * q kT / (|q| |k|). A dead key has
   logit 0, a dead query attends evenly. `row` is room for the sums. */
static void attention_row(const worker *w, const attention_plan *a, int32_t h, int32_t output, int32_t bands, float *row, float *y) {
  const job *j = w->job;
  const head_plan *head = &a->head[h];
  int32_t query = a->query_of_output[output], dead = a->width - head->keys;
  const int32_t *key_of_value = a->key_of_value + head->v;
  if (query < 0 || !head->keys) {
    for (int32_t v = 0; v < head->values; v++) y[v] = 1.0f / (float)a->width;
    return;
  }
  int32_t padded = (head->keys + UNIT - 1) / UNIT * UNIT, place = head->gram + (query - head->q) * padded;
  size_t summed = (size_t)(a->queries + a->key_rows), squares = a->statistics + (size_t)a->gram_size;
  float *lengths = row + padded, length, largest = dead ? 0 : -3e38f, total = 0;
  sum_bands(j, j->gram + place, (size_t)a->gram_size, bands, head->keys, 1, a->statistics + (size_t)place, 1, row);
  sum_bands(j, j->squares + (size_t)query * UNIT, summed * UNIT, bands, 1, UNIT, squares + (size_t)query, 1, &length);
  sum_bands(j, j->squares + (size_t)(a->queries + head->k) * UNIT, summed * UNIT, bands, head->keys, UNIT, squares + (size_t)(a->queries + head->k),
            query == head->q, lengths); /* the head's first query adds them to the statistics, once */
  for (int32_t i = 0; i < head->keys; i++) {
    float product = length * lengths[i];
    row[i] = a->temperature[h] * row[i] / __builtin_sqrtf(product > 1e-24f ? product : 1e-24f);
    if (row[i] > largest) largest = row[i];
  }
  for (int32_t i = 0; i < head->keys; i++) total += row[i] = exponential(row[i] - largest);
  float rest = dead ? exponential(-largest) : 0;
  total += (float)dead * rest;
  for (int32_t v = 0; v < head->values; v++) y[v] = (key_of_value[v] < 0 ? rest : row[key_of_value[v]]) / total;
}

/* Where head h's rows lie in the attention memory; heads in order. */
static size_t attention_place(const attention_plan *a, int32_t h) {
  size_t place = 0;
  for (int32_t i = 0; i < h; i++) place += (size_t)a->head[i].outputs * (size_t)a->head[i].values;
  return place;
}

static void attention_rows(const worker *w, const attention_plan *a, int32_t bands) {
  const job *j = w->job;
  int32_t first = part(a->outputs, w->index, j->threads), last = part(a->outputs, w->index + 1, j->threads);
  for (int32_t h = 0; h < a->heads; h++) {
    const head_plan *head = &a->head[h];
    float *matrix = j->attention + attention_place(a, h);
    for (int32_t i = 0; i < head->outputs; i++)
      if (head->out + i >= first && head->out + i < last)
        attention_row(w, a, h, head->out + i, bands, w->work->row, matrix + (ptrdiff_t)i * head->values);
  }
}

/* The dense maps that mix the values: one for all heads with the projection folded in, or one for each head. They are only
   described here; `fill_mix` writes their panels. */
static void describe_mix(const job *j, const attention_plan *a, int32_t channels, linear *mix) {
  float *panels = j->panels;
  if (a->fold) {
    mix[0] = (linear){.rows = channels, .cols = a->values, .panels = panels, .offsets = j->plan->tile};
    return;
  }
  for (int32_t h = 0; h < a->heads; h++) {
    const head_plan *head = &a->head[h];
    mix[h] = (linear){.rows = head->outputs, .cols = head->values, .panels = panels, .offsets = j->plan->tile};
    panels += (ptrdiff_t)(head->outputs + PANEL - 1) / PANEL * PANEL * head->values;
  }
}

static void put_row(const linear *m, int32_t row, const float *x) {
  float *to = (float *)m->panels + (ptrdiff_t)(row / PANEL) * PANEL * m->cols + row % PANEL;
  for (int32_t k = 0; k < m->cols; k++) to[k * PANEL] = x[k];
}

/* Write this thread's share of the panels. */
static void fill_mix(const worker *w, const attention_plan *a, const linear *mix) {
  const job *j = w->job;
  float *sum = w->work->row;
  if (a->fold) {
    int32_t first = part(mix->rows, w->index, j->threads), last = part(mix->rows, w->index + 1, j->threads);
    for (int32_t r = first; r < last; r++) {
      const float *matrix = j->attention;
      int32_t h = 0;
      for (int32_t v = 0; v < a->values; v++) sum[v] = 0;
      for (const entry *e = a->entries + a->start[r], *end = a->entries + a->start[r + 1]; e < end; e++) {
        while (e->offset >= a->head[h].out + a->head[h].outputs) {
          matrix += (ptrdiff_t)a->head[h].outputs * a->head[h].values;
          h++;
        }
        const head_plan *head = &a->head[h];
        const float *row = matrix + (ptrdiff_t)(e->offset - head->out) * head->values;
        for (int32_t v = 0; v < head->values; v++) sum[head->v + v] += e->weight * row[v];
      }
      put_row(mix, r, sum);
    }
    return;
  }
  for (int32_t h = 0; h < a->heads; h++) {
    const float *matrix = j->attention + attention_place(a, h);
    int32_t first = part(mix[h].rows, w->index, j->threads), last = part(mix[h].rows, w->index + 1, j->threads);
    for (int32_t r = first; r < last; r++) put_row(&mix[h], r, matrix + (ptrdiff_t)r * mix[h].cols);
  }
}

#endif
