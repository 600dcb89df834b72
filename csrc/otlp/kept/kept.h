/*
 * kept.h - what is written of spans that were sampled late: the rule that kept them, and what they stand for. Drain only,
 * not installed.
 *
 * A record has no room for either. They come from a small table beside the records: a row for each rule and threshold,
 * of which each record names one.
 */
#ifndef RINGBUF_OTLP_KEPT_H
#define RINGBUF_OTLP_KEPT_H

#include "ringbuf.h"

/* [ABI] */
typedef struct rb_kept_row {
    rb_text rule;      /* becomes `ringbuf.sampling.rule`, behind the layout's attributes */
    uint64_t stated;   /* 1 + T, which becomes the tracestate's `th`; 0: one that is there is taken out */
    uint64_t random;   /* 1 + R, the `rv` of a span that carries no tracestate; 0: R is that of its id */
    uint32_t is_alone; /* kept for itself, its trace was not: becomes `ringbuf.sampling.late`, true */
    uint32_t pad;
} rb_kept_row;

typedef struct rb_kept rb_kept;
/* [/ABI] */

/* A table is immutable: any number of threads may use it. */
/* [COLD] */
/* rb_kept_new - make a table. Returns: RB_OK and *kept; RB_E_ARGUMENT; RB_E_TOO_LARGE; RB_E_SYSTEM without memory. */
int rb_kept_new(const rb_kept_row *rows, uint32_t count, rb_kept **kept, rb_error *error);
/* rb_kept_free - free it; NULL is ignored. */
void rb_kept_free(rb_kept *kept);
/* rb_kept_protobuf_bound, rb_kept_json_bound - the most bytes by which a span grows beyond its plan's bound. */
uint64_t rb_kept_protobuf_bound(const rb_kept *kept);
uint64_t rb_kept_json_bound(const rb_kept *kept);

/*
 * rb_encode_kept_protobuf, rb_encode_kept_json - as rb_encode_protobuf and rb_encode_json, of spans that were kept.
 *
 * rows[i] is the row of record i; one that is not in the table makes it invalid. `out` needs room for both bounds.
 */
int64_t rb_encode_kept_protobuf(const rb_plan *plan, const rb_kept *kept, const uint16_t *rows, const void *records,
                                uint64_t count, void *out, uint64_t out_bytes, uint64_t *spans, uint64_t *invalid);
int64_t rb_encode_kept_json(const rb_plan *plan, const rb_kept *kept, const uint16_t *rows, const void *records,
                            uint64_t count, void *out, uint64_t out_bytes, uint64_t *spans, uint64_t *invalid);
/* [/COLD] */

#endif
