#include "gunzip.h"

#include <assert.h>
#include <string.h>

#include "shared/crc32.h"

enum { MOST_BITS = 15, LITERALS = 286, DISTANCES = 30, END = 256 };

struct source {
    const uint8_t *at, *end;
    uint32_t bit;
};

struct code {
    uint16_t counts[MOST_BITS + 1]; /* of codes, by their length */
    uint16_t symbols[288];          /* in the order of their codes */
};

static uint32_t take(struct source *source, uint32_t count)
{
    uint32_t value = 0;
    for (uint32_t i = 0; i < count; i++) {
        assert(source->at < source->end);
        value |= (uint32_t)(*source->at >> source->bit & 1) << i;
        source->bit = (source->bit + 1) % 8;
        source->at += source->bit == 0;
    }
    return value;
}

static void make_code(struct code *code, const uint8_t *lengths, uint32_t symbols)
{
    uint16_t next[MOST_BITS + 2] = {0};
    int32_t left = 1;
    memset(code, 0, sizeof *code);
    for (uint32_t i = 0; i < symbols; i++)
        code->counts[lengths[i]]++;
    code->counts[0] = 0;
    for (uint32_t bits = 1; bits <= MOST_BITS; bits++) {
        left = 2 * left - code->counts[bits];
        assert(left >= 0); /* not more codes than there are */
        next[bits + 1] = (uint16_t)(next[bits] + code->counts[bits]);
    }
    for (uint32_t i = 0; i < symbols; i++)
        if (lengths[i])
            code->symbols[next[lengths[i]]++] = (uint16_t)i;
}

static uint32_t symbol_of(struct source *source, const struct code *code)
{
    uint32_t value = 0, first = 0, index = 0;
    for (uint32_t bits = 1; bits <= MOST_BITS; bits++) {
        value = value << 1 | take(source, 1);
        first <<= 1;
        if (value - first < code->counts[bits])
            return code->symbols[index + value - first];
        first += code->counts[bits];
        index += code->counts[bits];
    }
    assert(!"no such code");
    return 0;
}

static void read_codes(struct source *source, struct code *literals, struct code *distances)
{
    static const uint8_t order[] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint8_t lengths[320] = {0}, of_lengths[19] = {0};
    struct code code;
    uint32_t literal_count = take(source, 5) + 257, distance_count = take(source, 5) + 1, stated = take(source, 4) + 4;
    assert(literal_count <= LITERALS && distance_count <= DISTANCES);
    for (uint32_t i = 0; i < stated; i++)
        of_lengths[order[i]] = (uint8_t)take(source, 3);
    make_code(&code, of_lengths, 19);
    for (uint32_t i = 0; i < literal_count + distance_count;) {
        uint32_t symbol = symbol_of(source, &code), times = 1;
        uint8_t length = (uint8_t)symbol;
        if (symbol >= 16) {
            assert(symbol > 16 || i > 0);
            length = symbol == 16 ? lengths[i - 1] : 0;
            times = symbol == 16 ? 3 + take(source, 2) : symbol == 17 ? 3 + take(source, 3) : 11 + take(source, 7);
        }
        assert(i + times <= literal_count + distance_count);
        for (; times > 0; times--)
            lengths[i++] = length;
    }
    assert(lengths[END] != 0);
    make_code(literals, lengths, literal_count);
    make_code(distances, lengths + literal_count, distance_count);
}

static void fixed_codes(struct code *literals, struct code *distances)
{
    uint8_t lengths[288], of_distances[DISTANCES];
    for (uint32_t i = 0; i < 288; i++)
        lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    memset(of_distances, 5, sizeof of_distances);
    make_code(literals, lengths, 288);
    make_code(distances, of_distances, DISTANCES);
}

static size_t inflate_block(struct source *source, const struct code *literals, const struct code *distances,
                            uint8_t *out, size_t at, size_t room)
{
    static const uint16_t bases[] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                     31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    for (uint32_t symbol; (symbol = symbol_of(source, literals)) != END;) {
        if (symbol < END) {
            assert(at < room);
            out[at++] = (uint8_t)symbol;
            continue;
        }
        symbol -= END + 1;
        assert(symbol < 29);
        size_t length = bases[symbol] + take(source, symbol < 8 || symbol == 28 ? 0 : (symbol - 4) / 4);
        uint32_t far = symbol_of(source, distances), extra = far < 4 ? 0 : (far - 2) / 2;
        size_t distance = (far < 4 ? far : (2 + far % 2) << extra) + 1 + take(source, extra);
        assert(distance <= at && length <= room - at);
        for (; length > 0; length--, at++)
            out[at] = out[at - distance];
    }
    return at;
}

size_t gunzip(const uint8_t *member, size_t bytes, uint8_t *out, size_t room)
{
    assert(bytes >= 18 && member[0] == 0x1f && member[1] == 0x8b && member[2] == 8 && member[3] == 0);
    struct source source = {member + 10, member + bytes, 0};
    struct code literals, distances;
    size_t at = 0;
    for (uint32_t is_last = 0; !is_last;) {
        is_last = take(&source, 1);
        uint32_t type = take(&source, 2);
        assert(type < 3);
        if (type == 0) {
            take(&source, (8 - source.bit) % 8);
            uint32_t some = take(&source, 16), inverse = take(&source, 16);
            assert((some ^ inverse) == 0xffff && some <= room - at);
            for (; some > 0; some--)
                out[at++] = (uint8_t)take(&source, 8);
            continue;
        }
        if (type == 1)
            fixed_codes(&literals, &distances);
        else
            read_codes(&source, &literals, &distances);
        at = inflate_block(&source, &literals, &distances, out, at, room);
    }
    take(&source, (8 - source.bit) % 8);
    uint32_t crc = take(&source, 16), size;
    crc |= take(&source, 16) << 16;
    size = take(&source, 16);
    size |= take(&source, 16) << 16;
    assert(source.at == source.end && crc == rb_crc32(out, at) && size == (uint32_t)at);
    return at;
}
