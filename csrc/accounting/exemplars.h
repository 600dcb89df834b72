/*
 * exemplars.h - spans that stand for a bucket of their series, so that a metric leads to a trace. Drain only, not
 * installed.
 */
#ifndef RINGBUF_ACCOUNTING_EXEMPLARS_H
#define RINGBUF_ACCOUNTING_EXEMPLARS_H

#include "ringbuf.h"

/* [ABI] */
typedef struct rb_exemplar {
    int64_t place; /* which bucket of which series, as the caller numbers them */
    uint64_t end_unix_nano;
    int64_t seen_nano; /* CLOCK_MONOTONIC, when it was known to be delivered; 0: not yet */
    double nanos;      /* the span's duration */
    uint8_t trace_id[16];
    uint8_t span_id[8];
} rb_exemplar;
/* [/ABI] */

/* [COLD] */
/*
 * Write, of each place, the last record whose flags have all of these.
 *
 * places and nanos: of each record; a record whose place is not below place_count is passed over.
 * is_taken: place_count zeros.
 * exemplars: room for as many as there are records or places, whichever are fewer.
 *
 * Returns how many were written, or RB_E_ARGUMENT and writes nothing.
 */
int64_t rb_pick_exemplars(const void *records, uint64_t count, uint32_t slot_bytes, uint32_t flags,
                          const int64_t *places, const double *nanos, uint64_t place_count, uint8_t *is_taken,
                          rb_exemplar *exemplars);

/*
 * Put exemplars that are delivered into their places: in that of one that ended before it, or that was seen before
 * forget_nano. An end after now_unix_nano counts as now; a place that there is not is passed over.
 *
 * held: place_count of them, by place; zeros where there is none.
 *
 * Returns RB_OK, or RB_E_ARGUMENT and writes nothing.
 */
int rb_hold_exemplars(const rb_exemplar *exemplars, uint64_t count, uint64_t now_unix_nano, int64_t seen_nano,
                      int64_t forget_nano, rb_exemplar *held, uint64_t place_count);
/* [/COLD] */

#endif
