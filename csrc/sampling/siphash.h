/*
 * siphash.h - SipHash-1-3 of a trace id. Private.
 *
 * Producers choose trace ids. With a key that they do not know none can choose ids that meet in one place of the table.
 *
 * Source: Aumasson, Bernstein, "SipHash: a fast short-input PRF", 2012; 1-3 is what Rust and CPython hash with.
 */
#ifndef RINGBUF_SAMPLING_SIPHASH_H
#define RINGBUF_SAMPLING_SIPHASH_H

#include <stdint.h>
#include <string.h>

static inline uint64_t rb_rotated(uint64_t word, int bits) { return word << bits | word >> (64 - bits); }

static inline void rb_sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rb_rotated(v[1], 13) ^ v[0];
    v[3] = rb_rotated(v[3], 16) ^ v[2];
    v[0] = rb_rotated(v[0], 32) + v[3];
    v[2] += v[1];
    v[3] = rb_rotated(v[3], 21) ^ v[0];
    v[1] = rb_rotated(v[1], 17) ^ v[2];
    v[2] = rb_rotated(v[2], 32);
}

static inline uint64_t rb_siphash(const uint64_t key[2], const uint8_t id[16])
{
    uint64_t words[3];
    memcpy(words, id, 16);
    words[2] = (uint64_t)16 << 56; /* the length */
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d, key[0] ^ 0x6c7967656e657261,
                     key[1] ^ 0x7465646279746573};
    for (int i = 0; i < 3; i++) {
        v[3] ^= words[i];
        rb_sip_round(v);
        v[0] ^= words[i];
    }
    v[2] ^= 0xff;
    rb_sip_round(v);
    rb_sip_round(v);
    rb_sip_round(v);
#ifdef RINGBUF_NARROW_HASH
    return (v[0] ^ v[1] ^ v[2] ^ v[3]) & 0x300000003; /* for tests: all meet in a few places */
#else
    return v[0] ^ v[1] ^ v[2] ^ v[3];
#endif
}

#endif
