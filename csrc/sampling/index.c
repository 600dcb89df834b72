/*
 * index.c - where a trace id is found: one of two lines of eight tags.
 *
 * Two lines, of which a new one takes the emptier, fill evenly: with at most half of all tags in use by traces that
 * wait, both of somebody's are never full. Decisions fill what is left, and give way.
 */
#include "sampling/table.h"

/* Never 0, which is that of an empty place. */
static uint32_t tag_of(uint64_t hash) { return (uint32_t)(hash >> 32) | 1; }

typedef uint32_t four_tags __attribute__((vector_size(16)));

/* Bit i: tag i is this one. All at once, since which of them it is no processor can foresee. */
static inline uint32_t tags_like(const rb_line *line, uint32_t tag)
{
    static const four_tags low_bits = {1, 2, 4, 8}, high_bits = {16, 32, 64, 128};
    four_tags low, high;
    memcpy(&low, line->tags, sizeof low);
    memcpy(&high, line->tags + 4, sizeof high);
    low = ((four_tags)(low == tag) & low_bits) | ((four_tags)(high == tag) & high_bits);
    uint64_t halves[2];
    memcpy(halves, &low, sizeof halves);
    return (uint32_t)(halves[0] | halves[1] | (halves[0] | halves[1]) >> 32) & 0xff;
}

static inline uint32_t empty_ones(const rb_line *line) { return tags_like(line, 0); }

static uint32_t count_of(uint32_t bits)
{
    uint32_t count = 0;
    for (; bits != 0; bits &= bits - 1)
        count++;
    return count;
}

int rb_index_holds(const rb_traces *table, uint32_t ref, uint64_t hash, const uint8_t id[16])
{
    uint32_t number = (ref & ~RB_DECIDED) - 1;
    if (!(ref & RB_DECIDED))
        return table->traces[number].span_count != 0 && rb_is_same_id(table->traces[number].id, id);
    const rb_decided *decided = &table->decided[number];
    return decided->hash == hash && (rb_is_same_id(decided->id, id) || rb_is_read_back(decided));
}

uint32_t rb_index_find(const rb_traces *table, uint64_t hash, const uint8_t id[16])
{
    const rb_line *lines[2] = {rb_first_line(table, hash), rb_second_line(table, hash)};
    for (int i = 0; i < 2; i++)
        for (uint32_t found = tags_like(lines[i], tag_of(hash)); found != 0; found &= found - 1) {
            uint32_t ref = lines[i]->refs[__builtin_ctz(found)];
            if (rb_index_holds(table, ref, hash, id))
                return ref;
        }
    return 0;
}

uint32_t rb_index_like(const rb_traces *table, uint64_t hash)
{
    const rb_line *lines[2] = {rb_first_line(table, hash), rb_second_line(table, hash)};
    for (int i = 0; i < 2; i++) {
        uint32_t found = tags_like(lines[i], tag_of(hash));
        if (found != 0)
            return lines[i]->refs[__builtin_ctz(found)];
    }
    return 0;
}

/* How long ago the decision behind a reference was made, in decisions; 0: it is none. */
static uint32_t age_of(const rb_traces *table, uint32_t ref)
{
    if (!(ref & RB_DECIDED))
        return 0;
    return (((uint32_t)table->decided_count - (ref & ~RB_DECIDED)) & table->decided_mask) + 1;
}

static void put(rb_line *line, uint32_t at, uint64_t hash, uint32_t ref)
{
    line->tags[at] = tag_of(hash);
    line->refs[at] = ref;
}

int rb_index_add(rb_traces *table, uint64_t hash, uint32_t ref)
{
    rb_line *first = rb_first_line(table, hash), *second = rb_second_line(table, hash);
    uint32_t empty = empty_ones(first), other = empty_ones(second);
    if (empty | other) {
        int is_first = count_of(empty) >= count_of(other);
        put(is_first ? first : second, (uint32_t)__builtin_ctz(is_first ? empty : other), hash, ref);
        return 1;
    }
    rb_line *lines[2] = {first, second}, *oldest = NULL;
    uint32_t at = 0, most = 0;
    for (int i = 0; i < 2; i++)
        for (uint32_t j = 0; j < RB_TAGS; j++) {
            uint32_t age = age_of(table, lines[i]->refs[j]);
            if (age > most) {
                most = age;
                oldest = lines[i];
                at = j;
            }
        }
    if (oldest == NULL)
        return 0;
    put(oldest, at, hash, ref);
    return 1;
}

void rb_index_remove(rb_traces *table, uint64_t hash, uint32_t ref) { rb_index_replace(table, hash, ref, 0); }

void rb_index_replace(rb_traces *table, uint64_t hash, uint32_t before, uint32_t after)
{
    rb_line *lines[2] = {rb_first_line(table, hash), rb_second_line(table, hash)};
    for (int i = 0; i < 2; i++)
        for (uint32_t found = tags_like(lines[i], tag_of(hash)); found != 0; found &= found - 1) {
            uint32_t at = (uint32_t)__builtin_ctz(found);
            if (lines[i]->refs[at] != before)
                continue;
            lines[i]->refs[at] = after;
            lines[i]->tags[at] = after != 0 ? lines[i]->tags[at] : 0;
            return;
        }
}
