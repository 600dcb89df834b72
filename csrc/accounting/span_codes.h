/*
 * span_codes.h - the series and the duration bucket of each span, as numbers. Drain only, not installed.
 *
 * A *code* stands for a span's name and the values of its labels: ((name * (v1 + 1) + l1) * (v2 + 1) + l2) ..., where l
 * is 0 for an attribute that the record has not, else 1 and its value. A *cell* is the first bound that is not below
 * the span's duration.
 */
#ifndef RINGBUF_ACCOUNTING_SPAN_CODES_H
#define RINGBUF_ACCOUNTING_SPAN_CODES_H

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
/* [/COLD] */

#endif
