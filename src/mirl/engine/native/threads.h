/* A barrier for the threads of one forward; nothing at all where there is one thread (WebAssembly). */
#ifndef MIRL_THREADS_H
#define MIRL_THREADS_H

#include <stdint.h>

#ifdef __wasm__
typedef struct {
  int32_t threads;
} barrier;
static inline void wait_for_all(barrier *b) { (void)b; }
#else
#include <pthread.h>

#define SPINS 100000 /* a fraction of a millisecond: passes of small images end at nearly the same time, waking a thread costs more */

typedef struct {
  pthread_mutex_t mutex;
  pthread_cond_t moved;
  int32_t threads, waiting, generation;
} barrier;

static inline void wait_for_all(barrier *b) {
  if (b->threads == 1) return;
  int32_t mine = __atomic_load_n(&b->generation, __ATOMIC_ACQUIRE);
  pthread_mutex_lock(&b->mutex);
  if (++b->waiting == b->threads) {
    b->waiting = 0;
    __atomic_store_n(&b->generation, mine + 1, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&b->moved);
    pthread_mutex_unlock(&b->mutex);
    return;
  }
  pthread_mutex_unlock(&b->mutex);
  for (int i = 0; i < SPINS; i++)
    if (__atomic_load_n(&b->generation, __ATOMIC_ACQUIRE) != mine) return;
  pthread_mutex_lock(&b->mutex);
  while (b->generation == mine) pthread_cond_wait(&b->moved, &b->mutex);
  pthread_mutex_unlock(&b->mutex);
}
#endif

#endif
