/*
 * record.h - what a record holds, as both encoders read it. Private.
 */
#ifndef RINGBUF_OTLP_RECORD_H
#define RINGBUF_OTLP_RECORD_H

#include "otlp/fields.h"
#include "otlp/pieces.h"
#include "shared/record.h"

/* Records of a caller's buffer may lie at any address. */
typedef struct __attribute__((packed, may_alias)) rb_any_record {
    rb_record core;
} rb_any_record;

static inline uint32_t rb_present(const uint8_t *record)
{
    uint32_t bits;
    memcpy(&bits, record + offsetof(rb_record, present), sizeof bits);
    return bits;
}

/* Any integer type, sign-extended to 64 bits. */
static inline uint64_t rb_integer(uint32_t type, const uint8_t *value)
{
    uint64_t bits = 0;
    switch (type) {
    case RB_TYPE_I8:
        return (uint64_t)(int64_t)(int8_t)value[0];
    case RB_TYPE_U8:
        return value[0];
    case RB_TYPE_I16:
        memcpy(&bits, value, 2);
        return (uint64_t)(int64_t)(int16_t)bits;
    case RB_TYPE_U16:
        memcpy(&bits, value, 2);
        return bits;
    case RB_TYPE_I32:
        memcpy(&bits, value, 4);
        return (uint64_t)(int64_t)(int32_t)bits;
    case RB_TYPE_U32:
        memcpy(&bits, value, 4);
        return bits;
    default:
        memcpy(&bits, value, 8);
        return bits;
    }
}

/*
 * A span of a trace that its ring's sampler kept: what it stands for is known. One that T would not keep went by another
 * sampler.
 */
static inline int rb_has_threshold(const rb_plan *plan, const rb_any_record *any)
{
    uint64_t low;
    memcpy(&low, any->core.trace_id + 8, 8);
    return plan->protobuf_state.bytes && (any->core.flags & (RB_SPAN_SAMPLED | RB_SPAN_RANDOM)) == 3 &&
           (rb_word_at(any->core.parent_span_id) == 0 || any->core.present & plan->root_bit) &&
           (__builtin_bswap64(low) & (RB_THRESHOLDS - 1)) >= plan->root_threshold;
}

/* The `otlp` of a record: 1 and its parts, 0 when it is not sound or too long. Absent: 1, and all parts are. */
static inline int rb_otlp_of(const rb_plan *plan, const uint8_t *record, rb_otlp_parts *parts)
{
    const uint8_t *value = record + plan->otlp.offset;
    size_t bytes = (size_t)(value[0] | value[1] << 8);
    if (!(rb_present(record) & plan->otlp_bit))
        bytes = 0;
    return bytes <= plan->otlp.size && rb_otlp_split(RB_TYPE_OTLP, value + 2, bytes, parts);
}

#endif
