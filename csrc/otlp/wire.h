/*
 * wire.h - tags and varints of protobuf. Private.
 *
 * Source: opentelemetry-proto, trace.proto and common.proto; protobuf, "Encoding".
 */
#ifndef RINGBUF_OTLP_WIRE_H
#define RINGBUF_OTLP_WIRE_H

#include "otlp/output.h"

/* Tag bytes: field number << 3 | wire type. */
enum {
    SCOPE_SPANS_SPAN = 2 << 3 | 2,
    SPAN_TRACE_ID = 1 << 3 | 2,
    SPAN_SPAN_ID = 2 << 3 | 2,
    SPAN_TRACE_STATE = 3 << 3 | 2,
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

/* The varint of a value that takes `bytes` == rb_varint_bytes(value) of them, at most 4. */
static inline uint32_t rb_short_varint(uint64_t value, uint32_t bytes)
{
    /* Spread 28 bits to seven in each byte, by halves; all bytes but the last say that there is more. */
    uint32_t low = (uint32_t)value;
    low = (low & 0x3fff) | (low & 0x0fffc000) << 2;
    low = (low & 0x007f007f) | (low & 0x3f803f80) << 1;
    return low | (0x00808080 & ((1u << (8 * (bytes - 1))) - 1));
}

/* A value of `bytes` == rb_varint_bytes(value). Writes at least 4 bytes, at most 10. */
static inline uint8_t *rb_put_varint(uint8_t *out, uint64_t value, uint32_t bytes)
{
    if (__builtin_expect(bytes <= 4, 1)) {
        uint32_t low = rb_short_varint(value, bytes);
        memcpy(out, &low, 4);
    } else {
        for (uint32_t i = 0; i < bytes; i++, value >>= 7)
            out[i] = (uint8_t)(value | 0x80);
        out[bytes - 1] &= 0x7f;
    }
    return out + bytes;
}

/* A varint that may be longer than it must. Returns what follows; NULL: it does not end, or has more than 64 bits. */
static inline const uint8_t *rb_read_varint(const uint8_t *at, const uint8_t *end, uint64_t *value)
{
    uint64_t bits = 0;
    for (uint32_t shift = 0; at < end && shift < 70; shift += 7) {
        uint8_t byte = *at++;
        if (shift == 63 && byte > 1)
            return NULL;
        bits |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *value = bits;
            return at;
        }
    }
    return NULL;
}

#endif
