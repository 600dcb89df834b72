/*
 * crc.h - the CRC-32 of bytes that are never put together, from those of their parts. Private.
 *
 * A message of n bits is a polynomial over GF(2), its first bit the highest power; its CRC is what is left of it, times
 * x^32, divided by P. So parts add up: what a part adds is its own remainder times x^8 for each byte behind it. P does
 * not divide x, so x has an inverse: a part can be counted from the front as well, and the sum be moved when the length
 * is known. Here "remainder" is that alone; gzip's CRC begins with all bits set and is inverted at the end.
 *
 * Bits are reflected: in a word of 64, bit i is x^(63 - i). A product of two words then has bit i for x^(126 - i), which
 * in 128 bits reads as the product times x: hence the one power less in rb_crc_powers.
 *
 * Source: Gopal and others, "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction" (Intel, 2009).
 */
#ifndef RINGBUF_GZIP_CRC_H
#define RINGBUF_GZIP_CRC_H

#include "otlp/gzip/clmul.h"

/* powers[i] = x^(8 i - 1) mod P in the upper half of a word, for -most <= i <= most. */
void rb_crc_powers(uint64_t *powers, int32_t most);

/* `crc` with `bytes` zero bytes behind it. */
uint32_t rb_crc_shift(uint32_t crc, uint64_t bytes);

/* The CRC of a remainder that has 64 bits still. */
uint32_t rb_crc_reduce(uint64_t remainder);

/* 64 bits of a sum of products of words and powers, which has 96. */
static inline __attribute__((always_inline)) RB_TARGET uint64_t rb_crc_fold(rb_wide sum, const uint64_t *powers)
{
    return sum[1] ^ rb_times(sum[0], powers[8])[1]; /* reflected: the first word has the higher powers */
}

#endif
