/*
 * output.h - how bytes are written: what all writers of this folder keep to. Private: not installed.
 */
#ifndef RINGBUF_OTLP_OUTPUT_H
#define RINGBUF_OTLP_OUTPUT_H

#include "ringbuf.h"

#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "records are little-endian, and are read as they are"
#endif

/*
 * Writers take where to write, `out`, and an `end` with RB_END_SLACK bytes behind it, and return where they stopped.
 * Behind `end` means refused: the record was out of bounds or did not fit, and nothing may be written any more. So a
 * few writes of constant size share one comparison: those of up to RB_END_SLACK bytes together may begin anywhere up to
 * `end`. A write whose size depends on the record asks before, by rb_fits.
 */
#define RB_END_SLACK 256

/* Bytes that are copied as they are. */
typedef struct rb_piece {
    const uint8_t *data;
    size_t bytes;
} rb_piece;

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

#endif
