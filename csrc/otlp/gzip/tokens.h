/*
 * tokens.h - literals and matches of a DEFLATE block, written or only counted. Private.
 *
 * Source: RFC 1951, section 3.2.5.
 */
#ifndef RINGBUF_GZIP_TOKENS_H
#define RINGBUF_GZIP_TOKENS_H

#include "otlp/gzip/code.h"

#include <stddef.h>

/*
 * With `counts` tokens are counted, and no bit is written. Bits begin with at most 7 held, and end so. A match is held
 * back as long as the next one may go on where it ends.
 */
typedef struct rb_tokens {
    rb_bits bits;
    const rb_code *code;
    rb_symbol_counts *counts;
    uint64_t at; /* the position: how many bytes they stand for */
    uint64_t distance;
    uint32_t match_bytes; /* 0: none is held back */
} rb_tokens;

/* No token takes more than 16 bits for each byte that it stands for. */
#define RB_MOST_TOKEN_BYTES(plain_bytes) (2 * (plain_bytes))

RB_INLINE void rb_put_literal(rb_tokens *tokens, uint8_t byte)
{
    if (tokens->counts != NULL)
        tokens->counts->literals_and_lengths[byte]++;
    else
        rb_bits_add(&tokens->bits, tokens->code->literals[byte], tokens->code->literal_bits[byte]);
}

RB_INLINE void rb_put_literals(rb_tokens *tokens, const uint8_t *data, uint32_t bytes)
{
    tokens->at += bytes;
    for (; bytes >= 4; bytes -= 4, data += 4) {
        for (uint32_t i = 0; i < 4; i++)
            rb_put_literal(tokens, data[i]);
        rb_bits_store(&tokens->bits);
    }
    for (uint32_t i = 0; i < bytes; i++)
        rb_put_literal(tokens, data[i]);
    if (bytes > 0)
        rb_bits_store(&tokens->bits);
}

/* RB_MIN_MATCH to RB_MAX_MATCH bytes; the position is the caller's. */
RB_INLINE void rb_put_one_match(rb_tokens *tokens, uint32_t bytes, uint64_t distance)
{
    uint32_t over = (uint32_t)distance - 1, extra_bits = 30 - (uint32_t)__builtin_clz(over);
    uint32_t symbol = 2 * extra_bits + (over >> extra_bits); /* two symbols for each number of extra bits */
    if (tokens->counts != NULL) {
        uint32_t extra, bits;
        tokens->counts->literals_and_lengths[RB_END_OF_BLOCK + 1 + rb_length_symbol(bytes, &extra, &bits)]++;
        tokens->counts->distances[symbol]++;
        return;
    }
    bytes -= RB_MIN_MATCH;
    rb_bits_add(&tokens->bits, tokens->code->lengths[bytes], tokens->code->length_bits[bytes]);
    rb_bits_add(&tokens->bits, tokens->code->distances[symbol], tokens->code->distance_bits[symbol]);
    rb_bits_add(&tokens->bits, over & ((1u << extra_bits) - 1), extra_bits);
    rb_bits_store(&tokens->bits);
}

/* What was held back is written. */
RB_INLINE void rb_end_match(rb_tokens *tokens)
{
    if (tokens->match_bytes == 0)
        return;
    while (__builtin_expect(tokens->match_bytes > RB_MAX_MATCH, 0)) {
        uint32_t left = tokens->match_bytes - RB_MAX_MATCH;
        uint32_t part = left < RB_MIN_MATCH ? RB_MAX_MATCH - RB_MIN_MATCH : RB_MAX_MATCH;
        rb_put_one_match(tokens, part, tokens->distance);
        tokens->match_bytes -= part;
    }
    rb_put_one_match(tokens, tokens->match_bytes, tokens->distance);
    tokens->match_bytes = 0;
}

RB_INLINE int rb_is_near(uint64_t at, uint64_t before) { return at - before <= RB_WINDOW; }

/*
 * At least RB_MIN_MATCH bytes, or any number that goes on with what is held back, which stood at `before`, in the window
 * and at least RB_MIN_MATCH bytes ago.
 */
RB_INLINE void rb_put_match(rb_tokens *tokens, uint32_t bytes, uint64_t before)
{
    uint64_t distance = tokens->at - before;
    if (tokens->match_bytes == 0 || distance != tokens->distance) {
        rb_end_match(tokens);
        tokens->distance = distance;
    }
    tokens->match_bytes += bytes;
    tokens->at += bytes;
}

#endif
