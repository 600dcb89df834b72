/*
 * pieces.h - a table of kept.h, as protobuf.c and json.c read it. Private.
 */
#ifndef RINGBUF_OTLP_KEPT_PIECES_H
#define RINGBUF_OTLP_KEPT_PIECES_H

#include "otlp/kept/kept.h"
#include "otlp/kept/trace_state.h"
#include "otlp/pieces.h"

/* One encoding's pieces of a row. */
typedef struct rb_row_pieces {
    rb_piece state; /* of a span that carries no tracestate; empty where it states nothing */
    rb_piece rule;
    rb_piece late; /* empty unless is_alone */
} rb_row_pieces;

typedef struct rb_kept_pieces {
    rb_row_pieces protobuf;
    rb_row_pieces json;
    size_t digit_count;
    char digits[RB_MAX_THRESHOLD_BYTES + 1]; /* of the threshold */
} rb_kept_pieces;

struct rb_kept {
    uint32_t count;
    uint64_t protobuf_bound;
    uint64_t json_bound;
    uint8_t *bytes;
    rb_kept_pieces rows[];
};

static inline const rb_kept_pieces *rb_kept_row_of(const rb_kept *kept, uint16_t row)
{
    return row < kept->count ? &kept->rows[row] : NULL;
}

#endif
