/*
 * pieces.h - the encode plan, as protobuf.c and json.c read it. Private.
 *
 * A plan is a layout made ready to be copied: every part of the output that does not depend on a record's values is a
 * piece of one constant array, `bytes`. Encoding a record is then: for each present attribute copy its piece, and write
 * what varies behind it. Every index that a record holds is checked before it is used.
 *
 * The plan has a bound for what a record takes. That the bound is right is for the tests to show; no write relies on it:
 * every writer has an `end`, and refuses what would go further.
 */
#ifndef RINGBUF_OTLP_PIECES_H
#define RINGBUF_OTLP_PIECES_H

#include "otlp/output.h"

/* A piece of up to this many bytes is copied at this fixed length, whatever its own: no call, no loop. */
#define RB_PROTOBUF_COPY 48
#define RB_JSON_COPY 96
#define RB_COPY_SLACK 96 /* what therefore lies behind the pieces */

/* How one attribute is written. protobuf.c and json.c say which pieces each type has. */
typedef struct rb_op {
    uint32_t type; /* enum rb_type, or RB_OP_LABEL16 */
    uint32_t offset;
    uint32_t size; /* of the value; str, bytes, otlp, scope: at most, without their length */
    uint32_t label_count;
    const rb_piece *protobuf;
    const rb_piece *json;
} rb_op;

enum { RB_OP_LABEL16 = RB_TYPE_SCOPE + 1 };

struct rb_plan {
    uint32_t slot_bytes;
    uint32_t span_name_count;
    uint32_t attributes; /* the bits of rb_record.present that stand for an attribute */
    uint32_t known;      /* those whose attribute has pieces: no otlp, no scope */
    uint32_t otlp_bit;   /* that of the `otlp` attribute, 0 without one */
    uint32_t root_bit;   /* RB_PRESENT_ROOT_THRESHOLD, 0 where an attribute has the bit */
    rb_op otlp;          /* its offset and size */
    const rb_piece *protobuf_names;
    const rb_piece *json_names;
    rb_piece protobuf_state; /* a tracestate with the root's threshold: empty where the ring knows none */
    rb_piece json_state;
    uint64_t root_threshold; /* T */
    uint64_t protobuf_bound; /* RB_END_SLACK included */
    uint64_t json_bound;
    uint8_t *bytes;
    rb_piece *pieces;
    rb_op ops[RB_MAX_ATTRIBUTES];
};

/* A write of up to `copy` bytes is of constant size, a larger one asks. */
static inline uint8_t *rb_put_piece(uint8_t *out, uint8_t *end, const rb_piece *piece, size_t copy)
{
    const uint8_t *data = piece->data;
    size_t bytes = piece->bytes;
    memcpy(out, data, copy);
    if (__builtin_expect(bytes > copy, 0)) {
        if (!rb_fits(out, end, bytes))
            return rb_refuse(end);
        memcpy(out + copy, data + copy, bytes - copy);
    }
    return out + bytes;
}

#endif
