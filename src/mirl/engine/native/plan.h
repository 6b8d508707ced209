/* What a packed ticket is: for every layer what is left of it after dead channels are gone. */
#ifndef MIRL_PLAN_H
#define MIRL_PLAN_H

#include "network.h"

typedef struct {
  float weight;
  int32_t offset; /* of the input in the tile, in bytes */
} entry;

typedef struct {
  int32_t rows, entries; /* so many rows of so many entries each */
} run_of_rows;

/* An entry that two rows share: the input is loaded once for both. */
typedef struct {
  float weight[2];
  int32_t offset;
} twin;

typedef struct {
  int32_t pairs, both, single; /* so many pairs of rows with so many shared entries, and so many more in each row */
} run_of_pairs;

/* A linear map applied to every pixel: 1x1 convolution, or 3x3 on a tile that holds three rows. Either dense panels, or sparse
   rows, or sparse pairs of rows. Rows (pairs) with equally many entries stand together, so that the processor foresees the
   end of each: a mispredicted branch costs as much as ten entries. */
typedef struct linear {
  int32_t rows, cols;
  int32_t units;             /* of a tile that are walked together */
  const struct linear *next; /* sparse: the next block of columns, or NULL */
  const float *bias;         /* in the order of `row`; or NULL */
  const int32_t *row;        /* sparse: which row is computed when */
  const run_of_rows *runs;   /* rows: ended by one of 0 rows */
  const run_of_pairs *pairs; /* pairs: ended by one of 0 pairs */
  const twin *twins;
  const entry *entries;
  const float *panels;       /* dense: [rows / PANEL][cols][PANEL] */
  const int32_t *offsets;    /* dense: of each input in the tile, in floats */
} linear;

/* A depthwise 3x3 filter: all taps, and those that are not zero. */
typedef struct {
  float taps[9], weight[9];
  int8_t row[9], shift[9]; /* row of the window 0..2, column -1..1 */
  int32_t count;
} filter;

/* Where the channels of one attention head lie among those that live. */
typedef struct {
  int32_t q, queries;   /* first live query and their number */
  int32_t k, keys;      /* first key row in the tile (a multiple of UNIT) and number of live keys */
  int32_t v, values;    /* first live value and number */
  int32_t out, outputs; /* channels that reach the projection: first and number */
  int32_t gram;         /* where its rows (queries x padded keys) begin in the block's Gram matrix */
} head_plan;

/* Attention. Exact compaction: a channel is dead when its row of qkv or its filter is all zero. A dead value is dropped; an
   output that no column of the projection takes drops its query; a dead query attends evenly to all values; a dead key
   has logit 0. A head without live values or outputs vanishes. */
typedef struct {
  int32_t heads, width; /* channels of a head */
  int32_t queries, keys, key_rows, values, outputs;
  const head_plan *head;
  const int32_t *query_of_output; /* live query, or -1: attends evenly */
  const int32_t *key_of_value;    /* live key of the same head with the value's channel, or -1: logit 0 */
  const float *temperature;
  linear qkv;               /* queries, keys, values; LayerNorm's scale and shift folded in */
  const filter *filters;    /* of its rows */
  int fold;                 /* the projection is multiplied into the attention matrix */
  const int32_t *start;     /* the projection as sparse rows over outputs (weight, index), when folded */
  const entry *entries;
  linear project;           /* otherwise: outputs to channels */
  int32_t gram_size;        /* floats */
  size_t statistics;        /* where Gram matrix, squares of queries and of keys lie in the statistics */
} attention_plan;

/* Feed-forward. Pair j is dead when either row of expand, either filter or column j of project is all zero. */
typedef struct {
  int32_t pairs;
  linear expand; /* gates, then contents */
  const filter *filters;
  linear project;
} feed_forward_plan;

typedef struct {
  int32_t channels;
  attention_plan attention;
  feed_forward_plan feed_forward;
} block_plan;

typedef struct {
  const block_plan *blocks;
  int32_t count, channels, scale;
} stage_plan;

typedef struct {
  decoder_shape shape;
  int32_t prompts;
  const float *values, *select, *bias; /* values: [prompt][channel][row][column] */
  linear conv, reduce, up, fuse;
  size_t statistics; /* where the sums of the features lie */
} decoder_plan;

typedef struct {
  const struct variant *variant; /* which instruction set it was made for */
  mirl_network network;
  mirl_facts facts;
  linear embed, down[3], output;
  stage_plan stage[STAGES];
  decoder_plan decoder[3]; /* levels 1, 2, 3 */
  const int32_t *tile;     /* 0, STRIDE, 2 STRIDE, ...: where channels lie in a tile */
  size_t statistics;       /* floats in all */
  /* the most that any layer needs, for scratch */
  int32_t channels, hidden, key_rows, queries, values, outputs, conv_inputs, conv_outputs;
} plan;

/* One instruction set's functions. */
struct variant {
  const char *name;
  size_t (*plan_bytes)(const mirl_network *, const float *const *);
  int32_t (*pack)(const mirl_network *, const float *const *, void *, size_t, const struct variant *);
  size_t (*scratch_bytes)(const plan *, int32_t, int32_t, int32_t);
  int32_t (*forward)(const plan *, const float *, float *, int32_t, int32_t, int32_t, void *, size_t, float *, int32_t,
                     int32_t);
};

#endif
