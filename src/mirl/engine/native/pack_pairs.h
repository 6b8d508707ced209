/* Sparse rows in pairs that share as many inputs as possible; see sparse_pairs in kernels.h. */
#ifndef MIRL_PACK_PAIRS_H
#define MIRL_PACK_PAIRS_H

#define LOOK_AHEAD 16 /* rows among which a partner is sought */
#define GRAIN 2       /* pairs are told apart by their shared entries in steps of this, so that many are equal */

typedef struct {
  int32_t row[2], length, both; /* entries of the longer row, shared entries */
} pair;

static int32_t shared_entries(const source *s, int32_t a, int32_t b) {
  const float *x = source_row(s, a), *y = source_row(s, b);
  int32_t count = 0;
  for (int32_t k = 0; k < s->cols; k++) count += x[s->col[k]] != 0 && y[s->col[k]] != 0;
  return count;
}

/* Pair every row with the one of the next in length that shares most with it. Returns the number of pairs; with an odd number of
   rows the last stands with itself: computed twice, stored twice. */
static int32_t choose_pairs(const source *s, int32_t *row, const int32_t *entries, pair *pairs) {
  int32_t count = 0;
  for (int32_t i = 0; i < s->rows; i++) {
    int32_t best = -1, most_shared = -1;
    if (row[i] < 0) continue;
    for (int32_t j = i + 1, seen = 0; j < s->rows && seen < LOOK_AHEAD; j++) {
      if (row[j] < 0) continue;
      int32_t shared = shared_entries(s, row[i], row[j]);
      seen++;
      if (shared > most_shared) {
        most_shared = shared;
        best = j;
      }
    }
    if (best < 0) {
      pairs[count++] = (pair){{row[i], row[i]}, entries[row[i]], entries[row[i]]};
    } else {
      pairs[count++] = (pair){{row[i], row[best]}, entries[row[best]], most_shared};
      row[best] = -1;
    }
    pairs[count - 1].both -= pairs[count - 1].both % GRAIN;
  }
  return count;
}

/* Write row j's entries beyond the first `both` shared ones, filled up to `single` with entries of weight 0. */
static entry *put_singles(const source *s, const pair *p, int j, entry *e) {
  const float *other = source_row(s, p->row[1 - j]);
  entry *begin = e;
  int32_t shared = 0;
  for (int32_t k = 0; k < s->cols; k++) {
    int is_shared = source_row(s, p->row[j])[s->col[k]] != 0 && other[s->col[k]] != 0;
    if (is_shared && shared++ < p->both) continue;
    e = put_entry(s, p->row[j], k, e);
  }
  while (e - begin < p->length - p->both) *e++ = (entry){0, 0};
  return e;
}

static void build_pairs(arena *a, const source *s, const source *all, linear *out) {
  size_t most_pairs = ((size_t)s->rows + 1) / 2;
  int32_t *row = take(a, sizeof(int32_t) * 2 * (size_t)s->rows), *entries = row + s->rows;
  int32_t *order = take(a, sizeof(int32_t) * 2 * most_pairs);
  pair *pairs = take(a, sizeof(pair) * most_pairs);
  run_of_pairs *run = take(a, sizeof(run_of_pairs) * (most_pairs + 1));
  out->row = order;
  out->pairs = run;
  if (a->failed) return;
  order_rows(s, row, entries);
  int32_t found = choose_pairs(s, row, entries, pairs);
  for (int32_t i = 1; i < found; i++) { /* by length, then by shared entries; nearly sorted already */
    pair p = pairs[i];
    int32_t j = i;
    for (; j > 0 && (pairs[j - 1].length > p.length || (pairs[j - 1].length == p.length && pairs[j - 1].both > p.both)); j--)
      pairs[j] = pairs[j - 1];
    pairs[j] = p;
  }
  int64_t twins = 0, singles = 0;
  for (int32_t i = 0; i < found; i++) {
    twins += pairs[i].both;
    singles += 2 * (pairs[i].length - pairs[i].both);
  }
  twin *t = take(a, sizeof(twin) * (size_t)twins);
  entry *e = take(a, sizeof(entry) * (size_t)singles);
  out->twins = t;
  out->entries = e;
  if (a->failed) return;
  for (int32_t i = 0; i < found; i++) {
    const pair *p = &pairs[i];
    const float *x = source_row(s, p->row[0]), *y = source_row(s, p->row[1]);
    order[2 * i] = p->row[0];
    order[2 * i + 1] = p->row[1];
    if (i && p->length == p[-1].length && p->both == p[-1].both) run[-1].pairs++;
    else *run++ = (run_of_pairs){1, p->both, p->length - p->both};
    for (int32_t k = 0, done = 0; k < s->cols && done < p->both; k++) {
      float scale = s->scale ? s->scale[s->col[k]] : 1, one = x[s->col[k]], other = y[s->col[k]];
      if (one == 0 || other == 0) continue;
      *t++ = (twin){{one * scale, other * scale}, s->offset[k] * 4};
      done++;
    }
    e = put_singles(s, p, 0, e);
    e = put_singles(s, p, 1, e);
  }
  run->pairs = 0;
  if (s->shift) out->bias = build_bias(a, all, order, 2 * found);
}

#endif
