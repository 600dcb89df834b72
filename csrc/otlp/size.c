/*
 * size.c - how many bytes records take as protobuf, for those who write them later: what protobuf.c refuses is no span
 * here either, and the sum is to the byte.
 */
#include "otlp/record.h"
#include "otlp/wire.h"

/* Of a span's fields, with their tags. */
#define IDS_BYTES 28u
#define PARENT_BYTES 10u
#define KIND_BYTES 2u
#define TIME_BYTES 9u
#define STATUS_BYTES 4u
#define FLAGS_BYTES 6u

static uint64_t integer_bytes(const rb_op *op, uint64_t value)
{
    if (op->type == RB_TYPE_U64 && value > INT64_MAX) {
        uint32_t digits = 19 + (value >= 10000000000000000000u);
        return op->protobuf[digits - 9].bytes + digits;
    }
    uint32_t bytes = rb_varint_bytes(value);
    return op->protobuf[bytes - 1].bytes + bytes;
}

/* 0: a label is out of bounds. */
static inline uint64_t attribute_bytes(const rb_op *op, const uint8_t *value)
{
    uint32_t label = value[0];
    switch (op->type) {
    case RB_OP_LABEL16:
        label |= (uint32_t)value[1] << 8;
        /* fall through */
    case RB_TYPE_LABEL:
        return label < op->label_count ? op->protobuf[label].bytes : 0;
    case RB_TYPE_HEX:
        return op->protobuf->bytes + 2 * (uint64_t)op->size;
    case RB_TYPE_BOOL:
        return op->protobuf[value[0] != 0].bytes;
    case RB_TYPE_F64:
        return op->protobuf->bytes + 8;
    default:
        return integer_bytes(op, rb_integer(op->type, value));
    }
}

/* With its tag and length; 0: it is no span. */
static inline uint64_t span_bytes(const rb_plan *plan, const uint8_t *record)
{
    const rb_any_record *any = (const rb_any_record *)record;
    if (!rb_is_core_sound(record, plan->span_name_count))
        return 0;
    uint64_t bytes = IDS_BYTES + plan->protobuf_names[any->core.name].bytes;
    bytes += rb_has_threshold(plan, any) ? plan->protobuf_state.bytes : 0;
    bytes += rb_word_at(any->core.parent_span_id) != 0 ? PARENT_BYTES : 0;
    bytes += any->core.kind != 0 ? KIND_BYTES : 0;
    bytes += (any->core.start_unix_nano != 0 ? TIME_BYTES : 0) + (any->core.end_unix_nano != 0 ? TIME_BYTES : 0);
    bytes += (any->core.status != 0 ? STATUS_BYTES : 0) + (any->core.flags != 0 ? FLAGS_BYTES : 0);
    const rb_op *op = plan->ops;
    for (uint32_t bits = any->core.present & plan->known; bits != 0; bits >>= 1, op++) {
        if (!(bits & 1))
            continue;
        uint64_t of_attribute = attribute_bytes(op, record + op->offset);
        if (of_attribute == 0)
            return 0;
        bytes += of_attribute;
    }
    return 1 + rb_varint_bytes(bytes) + bytes;
}

static int has_text(const rb_plan *plan)
{
    int found = plan->attributes != plan->known;
    const rb_op *op = plan->ops;
    for (uint32_t bits = plan->known; bits != 0; bits >>= 1, op++)
        found |= (bits & 1) && (op->type == RB_TYPE_STR || op->type == RB_TYPE_BYTES);
    return found;
}

int64_t rb_protobuf_bytes(const rb_plan *plan, const void *records, uint64_t count, uint64_t *spans, uint64_t *invalid)
{
    if (plan == NULL || (records == NULL && count) || spans == NULL || invalid == NULL || has_text(plan))
        return RB_E_ARGUMENT;
    const uint8_t *record = records;
    uint64_t bytes = 0, found = 0;
    for (uint64_t i = 0; i < count; i++, record += plan->slot_bytes) {
        uint64_t of_span = span_bytes(plan, record);
        bytes += of_span;
        found += of_span != 0;
    }
    *spans = found;
    *invalid = count - found;
    return (int64_t)bytes;
}
