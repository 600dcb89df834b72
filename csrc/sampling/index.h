/*
 * index.h - where a trace id is found: in its first line of the index, or in its second. Private.
 *
 * Most are in the first, so that looking for one touches one line of cache: the first knows whether any is elsewhere.
 */
#ifndef RINGBUF_SAMPLING_INDEX_H
#define RINGBUF_SAMPLING_INDEX_H

#include "sampling/table.h"

static inline rb_line *rb_first_line(const rb_traces *table, uint64_t hash)
{
    return &table->index[hash & table->line_mask];
}

static inline rb_line *rb_second_line(const rb_traces *table, uint64_t hash)
{
    return &table->index[(hash >> 24) & table->line_mask];
}

/* Never 0, which is that of an empty place. */
static inline uint32_t rb_tag_of(uint64_t hash) { return (uint32_t)(hash >> 32) | 1; }

typedef uint32_t rb_four_tags __attribute__((vector_size(16)));

/* Bit i: tag i is this one. All at once, since which of them it is no processor can foresee. */
static inline uint32_t rb_tags_like(const rb_line *line, uint32_t tag)
{
    static const rb_four_tags low_bits = {1, 2, 4, 8}, high_bits = {16, 32, 64, 0};
    rb_four_tags low, high; /* the last is no tag */
    memcpy(&low, (const uint8_t *)line, sizeof low);
    memcpy(&high, (const uint8_t *)line + sizeof low, sizeof high);
    low = ((rb_four_tags)(low == tag) & low_bits) | ((rb_four_tags)(high == tag) & high_bits);
    uint64_t halves[2];
    memcpy(halves, &low, sizeof halves);
    return (uint32_t)(halves[0] | halves[1] | (halves[0] | halves[1]) >> 32) & 0x7f;
}

/* What has the same tag in a line, as rb_line.refs: most likely the same trace. 0: nothing. */
static inline uint32_t rb_line_like(const rb_line *line, uint64_t hash)
{
    uint32_t found = rb_tags_like(line, rb_tag_of(hash));
    return found != 0 ? line->refs[__builtin_ctz(found)] : 0;
}

/* Whether a reference that was found before still is that of the trace. */
static inline int rb_index_holds(const rb_traces *table, uint32_t ref, uint64_t hash, const uint8_t id[16])
{
    uint32_t number = (ref & ~RB_DECIDED) - 1;
    if (!(ref & RB_DECIDED))
        return table->traces[number].span_count != 0 && rb_is_same_id(table->traces[number].id, id);
    const rb_decided *decided = &table->decided[number];
    return decided->hash == hash && (rb_is_same_id(decided->id, id) || rb_is_read_back(decided));
}

static inline uint32_t rb_line_find(const rb_traces *table, const rb_line *line, uint64_t hash, const uint8_t id[16])
{
    for (uint32_t found = rb_tags_like(line, rb_tag_of(hash)); found != 0; found &= found - 1) {
        uint32_t ref = line->refs[__builtin_ctz(found)];
        if (rb_index_holds(table, ref, hash, id))
            return ref;
    }
    return 0;
}

/* What a trace id has in the index: 0 nothing, else as rb_line.refs. */
static inline uint32_t rb_index_find(const rb_traces *table, uint64_t hash, const uint8_t id[16])
{
    const rb_line *first = rb_first_line(table, hash);
    uint32_t ref = rb_line_find(table, first, hash, id);
    return ref != 0 || first->elsewhere == 0 ? ref : rb_line_find(table, rb_second_line(table, hash), hash, id);
}

#endif
