/*
 * json.c - records as OTLP/JSON, by the same plan as protobuf.c.
 *
 * Source: OTLP specification, "JSON Protobuf Encoding": hex ids, integer enums, 64-bit integers as strings. Members come
 * in the order of protobuf's field numbers and defaults are left out, as drain/otlp/json_lines.py has them; but a span
 * has `attributes` and `events`, also empty ones: there are receivers that refuse a request for a span without them.
 */
#include "otlp/json.h"
#include "otlp/fields_json.h"
#include "otlp/json_values.h"
#include "otlp/kept/pieces.h"
#include "otlp/record.h"
#include "otlp/text.h"
#include "otlp/wire.h"

#define PUT(out, literal) rb_put(out, literal, sizeof(literal) - 1)
#define BUILD(builder, literal) rb_build_bytes(builder, literal, sizeof(literal) - 1)

/* What a span takes at most without its name and attributes. */
static const char span_frame[] =
    "{\"traceId\":\"0123456789abcdef0123456789abcdef\",\"spanId\":\"0123456789abcdef\",\"parentSpanId\":"
    "\"0123456789abcdef\",\"traceState\":\"ot=th:0123456789abcd\","
    "\"kind\":0,\"startTimeUnixNano\":\"18446744073709551615\",\"endTimeUnixNano\":\"18446744073709551615\","
    "\"attributes\":[],\"events\":[],\"status\":{\"code\":0},\"flags\":4294967295},";

/*
 * An `otlp` grows to so many characters a byte at most, beside what may stand in a span once. tests/c/otlp/otlp_bound.c
 * works both out, from the table in fields.c.
 */
#define OTLP_GROWTH 12
static const char otlp_frame[] =
    ",\"traceState\":\"\",\"name\":\"\",\"droppedAttributesCount\":4294967295,\"events\":[],\"droppedEventsCount\":"
    "4294967295,"
    "\"links\":[],\"droppedLinksCount\":4294967295,\"status\":{\"message\":\"\",\"code\":0}";

uint64_t rb_json_span_bound(void) { return sizeof span_frame; }

void rb_build_json_state(rb_builder *builder, const char *state, size_t bytes)
{
    BUILD(builder, "\",\"traceState\":\"");
    rb_build_bytes(builder, state, bytes);
    rb_build_piece(builder);
}

uint64_t rb_build_json_names(rb_builder *builder, const rb_plan_config *config)
{
    uint64_t longest = 0;
    for (uint32_t i = 0; i < config->span_name_count && builder->status == RB_OK; i++) {
        BUILD(builder, ",\"name\":\"");
        rb_build_json_text(builder, &config->span_names[i]);
        BUILD(builder, "\"");
        uint64_t bytes = rb_build_piece(builder);
        longest = bytes > longest ? bytes : longest;
    }
    return longest;
}

/* ,{"key":"…","value":{"<value_name>":  and then `opening` */
static void build_head(rb_builder *builder, const rb_text *key, const char *value_name, const char *opening)
{
    BUILD(builder, ",{\"key\":\"");
    rb_build_json_text(builder, key);
    BUILD(builder, "\",\"value\":{\"");
    rb_build_bytes(builder, value_name, strlen(value_name));
    BUILD(builder, "\":");
    rb_build_bytes(builder, opening, strlen(opening));
}

/*
 * The pieces of an attribute:
 *   bool, label  the whole attribute, as in protobuf.c
 *   others       up to the value; u64: then the same for a string
 *   otlp, scope  none
 */
uint64_t rb_build_json_attribute(rb_builder *builder, const rb_plan_attribute *attribute)
{
    const rb_text *key = &attribute->key;
    uint64_t bound = 0;
    switch (attribute->type) {
    case RB_TYPE_BOOL:
        build_head(builder, key, "boolValue", "false}}");
        rb_build_piece(builder);
        build_head(builder, key, "boolValue", "true}}");
        return rb_build_piece(builder) + 1;
    case RB_TYPE_LABEL:
        for (uint32_t i = 0; i < attribute->label_count && builder->status == RB_OK; i++) {
            build_head(builder, key, "stringValue", "\"");
            rb_build_json_text(builder, &attribute->labels[i]);
            BUILD(builder, "\"}}");
            uint64_t bytes = rb_build_piece(builder);
            bound = bytes > bound ? bytes : bound;
        }
        return bound;
    case RB_TYPE_F64:
        build_head(builder, key, "doubleValue", "");
        return rb_build_piece(builder) + RB_MAX_DOUBLE_BYTES + sizeof "}}";
    case RB_TYPE_HEX:
        build_head(builder, key, "stringValue", "\"");
        return rb_build_piece(builder) + 2 * (uint64_t)attribute->size + sizeof "\"}}";
    case RB_TYPE_STR:
        build_head(builder, key, "stringValue", "\"");
        return rb_build_piece(builder) + 6 * (uint64_t)attribute->size + sizeof "\"}}";
    case RB_TYPE_BYTES:
        build_head(builder, key, "bytesValue", "\"");
        return rb_build_piece(builder) + ((uint64_t)attribute->size + 2) / 3 * 4 + sizeof "\"}}";
    case RB_TYPE_OTLP:
        return OTLP_GROWTH * (uint64_t)attribute->size + sizeof otlp_frame;
    case RB_TYPE_SCOPE:
        return 0;
    default:
        build_head(builder, key, "intValue", "\"");
        bound = rb_build_piece(builder) + sizeof "-9223372036854775808\"}}";
        if (attribute->type == RB_TYPE_U64) {
            build_head(builder, key, "stringValue", "\"");
            bound = rb_build_piece(builder) + sizeof "18446744073709551615\"}}";
        }
        return bound;
    }
}

/* ---- records ---- */

static inline uint8_t *put_piece(uint8_t *out, uint8_t *end, const rb_piece *piece)
{
    return rb_put_piece(out, end, piece, RB_JSON_COPY);
}

static inline __attribute__((always_inline)) uint8_t *put_attribute(uint8_t *out, uint8_t *end, const rb_op *op,
                                                                    const uint8_t *record)
{
    const uint8_t *value = record + op->offset;
    size_t bytes;
    switch (op->type) {
    case RB_TYPE_LABEL:
        return value[0] < op->label_count ? put_piece(out, end, op->json + value[0]) : rb_refuse(end);
    case RB_OP_LABEL16: {
        uint32_t label = (uint32_t)(value[0] | value[1] << 8);
        return label < op->label_count ? put_piece(out, end, op->json + label) : rb_refuse(end);
    }
    case RB_TYPE_BOOL:
        return put_piece(out, end, op->json + (value[0] != 0));
    case RB_TYPE_HEX:
        out = rb_put_hex(put_piece(out, end, op->json), end, value, op->size);
        return PUT(out, "\"}}");
    case RB_TYPE_F64:
        out = rb_json_double_put(put_piece(out, end, op->json), value);
        return PUT(out, "}}");
    case RB_TYPE_STR:
    case RB_TYPE_BYTES:
        bytes = (size_t)(value[0] | value[1] << 8);
        if (bytes > op->size)
            return rb_refuse(end);
        out = put_piece(out, end, op->json);
        out = op->type == RB_TYPE_STR ? rb_json_text_put(out, end, value + 2, bytes)
                                      : rb_json_base64_put(out, end, value + 2, bytes);
        return PUT(out, "\"}}");
    default: {
        uint64_t integer = rb_integer(op->type, value);
        out = put_piece(out, end, op->json + (op->type == RB_TYPE_U64 && integer > INT64_MAX));
        if (op->type <= RB_TYPE_I64 && integer > INT64_MAX) {
            *out++ = '-';
            integer = 0 - integer;
        }
        out = rb_put_decimal(out, integer);
        return PUT(out, "\"}}");
    }
    }
}

static uint8_t *put_payload(uint8_t *out, uint8_t *end, const rb_piece *field)
{
    rb_piece text = rb_otlp_payload(field);
    return rb_json_text_put(out, end, text.data, text.bytes);
}

/* As in protobuf.c. */
static uint8_t *put_kept_state(uint8_t *out, uint8_t *end, const rb_kept_pieces *kept, const rb_piece *carried)
{
    uint8_t state[RB_MAX_SLOT_BYTES + RB_THRESHOLD_GROWTH];
    rb_piece text = rb_otlp_payload(carried);
    if (text.bytes == 0)
        return put_piece(out, end, &kept->json.state);
    size_t bytes = rb_trace_state_with(state, text.data, text.bytes, kept->digits, kept->digit_count);
    return bytes == 0 ? out : rb_json_text_put(PUT(out, "\",\"traceState\":\""), end, state, bytes);
}

/* The message from the record's `otlp`, the code from its core. */
static uint8_t *put_status(uint8_t *out, uint8_t *end, const rb_otlp_parts *parts, uint32_t code)
{
    rb_piece status = rb_otlp_payload(&parts->status), message = rb_otlp_payload(&status);
    out = PUT(out, ",\"status\":{");
    if (message.bytes) {
        out = rb_json_text_put(PUT(out, "\"message\":\""), end, message.data, message.bytes);
        if (out > end)
            return out;
        out = code != 0 ? PUT(out, "\",") : PUT(out, "\"");
    }
    if (code != 0) {
        out = PUT(out, "\"code\":");
        *out++ = (uint8_t)('0' + code);
    }
    return PUT(out, "}");
}

/* One span and a comma; refused when the record is invalid. `has_otlp` and `kept` are as in protobuf.c. */
static inline __attribute__((always_inline)) uint8_t *put_span(uint8_t *out, uint8_t *end, const rb_plan *plan,
                                                               const uint8_t *record, int has_otlp,
                                                               const rb_kept_pieces *kept)
{
    const rb_any_record *any = (const rb_any_record *)record;
    rb_otlp_parts parts;
    if (!rb_is_core_sound(record, plan->span_name_count) || (has_otlp && !rb_otlp_of(plan, record, &parts)))
        return rb_refuse(end);
    uint8_t ids[32]; /* span_id and parent_span_id lie side by side */
    rb_put_hex16(ids, any->core.span_id);
    out = PUT(out, "{\"traceId\":\"");
    rb_put_hex16(out, any->core.trace_id);
    out = PUT(out + 32, "\",\"spanId\":\"");
    out = rb_put(out, ids, 16);
    if (kept != NULL) {
        if ((out = put_kept_state(out, end, kept, &parts.trace_state)) > end)
            return out;
    } else if (has_otlp && rb_otlp_payload(&parts.trace_state).bytes) {
        if ((out = put_payload(PUT(out, "\",\"traceState\":\""), end, &parts.trace_state)) > end)
            return out;
    } else if (rb_has_threshold(plan, any))
        out = put_piece(out, end, &plan->json_state);
    if (rb_word_at(any->core.parent_span_id) != 0)
        out = rb_put(PUT(out, "\",\"parentSpanId\":\""), ids + 16, 16);
    *out++ = '"';
    if (has_otlp && parts.name.data != NULL) {
        if (rb_otlp_payload(&parts.name).bytes) {
            out = put_payload(PUT(out, ",\"name\":\""), end, &parts.name);
            *out++ = '"';
        }
    } else
        out = put_piece(out, end, plan->json_names + any->core.name);
    if (out > end)
        return out;
    if (any->core.kind != 0) {
        out = PUT(out, ",\"kind\":");
        *out++ = (uint8_t)('0' + any->core.kind);
    }
    if (any->core.start_unix_nano != 0) {
        out = rb_put_decimal(PUT(out, ",\"startTimeUnixNano\":\""), any->core.start_unix_nano);
        *out++ = '"';
    }
    if (any->core.end_unix_nano != 0) {
        out = rb_put_decimal(PUT(out, ",\"endTimeUnixNano\":\""), any->core.end_unix_nano);
        *out++ = '"';
    }
    uint32_t bits = any->core.present & plan->known;
    const uint8_t *list_at = NULL, *list_end = NULL;
    int has_more = 0;
    if (has_otlp && parts.lists.bytes) {
        list_at = parts.lists.data;
        list_end = list_at + parts.lists.bytes;
        has_more = *list_at == SPAN_ATTRIBUTE;
    }
    out = PUT(out, ",\"attributes\":");
    uint8_t *list = out;
    for (const rb_op *op = plan->ops; bits != 0; bits >>= 1, op++) {
        if ((bits & 1) && (out = put_attribute(out, end, op, record)) > end)
            return out;
    }
    if (kept != NULL) {
        if ((out = put_piece(put_piece(out, end, &kept->json.rule), end, &kept->json.late)) > end)
            return out;
    }
    if (has_more && (out = rb_json_attributes_put(out, end, &list_at, list_end)) > end)
        return out;
    out += out == list;
    *list = '['; /* in the place of the first attribute's comma */
    if (has_otlp) {
        *out++ = ']';
        if ((out = rb_json_members_put(out, end, RB_OTLP_SPAN, list_at, list_end)) > end)
            return out;
    } else
        out = PUT(out, "],\"events\":[]");
    if (has_otlp && parts.status.data != NULL) {
        if ((out = put_status(out, end, &parts, any->core.status)) > end)
            return out;
    } else if (any->core.status != 0) {
        out = PUT(out, ",\"status\":{\"code\":");
        *out++ = (uint8_t)('0' + any->core.status);
        *out++ = '}';
    }
    if (any->core.flags != 0)
        out = rb_put_decimal(PUT(out, ",\"flags\":"), any->core.flags);
    return PUT(out, "},");
}

/* Apart, so that records without such an attribute get a loop of their own. */
static __attribute__((noinline)) uint8_t *put_otlp_span(uint8_t *out, uint8_t *end, const rb_plan *plan,
                                                        const uint8_t *record)
{
    return put_span(out, end, plan, record, 1, NULL);
}

static __attribute__((noinline)) uint8_t *put_kept_span(uint8_t *out, uint8_t *end, const rb_plan *plan,
                                                        const uint8_t *record, const rb_kept_pieces *kept)
{
    return kept != NULL ? put_span(out, end, plan, record, 1, kept) : rb_refuse(end);
}

/* `kept` is a constant where this is called: NULL, or not. */
static inline __attribute__((always_inline)) int64_t encode(const rb_plan *plan, const rb_kept *kept,
                                                            const uint16_t *rows, const void *records, uint64_t count,
                                                            void *out, uint64_t out_bytes, uint64_t *spans,
                                                            uint64_t *invalid)
{
    if (plan == NULL || (records == NULL && count) || (out == NULL && out_bytes) || spans == NULL || invalid == NULL)
        return RB_E_ARGUMENT;
    *spans = *invalid = 0;
    uint64_t bound = plan->json_bound + (kept != NULL ? kept->json_bound : 0);
    if (out_bytes < bound)
        return 0;
    const uint8_t *record = records;
    uint8_t *next = out, *limit = next + (out_bytes - bound);
    uint64_t skipped = 0, i;
    for (i = 0; i < count && next <= limit; i++, record += plan->slot_bytes) {
        uint8_t *end = next + (bound - RB_END_SLACK);
        uint8_t *stop = kept != NULL     ? put_kept_span(next, end, plan, record, rb_kept_row_of(kept, rows[i]))
                        : plan->otlp_bit ? put_otlp_span(next, end, plan, record)
                                         : put_span(next, end, plan, record, 0, NULL);
        skipped += stop > end;
        next = stop > end ? next : stop;
    }
    *spans = i - skipped;
    *invalid = skipped;
    return i == skipped ? 0 : next - (uint8_t *)out - 1; /* without the last comma */
}

int64_t rb_encode_json(const rb_plan *plan, const void *records, uint64_t count, void *out, uint64_t out_bytes,
                       uint64_t *spans, uint64_t *invalid)
{
    return encode(plan, NULL, NULL, records, count, out, out_bytes, spans, invalid);
}

int64_t rb_encode_kept_json(const rb_plan *plan, const rb_kept *kept, const uint16_t *rows, const void *records,
                            uint64_t count, void *out, uint64_t out_bytes, uint64_t *spans, uint64_t *invalid)
{
    if (kept == NULL || (rows == NULL && count))
        return RB_E_ARGUMENT;
    return encode(plan, kept, rows, records, count, out, out_bytes, spans, invalid);
}
