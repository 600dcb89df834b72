/*
 * code.c - Huffman codes: their lengths from counts, the bits from the lengths, and how a block states them.
 *
 * Source: RFC 1951, sections 3.2.2 to 3.2.7.
 */
#include "otlp/gzip/code.h"

#include <stdlib.h>

enum { MOST_SYMBOLS = RB_LITERALS_AND_LENGTHS + 2, LENGTH_SYMBOLS = 19, LENGTH_LIMIT = 7 };

/* ---- lengths ---- */

static int by_count(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left < right) - (left > right);
}

/*
 * The lengths of a code of at most `limit` bits for symbols that came so often. Each begins with its share of the whole,
 * rounded up to a power of two; what that leaves is given to the most frequent that it suffices for. It always comes
 * out: what is left is a multiple of the smallest share, so that one can be doubled. Within two per cent of Huffman's.
 */
static void lengths_of(const uint32_t *counts, uint32_t symbols, uint32_t limit, uint8_t *lengths)
{
    uint32_t order[MOST_SYMBOLS], total = 0, whole = 1u << limit, left = whole;
    for (uint32_t i = 0; i < symbols; i++)
        total += counts[i];
    /* So many more of each that none needs more than `limit` bits. */
    uint32_t more = total / (whole - symbols) + 1;
    total += symbols * more;
    for (uint32_t i = 0; i < symbols; i++) {
        uint32_t bits = 1;
        while ((uint64_t)(counts[i] + more) << bits < total)
            bits++;
        lengths[i] = (uint8_t)bits;
        left -= whole >> bits;
        order[i] = counts[i] << 9 | i;
    }
    qsort(order, symbols, sizeof *order, by_count);
    while (left != 0)
        for (uint32_t i = 0; i < symbols; i++) {
            uint8_t *bits = &lengths[order[i] & 511];
            if (*bits > 1 && whole >> *bits <= left)
                left -= whole >> (*bits)--;
        }
}

/* ---- bits ---- */

/* Codes of a length count upwards in the order of their symbols; the highest bit goes first. */
static void codes_of(const uint8_t *lengths, uint32_t symbols, uint16_t *codes)
{
    uint32_t code = 0;
    for (uint32_t bits = 1; bits < 16; bits++, code <<= 1)
        for (uint32_t symbol = 0; symbol < symbols; symbol++) {
            if (lengths[symbol] != bits)
                continue;
            uint32_t reversed = 0;
            for (uint32_t i = 0; i < bits; i++)
                reversed |= (code >> i & 1) << (bits - 1 - i);
            codes[symbol] = (uint16_t)reversed;
            code++;
        }
}

uint32_t rb_length_symbol(uint32_t bytes, uint32_t *extra, uint32_t *extra_bits)
{
    uint32_t over = bytes - RB_MIN_MATCH;
    *extra = *extra_bits = 0;
    if (bytes == RB_MAX_MATCH)
        return RB_LENGTHS - 1;
    if (over < 8)
        return over;
    uint32_t bits = 29 - (uint32_t)__builtin_clz(over); /* four symbols for each number of extra bits */
    *extra_bits = bits;
    *extra = over & ((1u << bits) - 1);
    return 4 * bits + (over >> bits);
}

static void fill(rb_code *code, const uint8_t *lengths, uint32_t symbols, const uint8_t *distance_lengths)
{
    uint16_t codes[MOST_SYMBOLS], distances[RB_DISTANCES];
    codes_of(lengths, symbols, codes);
    codes_of(distance_lengths, RB_DISTANCES, distances);
    for (uint32_t i = 0; i < RB_DISTANCES; i++) {
        code->distances[i] = distances[i];
        code->distance_bits[i] = distance_lengths[i];
    }
    code->end = codes[RB_END_OF_BLOCK];
    code->end_bits = lengths[RB_END_OF_BLOCK];
    for (uint32_t byte = 0; byte < RB_LITERALS; byte++) {
        uint32_t extra, extra_bits;
        code->literals[byte] = codes[byte];
        code->literal_bits[byte] = lengths[byte];
        uint32_t symbol = RB_END_OF_BLOCK + 1 + rb_length_symbol(RB_MIN_MATCH + byte, &extra, &extra_bits);
        code->lengths[byte] = codes[symbol] | extra << lengths[symbol];
        code->length_bits[byte] = lengths[symbol] + extra_bits;
    }
}

/* ---- how a block states its codes ---- */

static void put(rb_bits *bits, uint32_t value, uint32_t count)
{
    rb_bits_add(bits, value, count);
    rb_bits_store(bits);
}

/* Each code length as it is: DEFLATE's symbols for repeated ones would save 30 bytes of a block. */
static void state(rb_code *code, const uint8_t *lengths)
{
    static const uint8_t order[LENGTH_SYMBOLS] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    enum { COUNT = RB_LITERALS_AND_LENGTHS + RB_DISTANCES };
    uint8_t length_lengths[LENGTH_SYMBOLS], header[RB_HEADER_BYTES + RB_BITS_SLACK];
    uint32_t counts[LENGTH_SYMBOLS] = {0};
    uint16_t codes[LENGTH_SYMBOLS];
    for (uint32_t i = 0; i < COUNT; i++)
        counts[lengths[i]]++;
    lengths_of(counts, LENGTH_SYMBOLS, LENGTH_LIMIT, length_lengths);
    codes_of(length_lengths, LENGTH_SYMBOLS, codes);
    rb_bits bits = {0, 0, header};
    put(&bits, 2 << 1, 3); /* not the last block; codes of its own */
    put(&bits, RB_LITERALS_AND_LENGTHS - 257, 5);
    put(&bits, RB_DISTANCES - 1, 5);
    put(&bits, LENGTH_SYMBOLS - 4, 4);
    for (uint32_t i = 0; i < LENGTH_SYMBOLS; i++)
        put(&bits, length_lengths[order[i]], 3);
    for (uint32_t i = 0; i < COUNT; i++)
        put(&bits, codes[lengths[i]], length_lengths[lengths[i]]);
    code->header_bits = (uint32_t)((uint64_t)(8 * (bits.next - header)) + bits.count);
    memcpy(code->header, header, sizeof code->header);
}

void rb_code_learn(rb_code *code, const rb_symbol_counts *counts)
{
    uint8_t lengths[RB_LITERALS_AND_LENGTHS + RB_DISTANCES];
    lengths_of(counts->literals_and_lengths, RB_LITERALS_AND_LENGTHS, RB_MAX_CODE_BITS, lengths);
    lengths_of(counts->distances, RB_DISTANCES, RB_MAX_CODE_BITS, lengths + RB_LITERALS_AND_LENGTHS);
    fill(code, lengths, RB_LITERALS_AND_LENGTHS, lengths + RB_LITERALS_AND_LENGTHS);
    state(code, lengths);
}

void rb_code_fixed(rb_code *code)
{
    uint8_t lengths[MOST_SYMBOLS], distance_lengths[RB_DISTANCES];
    for (uint32_t symbol = 0; symbol < MOST_SYMBOLS; symbol++)
        lengths[symbol] = symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8;
    memset(distance_lengths, 5, sizeof distance_lengths);
    fill(code, lengths, MOST_SYMBOLS, distance_lengths);
    code->header[0] = 1 << 1;
    code->header_bits = 3;
}
