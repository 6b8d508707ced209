/* Everything between the blocks: 3x3 convolutions with pixel (un)shuffle, 1x1 convolutions, prompts, the image itself.

   All pass a thread's share of the output's rows; the caller waits for all threads between passes. */
#ifndef MIRL_PASSES_H
#define MIRL_PASSES_H

#include "attention.h"
#include "sweeps.h"

/* Index of the pixel that stands at `i` once a line of `size` is reflected without repeating its ends, as often as it takes. */
static int32_t reflect(int32_t i, int32_t size) {
  if (size == 1) return 0;
  int32_t period = 2 * (size - 1), at_period = i % period;
  return at_period < size ? at_period : period - at_period;
}

/* The image as three channels, reflected up to a multiple of 8. */
static void read_image(const worker *w) {
  const job *j = w->job;
  const map *m = &j->input;
  for (int32_t y = part(m->height, w->index, j->threads); y < part(m->height, w->index + 1, j->threads); y++) {
    const float *from = j->image + (ptrdiff_t)reflect(y, j->height) * j->width * 3;
    for (int32_t c = 0; c < 3; c++) {
      float *to = at(m, y, 0) + c * m->step;
      for (int32_t x = 0; x < m->width; x++) to[x] = from[(ptrdiff_t)reflect(x, j->width) * 3 + c];
    }
  }
}

/* Fill a tile with rows y-1..y+1 of `inputs` channels, from column x-1 to x + 16 * count, zero outside of the map. */
static void gather3x3(const map *m, int32_t inputs, int32_t y, int32_t x, int count, float *to) {
  int32_t floats = count * UNIT + 2, first = x ? 0 : 1, last = m->width - x + 1 < floats ? m->width - x + 1 : floats;
  for (int32_t d = -1; d < 2; d++) {
    int outside = y + d < 0 || y + d >= m->height;
    for (int32_t c = 0; c < inputs; c++, to += STRIDE) {
      if (outside) {
        __builtin_memset(to, 0, 4 * (size_t)floats);
        continue;
      }
      const float *from = at(m, y + d, x - 1) + c * m->step;
      if (first) to[0] = 0;
      __builtin_memcpy(to + first, from + first, 4 * (size_t)(last - first));
      for (int32_t i = last; i < floats; i++) to[i] = 0;
    }
  }
}

enum convolved { KEEP, UNSHUFFLE, SHUFFLE, IMAGE };

/* Move a convolved tile of row y, columns x.. to where it belongs. */
static void scatter(const worker *w, const map *to, enum convolved kind, int32_t outputs, int32_t y, int32_t x, int32_t count) {
  const job *j = w->job;
  const float *from = w->work->normal;
  if (kind == UNSHUFFLE) { /* half the size, four times the channels: c * 4 + row * 2 + column */
    for (int32_t o = 0; o < outputs; o++, from += STRIDE) {
      float *even = at(to, y / 2, x / 2) + (o * 4 + y % 2 * 2) * to->step, *odd = even + to->step;
      for (int32_t i = 0; i < count / 2; i++) {
        even[i] = from[2 * i];
        odd[i] = from[2 * i + 1];
      }
    }
  } else if (kind == SHUFFLE) {
    for (int32_t o = 0; o < outputs; o += 2, from += 2 * STRIDE) {
      float *line = at(to, 2 * y + o % 4 / 2, 2 * x) + o / 4 * to->step;
      for (int32_t i = 0; i < count; i++) {
        line[2 * i] = from[i];
        line[2 * i + 1] = from[STRIDE + i];
      }
    }
  } else { /* the image plus the network's output, cut back to its size */
    for (int32_t i = 0; y < j->height && i < count && x + i < j->width; i++)
      for (int32_t c = 0; c < 3; c++) {
        ptrdiff_t place = ((ptrdiff_t)y * j->width + x + i) * 3 + c;
        j->out[place] = j->image[place] + from[c * STRIDE + i];
      }
  }
}

static void convolve(const worker *w, const linear *a, const map *from, int32_t inputs, const map *to, enum convolved kind) {
  int32_t threads = w->job->threads;
  for (int32_t y = part(from->height, w->index, threads); y < part(from->height, w->index + 1, threads); y++)
    for (int32_t x = 0; x < from->width; x += TILE) {
      int32_t count = from->width - x < TILE ? from->width - x : TILE, units = (count + UNIT - 1) / UNIT;
      pointers out = in_tile(kind == KEEP ? at(to, y, x) : w->work->normal);
      gather3x3(from, inputs, y, x, units, w->work->tile);
      apply_linear(a, w->work->tile, units, 0, 0, &out, kind == KEEP ? to->step : STRIDE);
      if (kind != KEEP) scatter(w, to, kind, a->rows, y, x, count);
    }
}

static void pointwise(const worker *w, const linear *a, const map *from, const map *to) {
  int32_t threads = w->job->threads;
  sweep s = {.source = from, .x1 = from->width};
  FOR_TILES(&s, part(from->height, w->index, threads), part(from->height, w->index + 1, threads), {
    pointers out = in_map(to, &t);
    gather(from, &t, a->cols, w->work->tile);
    apply_linear(a, w->work->tile, t.count, 0, 0, &out, to->step);
  });
}

/* Sum the features of every channel over the pixels, band by band. */
static void sum_features(const worker *w, const map *x, int32_t channels) {
  const job *j = w->job;
  int32_t bands = band_count(x->height);
  for (int32_t b = part(bands, w->index, j->threads); b < part(bands, w->index + 1, j->threads); b++)
    for (int32_t c = 0; c < channels; c++) {
      double total = 0;
      for (int32_t y = part(x->height, b, bands); y < part(x->height, b + 1, bands); y++) {
        const float *row = at(x, y, 0) + c * x->step;
        vf sum = splat(0);
        int32_t i = 0;
        for (; i + LANES <= x->width; i += LANES) sum += load(row + i);
        float rest = sum_lanes(sum);
        for (; i < x->width; i++) rest += row[i];
        total += rest;
      }
      j->means[(size_t)b * (size_t)channels + (size_t)c] = (float)total;
    }
}

/* Mix the prompt components by softmax(select(mean features)) (PromptIR, equations 2 and 3); this thread's share of them. */
static void mix_prompt(const worker *w, const decoder_plan *d, const map *x) {
  const job *j = w->job;
  int32_t channels = d->shape.channels, prompts = d->prompts, bands = band_count(x->height);
  float *shares = w->work->row, *sums = shares + prompts, largest = -3e38f, total = 0;
  sum_bands(j, j->means, (size_t)channels, bands, channels, 1, d->statistics, w->index == 0, sums);
  double pixels = (double)x->height * x->width * (j->mode == MIRL_USE ? j->images : 1);
  for (int32_t i = 0; i < prompts; i++) {
    double sum = d->bias[i];
    for (int32_t c = 0; c < channels; c++) sum += d->select[i * channels + c] * (sums[c] / pixels);
    shares[i] = (float)sum;
    if (shares[i] > largest) largest = shares[i];
  }
  for (int32_t i = 0; i < prompts; i++) total += shares[i] = exponential(shares[i] - largest);
  int64_t size = (int64_t)d->shape.prompt_size * d->shape.prompt_size * d->shape.prompt_width;
  int64_t first = size * w->index / j->threads, last = size * (w->index + 1) / j->threads;
  for (int64_t k = first; k < last; k++) j->prompt[k] = 0;
  for (int32_t i = 0; i < prompts; i++) {
    float share = shares[i] / total;
    for (int64_t k = first; k < last; k++) j->prompt[k] += share * d->values[i * size + k];
  }
}

/* Where a bilinear sample lies: torch's interpolate with align_corners=False. */
typedef struct {
  int32_t low, high;
  float share; /* of the higher one */
} sample;

static sample sample_at(int32_t i, float scale, int32_t size) {
  float place = scale * ((float)i + 0.5f) - 0.5f;
  if (place < 0) place = 0;
  int32_t low = (int32_t)place;
  if (low > size - 1) low = size - 1;
  return (sample){low, low + 1 < size ? low + 1 : low, place - (float)low};
}

/* Resize the mixed prompt to a map. */
static void resize_prompt(const worker *w, const decoder_plan *d, const map *to) {
  const job *j = w->job;
  int32_t size = d->shape.prompt_size;
  float down = (float)size / (float)to->height, across = (float)size / (float)to->width;
  for (int32_t y = part(to->height, w->index, j->threads); y < part(to->height, w->index + 1, j->threads); y++) {
    sample v = sample_at(y, down, size);
    for (int32_t x = 0; x < to->width; x++) {
      sample u = sample_at(x, across, size);
      float *out = at(to, y, x);
      for (int32_t c = 0; c < d->shape.prompt_width; c++, out += to->step) {
        const float *low = j->prompt + ((ptrdiff_t)c * size + v.low) * size, *high = low + (ptrdiff_t)(v.high - v.low) * size;
        float above = (1 - u.share) * low[u.low] + u.share * low[u.high];
        float below = (1 - u.share) * high[u.low] + u.share * high[u.high];
        *out = (1 - v.share) * above + v.share * below;
      }
    }
  }
}

#endif
