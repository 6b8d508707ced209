/* The whole network, as every thread runs it. Include once per instruction set, with MIRL_VECTOR_BYTES and VARIANT set. */
#include "pack.h"
#include "passes.h"

/* Run the blocks of a stage on `x`, alternating between it and the spare map, and return the map that holds the result. The
   features must be in `x` if the number of blocks is even or `anywhere`; otherwise in the spare map, so that they end in `x`. */
static map run_stage(const worker *w, int index, map x, map start) {
  job *j = w->job;
  const stage_plan *stage = &j->plan->stage[index];
  map spare = map_at(j->spare, stage->channels, x.height, x.width), now = start;
  for (int32_t i = 0; i < stage->count; i++) {
    const block_plan *b = &stage->blocks[i];
    const attention_plan *a = &b->attention;
    map next = now.data == spare.data ? x : spare;
    attend(w, a, &now);
    wait_for_all(&j->barrier);
    attention_rows(w, a, band_count(x.height));
    wait_for_all(&j->barrier);
    describe_mix(j, a, b->channels, w->work->mix);
    fill_mix(w, a, w->work->mix);
    wait_for_all(&j->barrier);
    transform(w, b, w->work->mix, &now, &next);
    wait_for_all(&j->barrier);
    now = next;
  }
  return now;
}

/* Where the features of a stage must be written for its result to end in `x`. */
static map start_of(const worker *w, int index, map x) {
  const job *j = w->job;
  const stage_plan *stage = &j->plan->stage[index];
  return stage->count % 2 ? map_at(j->spare, stage->channels, x.height, x.width) : x;
}

/* One level of the decoder: prompt and mix on `deep`, whose first channels hold the features; reduce, upsample, fuse with the
   encoder's half of `wide` into `start`. */
static void decode(const worker *w, int level, map deep, map wide, const map *start) {
  static const int mix_stages[] = {MIX1, MIX2, MIX3};
  job *j = w->job;
  const decoder_plan *d = &j->plan->decoder[level - 1];
  map prompt = map_at(j->values, d->shape.prompt_width, deep.height, deep.width), behind = from_channel(deep, d->shape.channels);
  sum_features(w, &deep, d->shape.channels);
  wait_for_all(&j->barrier);
  mix_prompt(w, d, &deep);
  wait_for_all(&j->barrier);
  resize_prompt(w, d, &prompt);
  wait_for_all(&j->barrier);
  convolve(w, &d->conv, &prompt, d->shape.prompt_width, &behind, KEEP);
  wait_for_all(&j->barrier);
  map mixed = run_stage(w, mix_stages[level - 1], deep, deep);
  map reduced = map_at(deep.data, d->shape.reduced, deep.height, deep.width); /* `deep` has been read for the last time */
  pointwise(w, &d->reduce, &mixed, &reduced);
  wait_for_all(&j->barrier);
  convolve(w, &d->up, &reduced, d->shape.reduced, &wide, SHUFFLE);
  wait_for_all(&j->barrier);
  if (d->shape.fused) {
    pointwise(w, &d->fuse, &wide, start);
    wait_for_all(&j->barrier);
  }
}

static void run(const worker *w) {
  job *j = w->job;
  const plan *p = j->plan;
  int32_t width = p->network.width;
  map encoded[] = {from_channel(j->full, width), from_channel(j->half, 2 * width), from_channel(j->quarter, 2 * width), j->eighth};
  static const int encoders[] = {ENCODER1, ENCODER2, ENCODER3, LATENT};
  read_image(w);
  wait_for_all(&j->barrier);
  map start = start_of(w, ENCODER1, encoded[0]);
  convolve(w, &p->embed, &j->input, 3, &start, KEEP);
  wait_for_all(&j->barrier);
  for (int i = 0; i < 4; i++) {
    run_stage(w, encoders[i], encoded[i], start);
    if (i == 3) break;
    start = start_of(w, encoders[i + 1], encoded[i + 1]);
    convolve(w, &p->down[i], &encoded[i], width << i, &start, UNSHUFFLE);
    wait_for_all(&j->barrier);
  }
  start = start_of(w, DECODER3, j->quarter_decoder);
  decode(w, 3, j->eighth, j->quarter, &start);
  run_stage(w, DECODER3, j->quarter_decoder, start);
  start = start_of(w, DECODER2, j->half_decoder);
  decode(w, 2, j->quarter_decoder, j->half, &start);
  run_stage(w, DECODER2, j->half_decoder, start);
  decode(w, 1, j->half_decoder, j->full, 0);
  map last = run_stage(w, DECODER1, j->full, j->full);
  last = run_stage(w, REFINEMENT, j->full, last);
  convolve(w, &p->output, &last, 2 * width, 0, IMAGE);
}

static size_t scratch_bytes(const plan *p, int32_t height, int32_t width, int32_t threads) {
  job j;
  return lay_out(&j, p, height, width, threads, 0);
}

#ifndef __wasm__
static void *run_thread(void *self) {
  worker *w = self;
  pthread_mutex_lock(&w->job->barrier.mutex); /* until the number of threads is known */
  pthread_mutex_unlock(&w->job->barrier.mutex);
  run(w);
  return 0;
}

/* Run on `threads` threads, this one included; fewer when the system refuses to make them. */
static void run_all(job *j) {
  worker workers[MIRL_THREADS];
  pthread_t threads[MIRL_THREADS];
  pthread_mutex_init(&j->barrier.mutex, 0);
  pthread_cond_init(&j->barrier.moved, 0);
  pthread_mutex_lock(&j->barrier.mutex);
  int32_t made = 1;
  for (; made < j->threads; made++) {
    workers[made] = (worker){j, &j->work[made], made};
    if (pthread_create(&threads[made], 0, run_thread, &workers[made])) break;
  }
  j->threads = j->barrier.threads = made;
  pthread_mutex_unlock(&j->barrier.mutex);
  workers[0] = (worker){j, &j->work[0], 0};
  run(&workers[0]);
  for (int32_t t = 1; t < made; t++) pthread_join(threads[t], 0);
  pthread_cond_destroy(&j->barrier.moved);
  pthread_mutex_destroy(&j->barrier.mutex);
}
#else
static void run_all(job *j) {
  worker w = {j, j->work, 0};
  run(&w);
}
#endif

static int32_t forward(const plan *p, const float *image, float *out, int32_t height, int32_t width, int32_t threads, void *scratch,
                       size_t bytes, float *statistics, int32_t mode, int32_t images) {
  job j;
  if ((uintptr_t)scratch % 64 || scratch_bytes(p, height, width, threads) > bytes) return MIRL_BAD_MEMORY;
  lay_out(&j, p, height, width, threads, scratch);
  j.plan = p;
  j.image = image;
  j.out = out;
  j.statistics = statistics;
  j.height = height;
  j.width = width;
  j.mode = statistics ? mode : MIRL_OWN;
  j.images = images > 0 ? images : 1;
  j.threads = j.barrier.threads = threads;
#ifndef __wasm__
  j.barrier.waiting = j.barrier.generation = 0;
#endif
  run_all(&j);
  allow(scratch, bytes);
  return 0;
}

const struct variant VARIANT = {VARIANT_NAME, plan_bytes, pack, scratch_bytes, forward};
