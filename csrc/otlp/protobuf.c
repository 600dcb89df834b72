/*
 * protobuf.c - records as protobuf.
 *
 * Source: opentelemetry-proto, trace.proto and common.proto; protobuf, "Encoding". Fields come in the order of their
 * numbers and defaults are left out: the bytes are those of protobuf's own serialiser.
 */
#include "otlp/protobuf.h"
#include "otlp/kept/pieces.h"
#include "otlp/record.h"
#include "otlp/text.h"
#include "otlp/wire.h"

/* What a span takes at most without its name and attributes; each term is a field with tag and length. */
#define SPAN_BOUND (1 + RB_MAX_VARINT_BYTES + 18 + 10 + 22 + 10 + 2 + 9 + 9 + 4 + 6)

uint64_t rb_protobuf_span_bound(void) { return SPAN_BOUND; }

/* ---- pieces ---- */

static void build_varint(rb_builder *builder, uint64_t value)
{
    uint8_t bytes[RB_MAX_VARINT_BYTES];
    rb_build_bytes(builder, bytes, (size_t)(rb_put_varint(bytes, value, rb_varint_bytes(value)) - bytes));
}

static size_t utf8_bytes(const rb_text *text)
{
    int valid;
    return rb_utf8_bytes((const uint8_t *)text->data, text->bytes, &valid);
}

/* A length-delimited value: length and text. */
static void build_text(rb_builder *builder, const rb_text *text)
{
    size_t bytes = utf8_bytes(text);
    build_varint(builder, bytes);
    rb_build_utf8(builder, text, bytes);
}

static void build_tag(rb_builder *builder, uint8_t tag) { rb_build_bytes(builder, &tag, 1); }

/* What a KeyValue begins with: the key, and the tag of the AnyValue. */
static void build_key(rb_builder *builder, const rb_text *key)
{
    build_tag(builder, KEY_VALUE_KEY);
    build_text(builder, key);
    build_tag(builder, KEY_VALUE_VALUE);
}

/*
 * What an attribute begins with, up to and with the value's own tag; `value_bytes` is what follows that tag. Returns
 * how many bytes the attribute has in all.
 */
static uint64_t build_head(rb_builder *builder, const rb_text *key, uint8_t value_tag, uint64_t value_bytes)
{
    size_t start = builder->byte_count, key_bytes = utf8_bytes(key);
    key_bytes = 1 + rb_varint_bytes(key_bytes) + key_bytes + 1;
    build_tag(builder, SPAN_ATTRIBUTE);
    build_varint(builder, key_bytes + rb_varint_bytes(1 + value_bytes) + 1 + value_bytes);
    build_key(builder, key);
    build_varint(builder, 1 + value_bytes);
    build_tag(builder, value_tag);
    return (builder->byte_count - start) + value_bytes;
}

static uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

/*
 * The pieces of an attribute:
 *   bool     the whole attribute: false, true
 *   label    the whole attribute: one for each label
 *   integer  up to the varint: one for each of its lengths, 1 to 10; u64: then one with a string of 19 and of 20 digits
 *   f64      up to the value
 *   hex      up to the digits
 *   str, bytes  key and the tag of the AnyValue: what lies around depends on the length
 *   otlp, scope  none
 * Returns the most bytes that the attribute takes in a record.
 */
uint64_t rb_build_protobuf_attribute(rb_builder *builder, const rb_plan_attribute *attribute)
{
    const rb_text *key = &attribute->key;
    uint64_t bound = 0;
    switch (attribute->type) {
    case RB_TYPE_BOOL:
        for (uint8_t value = 0; value <= 1; value++) {
            bound = build_head(builder, key, VALUE_BOOL, 1);
            build_varint(builder, value);
            rb_build_piece(builder);
        }
        return bound;
    case RB_TYPE_LABEL:
        for (uint32_t i = 0; i < attribute->label_count && builder->status == RB_OK; i++) {
            size_t bytes = utf8_bytes(&attribute->labels[i]);
            bound = larger(bound, build_head(builder, key, VALUE_STRING, rb_varint_bytes(bytes) + bytes));
            build_text(builder, &attribute->labels[i]);
            rb_build_piece(builder);
        }
        return bound;
    case RB_TYPE_F64:
        bound = build_head(builder, key, VALUE_DOUBLE, 8);
        rb_build_piece(builder);
        return bound;
    case RB_TYPE_HEX: {
        uint64_t digits = 2 * (uint64_t)attribute->size;
        bound = build_head(builder, key, VALUE_STRING, rb_varint_bytes(digits) + digits);
        build_varint(builder, digits);
        rb_build_piece(builder);
        return bound;
    }
    case RB_TYPE_STR:
    case RB_TYPE_BYTES:
        build_key(builder, key);
        return rb_build_piece(builder) + 2 + 3 * RB_MAX_VARINT_BYTES + 3 * (uint64_t)attribute->size;
    case RB_TYPE_OTLP: /* copied; a status message, whose length may grow by that of the code, gets a shorter one */
        return attribute->size + RB_MAX_VARINT_BYTES;
    case RB_TYPE_SCOPE:
        return 0;
    default:
        for (uint32_t bytes = 1; bytes <= RB_MAX_VARINT_BYTES; bytes++) {
            bound = build_head(builder, key, VALUE_INT, bytes);
            rb_build_piece(builder);
        }
        for (uint8_t digits = 19; attribute->type == RB_TYPE_U64 && digits <= 20; digits++) {
            bound = build_head(builder, key, VALUE_STRING, 1 + (uint64_t)digits);
            build_varint(builder, digits);
            rb_build_piece(builder);
        }
        return bound;
    }
}

void rb_build_protobuf_state(rb_builder *builder, const char *state, size_t bytes)
{
    build_tag(builder, SPAN_TRACE_STATE);
    build_varint(builder, bytes);
    rb_build_bytes(builder, state, bytes);
    rb_build_piece(builder);
}

uint64_t rb_build_protobuf_names(rb_builder *builder, const rb_plan_config *config)
{
    uint64_t longest = 0;
    for (uint32_t i = 0; i < config->span_name_count && builder->status == RB_OK; i++) {
        build_tag(builder, SPAN_NAME);
        build_text(builder, &config->span_names[i]);
        longest = larger(longest, rb_build_piece(builder));
    }
    return longest;
}

/* ---- records ---- */

static inline uint8_t *put_piece(uint8_t *out, uint8_t *end, const rb_piece *piece)
{
    return rb_put_piece(out, end, piece, RB_PROTOBUF_COPY);
}

static inline uint8_t *put_length(uint8_t *out, uint64_t length)
{
    return rb_put_varint(out, length, rb_varint_bytes(length));
}

/* A str or bytes, whose lengths are only known now. */
static uint8_t *put_text(uint8_t *out, uint8_t *end, const rb_op *op, const uint8_t *value)
{
    size_t bytes = (size_t)(value[0] | value[1] << 8);
    if (bytes > op->size)
        return rb_refuse(end);
    int is_str = op->type == RB_TYPE_STR;
    int valid = 1;
    size_t out_bytes = is_str ? rb_utf8_bytes(value + 2, bytes, &valid) : bytes;
    uint64_t any_value_bytes = 1 + rb_varint_bytes(out_bytes) + out_bytes;
    *out++ = SPAN_ATTRIBUTE;
    out = put_length(out, op->protobuf->bytes + rb_varint_bytes(any_value_bytes) + any_value_bytes);
    out = put_piece(out, end, op->protobuf);
    out = put_length(out, any_value_bytes);
    *out++ = is_str ? VALUE_STRING : VALUE_BYTES;
    out = put_length(out, out_bytes);
    return valid ? rb_put_if_fits(out, end, value + 2, bytes) : rb_utf8_put(out, end, value + 2, bytes);
}

static inline uint8_t *put_integer(uint8_t *out, uint8_t *end, const rb_op *op, uint64_t value)
{
    uint32_t bytes = rb_varint_bytes(value);
    return rb_put_varint(put_piece(out, end, op->protobuf + bytes - 1), value, bytes);
}

static uint8_t *put_large_integer(uint8_t *out, uint8_t *end, const rb_op *op, uint64_t value)
{
    return rb_put_decimal(put_piece(out, end, op->protobuf + 10 + (value >= 10000000000000000000u)), value);
}

static inline __attribute__((always_inline)) uint8_t *put_attribute(uint8_t *out, uint8_t *end, const rb_op *op,
                                                                    const uint8_t *record)
{
    const uint8_t *value = record + op->offset;
    uint32_t label;
    uint64_t integer;
    switch (op->type) {
    case RB_TYPE_LABEL:
        return value[0] < op->label_count ? put_piece(out, end, op->protobuf + value[0]) : rb_refuse(end);
    case RB_OP_LABEL16:
        label = (uint32_t)(value[0] | value[1] << 8);
        return label < op->label_count ? put_piece(out, end, op->protobuf + label) : rb_refuse(end);
    case RB_TYPE_HEX:
        return rb_put_hex(put_piece(out, end, op->protobuf), end, value, op->size);
    case RB_TYPE_BOOL:
        return put_piece(out, end, op->protobuf + (value[0] != 0));
    case RB_TYPE_F64:
        return rb_put(put_piece(out, end, op->protobuf), value, 8);
    case RB_TYPE_STR:
    case RB_TYPE_BYTES:
        return put_text(out, end, op, value);
    case RB_TYPE_U64:
        integer = rb_word_at(value);
        return integer <= INT64_MAX ? put_integer(out, end, op, integer) : put_large_integer(out, end, op, integer);
    case RB_TYPE_I8:
    case RB_TYPE_I16:
    case RB_TYPE_I32:
    case RB_TYPE_I64:
    case RB_TYPE_U8:
    case RB_TYPE_U16:
    case RB_TYPE_U32:
        return put_integer(out, end, op, rb_integer(op->type, value));
    default: /* rb_plan_new lets no other through */
        __builtin_unreachable();
    }
}

static inline void put16(uint8_t *out, uint32_t value)
{
    uint16_t low = (uint16_t)value;
    memcpy(out, &low, 2);
}

static inline uint8_t *put_time(uint8_t *out, uint8_t tag, uint64_t unix_nano)
{
    out[0] = tag;
    memcpy(out + 1, &unix_nano, 8);
    return out + (unix_nano != 0 ? 9 : 0);
}

static uint8_t *put_name(uint8_t *out, uint8_t *end, const rb_otlp_parts *parts)
{
    if (rb_otlp_payload(&parts->name).bytes == 0)
        return out;
    return rb_put_if_fits(out, end, parts->name.data, parts->name.bytes);
}

/* The tracestate that a span carries, with the threshold by which it was kept; of one that carries none the row's. */
static uint8_t *put_kept_state(uint8_t *out, uint8_t *end, const rb_kept_pieces *kept, const rb_piece *carried)
{
    uint8_t state[RB_MAX_SLOT_BYTES + RB_THRESHOLD_GROWTH];
    rb_piece text = rb_otlp_payload(carried);
    if (text.bytes == 0)
        return put_piece(out, end, &kept->protobuf.state);
    size_t bytes = rb_trace_state_with(state, text.data, text.bytes, kept->digits, kept->digit_count);
    if (bytes == 0)
        return out;
    *out++ = SPAN_TRACE_STATE;
    return rb_put_if_fits(put_length(out, bytes), end, state, bytes);
}

/* The message from the record's `otlp`, the code from its core: one field, since not every reader merges two. */
static uint8_t *put_status(uint8_t *out, uint8_t *end, const rb_otlp_parts *parts, uint32_t code)
{
    rb_piece status = rb_otlp_payload(&parts->status);
    if (parts->status.data == NULL && code == 0)
        return out;
    *out++ = SPAN_STATUS;
    out = put_length(out, status.bytes + (code != 0 ? 2 : 0));
    if (status.bytes && (out = rb_put_if_fits(out, end, status.data, status.bytes)) > end)
        return out;
    put16(out, STATUS_CODE | code << 8);
    return out + (code != 0 ? 2 : 0);
}

/*
 * One span; refused when the record is invalid. What is left out is written all the same, and then written over.
 * `has_otlp` is a constant where this is called: whether the layout has such an attribute; so is whether there is a
 * `kept`.
 */
static inline __attribute__((always_inline)) uint8_t *put_span(uint8_t *span, uint8_t *end, const rb_plan *plan,
                                                               const uint8_t *record, int has_otlp,
                                                               const rb_kept_pieces *kept)
{
    const rb_any_record *any = (const rb_any_record *)record;
    rb_otlp_parts parts;
    if (!rb_is_core_sound(record, plan->span_name_count) || (has_otlp && !rb_otlp_of(plan, record, &parts)))
        return rb_refuse(end);

    uint8_t *start = span + 3, *out = start; /* two bytes of length: nearly all spans */
    put16(out, SPAN_TRACE_ID | 16 << 8);
    memcpy(out + 2, any->core.trace_id, 16);
    put16(out + 18, SPAN_SPAN_ID | 8 << 8);
    memcpy(out + 20, any->core.span_id, 8);
    out += 28;
    if (kept != NULL) {
        if ((out = put_kept_state(out, end, kept, &parts.trace_state)) > end)
            return out;
    } else if (has_otlp && rb_otlp_payload(&parts.trace_state).bytes) {
        if ((out = rb_put_if_fits(out, end, parts.trace_state.data, parts.trace_state.bytes)) > end)
            return out;
    } else if (rb_has_threshold(plan, any))
        out = put_piece(out, end, &plan->protobuf_state);
    put16(out, SPAN_PARENT_SPAN_ID | 8 << 8);
    memcpy(out + 2, any->core.parent_span_id, 8);
    out += rb_word_at(any->core.parent_span_id) != 0 ? 10 : 0;

    if (has_otlp && parts.name.data != NULL)
        out = put_name(out, end, &parts);
    else
        out = put_piece(out, end, &plan->protobuf_names[any->core.name]);
    put16(out, SPAN_KIND | (uint32_t)any->core.kind << 8);
    out += any->core.kind != 0 ? 2 : 0;
    out = put_time(out, SPAN_START, any->core.start_unix_nano);
    out = put_time(out, SPAN_END, any->core.end_unix_nano);
    if (out > end)
        return out;

    const rb_op *op = plan->ops;
    for (uint32_t bits = any->core.present & plan->known; bits != 0; bits >>= 1, op++) {
        if ((bits & 1) && (out = put_attribute(out, end, op, record)) > end)
            return out;
    }

    if (kept != NULL) {
        if ((out = put_piece(put_piece(out, end, &kept->protobuf.rule), end, &kept->protobuf.late)) > end)
            return out;
    }

    uint32_t status = any->core.status, flags = any->core.flags;
    if (has_otlp) {
        if (parts.lists.bytes && (out = rb_put_if_fits(out, end, parts.lists.data, parts.lists.bytes)) > end)
            return out;
        if ((out = put_status(out, end, &parts, status)) > end)
            return out;
    } else {
        put16(out, SPAN_STATUS | 2 << 8);
        put16(out + 2, STATUS_CODE | status << 8);
        out += status != 0 ? 4 : 0;
    }
    put16(out, (SPAN_FLAGS & 0x7f) | 0x80 | SPAN_FLAGS >> 7 << 8);
    memcpy(out + 2, &flags, 4);
    out += flags != 0 ? 6 : 0;
    if (out > end)
        return out;

    size_t bytes = (size_t)(out - start);
    span[0] = SCOPE_SPANS_SPAN;
    if (__builtin_expect(bytes >= 128 && bytes < 128 * 128, 1)) {
        put16(span + 1, (uint32_t)((bytes & 0x7f) | 0x80 | bytes >> 7 << 8));
        return out;
    }
    uint32_t length_bytes = rb_varint_bytes(bytes);
    memmove(span + 1 + length_bytes, start, bytes);
    uint8_t length[RB_MAX_VARINT_BYTES];
    rb_put_varint(length, bytes, length_bytes);
    memcpy(span + 1, length, length_bytes);
    return span + 1 + length_bytes + bytes;
}

/* Apart, so that records without such an attribute get a loop of their own. */
static __attribute__((noinline)) uint8_t *put_otlp_span(uint8_t *out, uint8_t *end, const rb_plan *plan,
                                                        const uint8_t *record)
{
    return put_span(out, end, plan, record, 1, NULL);
}

/* Where the layout has no such attribute, all parts of it are absent. */
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
    uint64_t bound = plan->protobuf_bound + (kept != NULL ? kept->protobuf_bound : 0);
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
    return next - (uint8_t *)out;
}

int64_t rb_encode_protobuf(const rb_plan *plan, const void *records, uint64_t count, void *out, uint64_t out_bytes,
                           uint64_t *spans, uint64_t *invalid)
{
    return encode(plan, NULL, NULL, records, count, out, out_bytes, spans, invalid);
}

int64_t rb_encode_kept_protobuf(const rb_plan *plan, const rb_kept *kept, const uint16_t *rows, const void *records,
                                uint64_t count, void *out, uint64_t out_bytes, uint64_t *spans, uint64_t *invalid)
{
    if (kept == NULL || (rows == NULL && count))
        return RB_E_ARGUMENT;
    return encode(plan, kept, rows, records, count, out, out_bytes, spans, invalid);
}
