/*
 * fields.c - which OTLP may lie in a record, and the check that it does.
 *
 * Source: opentelemetry-proto, trace.proto and common.proto; protobuf, "Encoding". Of Span these are the fields that a
 * record has no place for; a field that OTLP gains later is refused, since nobody could say here what it means.
 */
#include "otlp/fields.h"
#include "otlp/text.h"
#include "otlp/wire.h"

#define FIELD(kind, json) {RB_OTLP_##kind, 0, 0, 0, 0, "\"" json "\":"}
#define CHOICE(kind, json) {RB_OTLP_##kind, 0, 1, 0, 0, "\"" json "\":"}
#define ID(size, json) {RB_OTLP_ID, 0, 0, size, 0, "\"" json "\":"}
#define LIST(message, json) {RB_OTLP_NESTED, 1, 0, 0, RB_OTLP_##message, "\"" json "\":"}
#define ONE(message, json) {RB_OTLP_NESTED, 0, 1, 0, RB_OTLP_##message, "\"" json "\":"}

const rb_otlp_field rb_otlp_fields[RB_OTLP_MESSAGES][RB_OTLP_NUMBERS] = {
    [RB_OTLP_SPAN] = {[3] = FIELD(TEXT, "traceState"),
                      [5] = FIELD(TEXT, "name"),
                      [9] = LIST(KEY_VALUE, "attributes"),
                      [10] = FIELD(UINT32, "droppedAttributesCount"),
                      [11] = LIST(EVENT, "events"),
                      [12] = FIELD(UINT32, "droppedEventsCount"),
                      [13] = LIST(LINK, "links"),
                      [14] = FIELD(UINT32, "droppedLinksCount"),
                      [15] = ONE(STATUS, "status")},
    [RB_OTLP_SCOPE_SPANS] = {[1] = ONE(SCOPE, "scope"), [3] = FIELD(TEXT, "schemaUrl")},
    [RB_OTLP_SCOPE] = {[1] = FIELD(TEXT, "name"),
                       [2] = FIELD(TEXT, "version"),
                       [3] = LIST(KEY_VALUE, "attributes"),
                       [4] = FIELD(UINT32, "droppedAttributesCount")},
    [RB_OTLP_KEY_VALUE] = {[1] = FIELD(TEXT, "key"), [2] = ONE(ANY_VALUE, "value")},
    [RB_OTLP_ANY_VALUE] = {[1] = CHOICE(TEXT, "stringValue"),
                           [2] = CHOICE(BOOL, "boolValue"),
                           [3] = CHOICE(INT64, "intValue"),
                           [4] = CHOICE(DOUBLE, "doubleValue"),
                           [5] = ONE(ARRAY_VALUE, "arrayValue"),
                           [6] = ONE(KEY_VALUE_LIST, "kvlistValue"),
                           [7] = CHOICE(BYTES, "bytesValue")},
    [RB_OTLP_ARRAY_VALUE] = {[1] = LIST(ANY_VALUE, "values")},
    [RB_OTLP_KEY_VALUE_LIST] = {[1] = LIST(KEY_VALUE, "values")},
    [RB_OTLP_EVENT] = {[1] = FIELD(FIXED64, "timeUnixNano"),
                       [2] = FIELD(TEXT, "name"),
                       [3] = LIST(KEY_VALUE, "attributes"),
                       [4] = FIELD(UINT32, "droppedAttributesCount")},
    [RB_OTLP_LINK] = {[1] = ID(16, "traceId"),
                      [2] = ID(8, "spanId"),
                      [3] = FIELD(TEXT, "traceState"),
                      [4] = LIST(KEY_VALUE, "attributes"),
                      [5] = FIELD(UINT32, "droppedAttributesCount"),
                      [6] = FIELD(FIXED32, "flags")},
    [RB_OTLP_STATUS] = {[2] = FIELD(TEXT, "message")}, /* the code lies in the record, where metrics see it */
};

/* By kind; of an unknown field none. */
static const uint8_t wire_types[] = {8, 2, 2, 2, 2, 0, 0, 0, 5, 1, 1};

static int is_sound(uint32_t message, const uint8_t *at, const uint8_t *end, uint32_t depth);

static int is_sound_payload(const rb_otlp_field *field, const uint8_t *data, size_t bytes, uint32_t depth)
{
    int valid = 1;
    switch (field->kind) {
    case RB_OTLP_TEXT:
        rb_utf8_bytes(data, bytes, &valid);
        return valid;
    case RB_OTLP_ID:
        return bytes == field->size;
    case RB_OTLP_NESTED:
        return is_sound(field->message, data, data + bytes, depth + (field->message == RB_OTLP_ANY_VALUE));
    default:
        return 1;
    }
}

/* The end of the field at `at`, or NULL. The number `last` came before it. */
static const uint8_t *sound_field(uint32_t message, const uint8_t *at, const uint8_t *end, uint32_t last,
                                  uint32_t depth)
{
    uint32_t number = *at >> 3;
    if (number >= RB_OTLP_NUMBERS)
        return NULL;
    const rb_otlp_field *field = &rb_otlp_fields[message][number];
    /* In the order of their numbers and once: one that comes again would be another name in JSON's object. */
    if ((*at & 7) != wire_types[field->kind] || number < last || (number == last && !field->is_list))
        return NULL;
    uint64_t value = 0;
    switch (*at++ & 7) {
    case 0:
        at = rb_read_varint(at, end, &value);
        return field->kind == RB_OTLP_UINT32 && value > UINT32_MAX ? NULL : at;
    case 1:
        return end - at < 8 ? NULL : at + 8;
    case 5:
        return end - at < 4 ? NULL : at + 4;
    default:
        at = rb_read_varint(at, end, &value);
        if (at == NULL || value > (uint64_t)(end - at) || !is_sound_payload(field, at, (size_t)value, depth))
            return NULL;
        return at + value;
    }
}

static int is_sound(uint32_t message, const uint8_t *at, const uint8_t *end, uint32_t depth)
{
    uint32_t last = 0;
    int ids = 0;
    if (depth > RB_OTLP_MAX_DEPTH)
        return 0;
    while (at < end) {
        const uint8_t *next = sound_field(message, at, end, last, depth);
        if (next == NULL || (message == RB_OTLP_ANY_VALUE && last != 0)) /* a oneof */
            return 0;
        last = *at >> 3;
        ids += rb_otlp_fields[message][last].kind == RB_OTLP_ID;
        at = next;
    }
    return message != RB_OTLP_LINK || ids == 2; /* receivers refuse a request for a link without its ids */
}

static rb_piece *part_of(rb_otlp_parts *parts, uint32_t number)
{
    switch (number) {
    case 3:
        return &parts->trace_state;
    case 5:
        return &parts->name;
    case 15:
        return &parts->status;
    default:
        return &parts->lists;
    }
}

int rb_otlp_split(uint32_t type, const uint8_t *data, size_t bytes, rb_otlp_parts *parts)
{
    const uint8_t *at = data, *end = data + bytes;
    if (type != RB_TYPE_OTLP || parts == NULL)
        return is_sound(type == RB_TYPE_OTLP ? RB_OTLP_SPAN : RB_OTLP_SCOPE_SPANS, at, end, 0);
    *parts = (rb_otlp_parts){{NULL, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}};
    for (uint32_t last = 0; at < end;) {
        const uint8_t *next = sound_field(RB_OTLP_SPAN, at, end, last, 0);
        if (next == NULL)
            return 0;
        last = *at >> 3;
        rb_piece *part = part_of(parts, last);
        part->data = part->data == NULL ? at : part->data;
        part->bytes = (size_t)(next - part->data);
        at = next;
    }
    return 1;
}

rb_piece rb_otlp_payload(const rb_piece *field)
{
    uint64_t bytes = 0;
    if (field->data == NULL)
        return (rb_piece){NULL, 0};
    const uint8_t *data = rb_read_varint(field->data + 1, field->data + field->bytes, &bytes);
    return (rb_piece){data, (size_t)bytes};
}

int rb_otlp_is_sound(uint32_t type, const void *data, uint64_t bytes)
{
    return (data != NULL || bytes == 0) && rb_otlp_split(type, data, (size_t)bytes, NULL);
}
