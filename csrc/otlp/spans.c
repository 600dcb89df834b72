/*
 * spans.c - which records are spans, for those who count or show them and write no OTLP: what protobuf.c and json.c
 * refuse is none here.
 */
#include "otlp/record.h"

static int is_sound_value(const rb_op *op, const uint8_t *value)
{
    uint32_t length_or_label = (uint32_t)(value[0] | value[1] << 8);
    switch (op->type) {
    case RB_TYPE_LABEL:
        return value[0] < op->label_count;
    case RB_OP_LABEL16:
        return length_or_label < op->label_count;
    case RB_TYPE_STR:
    case RB_TYPE_BYTES:
        return length_or_label <= op->size;
    case RB_TYPE_OTLP:
    case RB_TYPE_SCOPE:
        return length_or_label <= op->size && rb_otlp_split(op->type, value + 2, length_or_label, NULL);
    default:
        return 1;
    }
}

static int is_span(const rb_plan *plan, const uint8_t *record)
{
    if (!rb_is_core_sound(record, plan->span_name_count))
        return 0;
    const rb_op *op = plan->ops;
    for (uint32_t bits = rb_present(record) & plan->attributes; bits != 0; bits >>= 1, op++)
        if ((bits & 1) && !is_sound_value(op, record + op->offset))
            return 0;
    return 1;
}

int64_t rb_find_spans(const rb_plan *plan, const void *records, uint64_t count, uint8_t *are_spans)
{
    if (plan == NULL || (count && (records == NULL || are_spans == NULL)))
        return RB_E_ARGUMENT;
    const uint8_t *record = records;
    int64_t found = 0;
    for (uint64_t i = 0; i < count; i++, record += plan->slot_bytes)
        found += are_spans[i] = (uint8_t)is_span(plan, record);
    return found;
}
