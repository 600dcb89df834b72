/*
 * span_codes.h - the series and the duration bucket of each span, as numbers. Drain only, not installed.
 *
 * A *code* stands for a span's name and the values of its labels: ((name * (v1 + 1) + l1) * (v2 + 1) + l2) ..., where l
 * is 0 for an attribute that the record has not, else 1 and its value. A *cell* is the first bound that is not below
 * the span's duration.
 */
#ifndef RINGBUF_ACCOUNTING_SPAN_CODES_H
#define RINGBUF_ACCOUNTING_SPAN_CODES_H

#include "accounting/exemplars.h"
#include "ringbuf.h"

/* [ABI] */
/* An attribute that is a label: an index below `values`, or a bool, which has two. */
typedef struct rb_span_label {
    uint32_t bit;    /* of `present` */
    uint32_t offset; /* in the record */
    uint32_t bytes;  /* 1 or 2 */
    uint32_t values; /* a value beyond them counts as one that is not there */
    uint8_t is_bool; /* any byte but 0 is true */
} rb_span_label;

/* What the records of one layout are counted by. */
typedef struct rb_span_form {
    uint32_t slot_bytes;
    uint32_t names; /* of spans; a record with another is passed over */
    const rb_span_label *labels;
    uint32_t label_count;
    uint32_t bound_count;
    const uint64_t *bounds_nano; /* ascending */
} rb_span_form;

enum { RB_BLOCK_CELLS = 32 }; /* four powers of two of the finest buckets: a series needs few blocks */

/* Where spans are counted: the cells of a row in blocks, which are there once something is counted in them. */
typedef struct rb_span_series {
    const int32_t *rows; /* of each code, the row of its series; negative: it has none yet */
    uint64_t code_count;
    const int32_t *blocks; /* of each row, and of each RB_BLOCK_CELLS of its cells: the block; 0: there is none yet */
    int64_t *counts;       /* of each block, RB_BLOCK_CELLS cells */
    uint64_t block_count;
    double *nanos; /* of each row, the sum of durations */
    uint64_t row_count;
} rb_span_series;

/* What spans of one look add, by the codes that occur, in the order of the first of each. */
typedef struct rb_span_tally {
    uint32_t *places; /* of each code: zeros, before and after */
    uint64_t code_count;
    uint64_t room; /* codes that there is room for below */
    int64_t *codes;
    double *nanos;    /* sum of durations */
    uint32_t *counts; /* by cell, of which there are bound_count + 1 */
    uint32_t *last;   /* likewise: 1 + the index of the last record whose flags have all of `flags`; 0: none */
    uint32_t flags;
    uint64_t found; /* how many codes occur */
} rb_span_tally;

/* A tally without what is zero: room for as many as it has cells, in each. */
typedef struct rb_tally_cells {
    int64_t *at; /* which of the codes that occur */
    int64_t *cells;
    int64_t *counts;
    rb_exemplar *exemplars; /* of each bucket that has one; NULL: none are wanted */
    uint64_t exemplar_count;
} rb_tally_cells;
/* [/ABI] */

/* [COLD] */
/*
 * Write each record's code, cell and duration; the code of one that is passed over is -1.
 *
 * Returns RB_OK, or RB_E_ARGUMENT and writes nothing.
 */
int rb_code_spans(const rb_span_form *form, const void *records, uint64_t count, int64_t *codes, int64_t *cells,
                  double *nanos);

/*
 * rb_count_spans - count records, in their order, up to the first whose code has no row yet, or whose cell no block;
 * one whose code is -1 is passed over.
 *
 * Returns: how many were counted or passed over; RB_E_ARGUMENT, also for a code, a row or a block that there is not.
 */
int64_t rb_count_spans(const rb_span_form *form, const void *records, uint64_t count, const rb_span_series *series);

/*
 * rb_tally_spans - sum records up, in their order, up to the first whose code has no room; one whose code is -1 is
 * passed over.
 *
 * Returns: how many were counted or passed over; RB_E_ARGUMENT, also for more records than an index can tell apart.
 */
int64_t rb_tally_spans(const rb_span_form *form, const void *records, uint64_t count, rb_span_tally *tally);

/*
 * rb_list_tally - write the cells of a tally that counted anything, and the last span of each bucket that has one.
 *
 * records: as rb_tally_spans had them.
 * rows: of each code that occurs: an exemplar's place is the row times `buckets`, and its bucket.
 * bucket_of_cell: of each cell, ascending; NULL: each is one.
 *
 * Returns how many cells were written, or RB_E_ARGUMENT.
 */
int64_t rb_list_tally(const rb_span_form *form, const void *records, uint64_t count, const rb_span_tally *tally,
                      const int64_t *rows, int64_t buckets, const int64_t *bucket_of_cell, rb_tally_cells *out);
/* [/COLD] */

#endif
