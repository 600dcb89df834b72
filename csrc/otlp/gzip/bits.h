/*
 * bits.h - a stream of bits, the lowest first, as DEFLATE has it. Private.
 *
 * Source: RFC 1951, section 3.1.1.
 */
#ifndef RINGBUF_GZIP_BITS_H
#define RINGBUF_GZIP_BITS_H

#include <stdint.h>
#include <string.h>

#define RB_INLINE static inline __attribute__((always_inline))

/* `held` has `count` bits that are not yet at `next`; those above them are zero. */
typedef struct rb_bits {
    uint64_t held;
    uint64_t count;
    uint8_t *next;
} rb_bits;

/* What a store may write behind the bytes that count. */
#define RB_BITS_SLACK 8

/* After rb_bits_store there is room for 56 bits. */
RB_INLINE void rb_bits_add(rb_bits *bits, uint64_t value, uint64_t count)
{
    bits->held |= value << bits->count;
    bits->count += count;
}

RB_INLINE void rb_bits_store(rb_bits *bits)
{
    memcpy(bits->next, &bits->held, 8);
    bits->next += bits->count >> 3;
    bits->held >>= bits->count & 56;
    bits->count &= 7;
}

/* Zeros up to a whole byte: `least` of them at least. */
RB_INLINE void rb_bits_align(rb_bits *bits, uint32_t least)
{
    bits->count = (bits->count + least + 7) & ~7u;
    rb_bits_store(bits);
}

#endif
