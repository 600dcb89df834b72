/*
 * code.h - the two Huffman codes of a DEFLATE block, ready to be written. Private.
 */
#ifndef RINGBUF_GZIP_CODE_H
#define RINGBUF_GZIP_CODE_H

#include "otlp/gzip/bits.h"

/* Literals, the end of the block, and lengths share one alphabet. */
enum { RB_LITERALS = 256, RB_END_OF_BLOCK = 256, RB_LENGTHS = 29, RB_LITERALS_AND_LENGTHS = 286, RB_DISTANCES = 30 };
enum { RB_MIN_MATCH = 3, RB_MAX_MATCH = 258, RB_WINDOW = 32768 };

/* A learnt code has none longer, so that four of them can be written at once. */
#define RB_MAX_CODE_BITS 13
#define RB_HEADER_BYTES 288 /* 74 bits, and at most 7 for each of 316 code lengths */

/* The bits of each symbol, and how many they are: words, since then each is an operand of the instruction that uses it. */
typedef struct rb_code {
    uint64_t literals[RB_LITERALS];
    uint64_t literal_bits[RB_LITERALS];
    uint64_t lengths[RB_LITERALS]; /* of a match of so many bytes more than RB_MIN_MATCH, extra bits included */
    uint64_t length_bits[RB_LITERALS];
    uint64_t distances[RB_DISTANCES];
    uint64_t distance_bits[RB_DISTANCES];
    uint64_t end;
    uint64_t end_bits;
    uint32_t header_bits;
    uint8_t header[RB_HEADER_BYTES]; /* what a block of this code begins with; it is never the last one */
} rb_code;

/* How often each symbol came. */
typedef struct rb_symbol_counts {
    uint32_t literals_and_lengths[RB_LITERALS_AND_LENGTHS];
    uint32_t distances[RB_DISTANCES];
} rb_symbol_counts;

/* The symbol of the length `bytes`, counted from RB_END_OF_BLOCK + 1, and its extra bits. */
uint32_t rb_length_symbol(uint32_t bytes, uint32_t *extra, uint32_t *extra_bits);

/* A code in which every symbol has its bits, those that never came, too: they were counted in a sample. */
void rb_code_learn(rb_code *code, const rb_symbol_counts *counts);
/* The one that DEFLATE fixes. */
void rb_code_fixed(rb_code *code);

#endif
