/*
 * otlp.h - what plan.c, otlp.c (protobuf) and json.c share. Private: not installed. Of fields.h those
 * records make use whose layout has an `otlp` attribute.
 *
 * A plan is a layout made ready to be copied: every part of the output that does not depend on a record's values is a
 * piece of one constant array, `bytes`. Encoding a record is then: for each present attribute copy its piece, and write
 * what varies behind it. Every index that a record holds is checked before it is used.
 *
 * The plan has a bound for what a record takes. That the bound is right is for the tests to show; no write relies on it:
 * every writer has an `end`, and refuses what would go further.
 */
#ifndef RINGBUF_OTLP_H
#define RINGBUF_OTLP_H

#include "ringbuf.h"

#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "records are little-endian, and are read as they are"
#endif

/* A piece of up to this many bytes is copied at this fixed length, whatever its own: no call, no loop. */
#define RB_PROTOBUF_COPY 48
#define RB_JSON_COPY 96
#define RB_COPY_SLACK 96 /* what therefore lies behind the pieces */

/*
 * Writers take where to write, `out`, and an `end` with RB_END_SLACK bytes behind it, and return where they stopped.
 * Behind `end` means refused: the record was out of bounds or did not fit, and nothing may be written any more. So a
 * few writes of constant size share one comparison: those of up to RB_END_SLACK bytes together may begin anywhere up to
 * `end`. A write whose size depends on the record asks before, by rb_fits.
 */
#define RB_END_SLACK 256

typedef struct rb_piece {
    const uint8_t *data;
    size_t bytes;
} rb_piece;

/* How one attribute is written. plan.c and json.c say which pieces each type has. */
typedef struct rb_op {
    uint32_t type; /* enum rb_type, or RB_OP_LABEL16 */
    uint32_t offset;
    uint32_t size;
    uint32_t label_count;
    const rb_piece *protobuf;
    const rb_piece *json;
} rb_op;

enum { RB_OP_LABEL16 = RB_TYPE_SCOPE + 1 };

struct rb_plan {
    uint32_t slot_bytes;
    uint32_t span_name_count;
    uint32_t known;    /* the bits of rb_record.present that stand for an attribute with an op */
    uint32_t otlp_bit; /* that of the `otlp` attribute, 0 without one */
    rb_op otlp;        /* its offset and size */
    const rb_piece *protobuf_names;
    const rb_piece *json_names;
    uint64_t protobuf_bound; /* RB_END_SLACK included */
    uint64_t json_bound;
    uint8_t *bytes;
    rb_piece *pieces;
    rb_op ops[RB_MAX_ATTRIBUTES];
};

/* Records of a caller's buffer may lie at any address. */
typedef struct __attribute__((packed, may_alias)) rb_any_record {
    rb_record core;
} rb_any_record;

/*
 * The constant parts while they grow, and where in `bytes` each piece ends; it begins where the one before it ends. Once
 * memory is short or the limit reached, `status` says so and nothing grows.
 */
typedef struct rb_builder {
    uint8_t *bytes;
    uint32_t *ends;
    size_t byte_count;
    size_t byte_room;
    uint32_t piece_count;
    uint32_t piece_room;
    int status;
} rb_builder;

void rb_build_bytes(rb_builder *builder, const void *data, size_t bytes);
void rb_build_json_text(rb_builder *builder, const rb_text *text);
/* What was built since the last piece becomes one. Returns its size. */
uint64_t rb_build_piece(rb_builder *builder);

/* Add the pieces of an attribute, and of the names. Return the most bytes that one takes in a record. */
uint64_t rb_build_json_attribute(rb_builder *builder, const rb_plan_attribute *attribute);
uint64_t rb_build_json_names(rb_builder *builder, const rb_plan_config *config);
/* The most bytes of a span without its name and attributes. */
uint64_t rb_json_span_bound(void);

/* How many bytes `text` takes as UTF-8, each ill-formed part replaced by U+FFFD; *valid: whether none is. */
size_t rb_utf8_bytes(const uint8_t *text, size_t bytes, int *valid);
uint8_t *rb_utf8_put(uint8_t *out, uint8_t *end, const uint8_t *text, size_t bytes);
/* The same with JSON's escapes, without quotes: at most 6 * bytes. */
uint8_t *rb_json_text_put(uint8_t *out, uint8_t *end, const uint8_t *text, size_t bytes);
uint8_t *rb_json_base64_put(uint8_t *out, uint8_t *end, const uint8_t *data, size_t bytes);
/* The least digits that a reader turns into the same double: a write of at most RB_MAX_DOUBLE_BYTES. */
#define RB_MAX_DOUBLE_BYTES 32
uint8_t *rb_json_double_put(uint8_t *out, const uint8_t *data);

/* Tag bytes: field number << 3 | wire type. */
enum {
    SCOPE_SPANS_SPAN = 2 << 3 | 2,
    SPAN_TRACE_ID = 1 << 3 | 2,
    SPAN_SPAN_ID = 2 << 3 | 2,
    SPAN_PARENT_SPAN_ID = 4 << 3 | 2,
    SPAN_NAME = 5 << 3 | 2,
    SPAN_KIND = 6 << 3 | 0,
    SPAN_START = 7 << 3 | 1,
    SPAN_END = 8 << 3 | 1,
    SPAN_ATTRIBUTE = 9 << 3 | 2,
    SPAN_STATUS = 15 << 3 | 2,
    SPAN_FLAGS = 16 << 3 | 5, /* takes two bytes, as a varint */
    STATUS_CODE = 3 << 3 | 0,
    KEY_VALUE_KEY = 1 << 3 | 2,
    KEY_VALUE_VALUE = 2 << 3 | 2,
    VALUE_STRING = 1 << 3 | 2,
    VALUE_BOOL = 2 << 3 | 0,
    VALUE_INT = 3 << 3 | 0,
    VALUE_DOUBLE = 4 << 3 | 1,
    VALUE_BYTES = 7 << 3 | 2
};

#define RB_MAX_VARINT_BYTES 10

static inline uint32_t rb_varint_bytes(uint64_t value)
{
    uint32_t top_bit = 63 ^ (uint32_t)__builtin_clzll(value | 1);
    return (top_bit * 9 + 73) >> 6; /* == top_bit / 7 + 1, for 0 to 63 */
}

/* A value of `bytes` == rb_varint_bytes(value). Writes at least 4 bytes, at most 10. */
static inline uint8_t *rb_put_varint(uint8_t *out, uint64_t value, uint32_t bytes)
{
    if (__builtin_expect(bytes <= 4, 1)) {
        /* Spread 28 bits to seven in each byte, by halves; all bytes but the last say that there is more. */
        uint32_t low = (uint32_t)value;
        low = (low & 0x3fff) | (low & 0x0fffc000) << 2;
        low = (low & 0x007f007f) | (low & 0x3f803f80) << 1;
        low |= 0x00808080 & ((1u << (8 * (bytes - 1))) - 1);
        memcpy(out, &low, 4);
    } else {
        for (uint32_t i = 0; i < bytes; i++, value >>= 7)
            out[i] = (uint8_t)(value | 0x80);
        out[bytes - 1] &= 0x7f;
    }
    return out + bytes;
}

static inline uint8_t *rb_refuse(uint8_t *end) { return end + 1; }

/* Whether `bytes` more end no further than `end`; never, once refused. */
static inline int rb_fits(const uint8_t *out, const uint8_t *end, size_t bytes)
{
    return out <= end && bytes <= (size_t)(end - out);
}

static inline uint8_t *rb_put(uint8_t *out, const void *data, size_t bytes)
{
    memcpy(out, data, bytes);
    return out + bytes;
}

static inline uint8_t *rb_put_if_fits(uint8_t *out, uint8_t *end, const void *data, size_t bytes)
{
    return rb_fits(out, end, bytes) ? rb_put(out, data, bytes) : rb_refuse(end);
}

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

void rb_put_hex16(uint8_t *restrict out, const uint8_t *restrict data);
uint8_t *rb_put_hex_rest(uint8_t *out, uint8_t *end, const uint8_t *data, size_t bytes);

/* Writes up to 30 bytes more than count. 16 bytes are of constant size; any other number asks. */
static inline uint8_t *rb_put_hex(uint8_t *out, uint8_t *end, const uint8_t *data, size_t bytes)
{
    if (__builtin_expect(bytes != 16, 0))
        return rb_put_hex_rest(out, end, data, bytes);
    rb_put_hex16(out, data);
    return out + 32;
}

/* Eight decimal digits, the first in the lowest byte, as numbers 0 to 9: value < 10^8. */
static inline uint64_t rb_eight_digits(uint32_t value)
{
    uint64_t fours = value / 10000 | (uint64_t)(value % 10000) << 32;
    uint64_t hundreds = (fours * 10486 >> 20) & 0x0000007f0000007f;
    uint64_t twos = hundreds | (fours - 100 * hundreds) << 16;
    uint64_t tens = (twos * 103 >> 10) & 0x000f000f000f000f;
    return tens | (twos - 10 * tens) << 8;
}

static inline uint8_t *rb_put_eight_digits(uint8_t *out, uint32_t value)
{
    uint64_t digits = rb_eight_digits(value) | 0x3030303030303030;
    return rb_put(out, &digits, 8);
}

/* The decimal digits of `value`. Writes 24 bytes, of which at most 20 count. */
static inline uint8_t *rb_put_decimal(uint8_t *out, uint64_t value)
{
    uint64_t low = value % 100000000;
    uint64_t middle = value / 100000000;
    uint64_t high = middle / 100000000;
    middle %= 100000000;
    uint64_t first = high ? high : middle ? middle : low;
    uint64_t digits = rb_eight_digits((uint32_t)first);
    uint32_t zeros = (uint32_t)__builtin_ctzll(digits | (uint64_t)1 << 56) & 56; /* zero itself has one digit */
    digits = (digits | 0x3030303030303030) >> zeros;
    out = rb_put(out, &digits, 8) - zeros / 8;
    if (high)
        out = rb_put_eight_digits(out, (uint32_t)middle);
    if (high || middle)
        out = rb_put_eight_digits(out, (uint32_t)low);
    return out;
}

static inline uint64_t rb_load64(const uint8_t *data)
{
    uint64_t value;
    memcpy(&value, data, 8);
    return value;
}

/* Whether the core of a record can be a span; its name is then one of the plan's. */
static inline int rb_is_span(const rb_plan *plan, const rb_any_record *record)
{
    return (rb_load64(record->core.trace_id) | rb_load64(record->core.trace_id + 8)) != 0 &&
           rb_load64(record->core.span_id) != 0 && record->core.reserved == 0 &&
           record->core.name < plan->span_name_count && record->core.kind <= 5 && record->core.status <= 2;
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

#endif
