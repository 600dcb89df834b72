/*
 * bits.h - a stream of bits, the lowest first, as DEFLATE has it. Private.
 *
 * Source: RFC 1951, section 3.1.1.
 */
#ifndef RINGBUF_GZIP_BITS_H
#define RINGBUF_GZIP_BITS_H

#include <stdint.h>
#include <string.h>

/*
 * Inlined whatever the compiler thinks of it, so that all state of the bits stays in registers; not under a sanitizer, with
 * whose checks that takes compilers minutes.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RB_SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define RB_SANITIZED
#endif
#endif
#ifdef RB_SANITIZED
#define RB_INLINE static inline
#else
#define RB_INLINE static inline __attribute__((always_inline))
#endif

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
