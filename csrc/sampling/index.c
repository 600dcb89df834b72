/*
 * index.c - a trace id is put into a line of the index, and out of it.
 *
 * A new one takes its first line while that has a few places left, and else the emptier of two: these fill evenly. With
 * no more traces that wait than decisions are remembered at most two sevenths of all places are theirs, and both lines of
 * somebody's are hardly ever full of them: then its spans are decided one by one. Decisions fill what is left, and give
 * way.
 */
#include "sampling/index.h"

#define LEFT_IN_FIRST 3 /* fewer are kept for those whose both lines are nearly full */

static uint32_t count_of(uint32_t bits)
{
    uint32_t count = 0;
    for (; bits != 0; bits &= bits - 1)
        count++;
    return count;
}

/* How long ago the decision behind a reference was made, in decisions; 0: it is none. */
static uint32_t age_of(const rb_traces *table, uint32_t ref)
{
    if (!(ref & RB_DECIDED))
        return 0;
    return (((uint32_t)table->decided_count - (ref & ~RB_DECIDED)) & table->decided_mask) + 1;
}

static void put(rb_traces *table, rb_line *line, uint32_t at, uint64_t hash, uint32_t ref)
{
    rb_line *first = rb_first_line(table, hash);
    first->elsewhere += line != first;
    line->tags[at] = rb_tag_of(hash);
    line->refs[at] = ref;
}

static void take_out(rb_traces *table, rb_line *line, uint32_t at, uint64_t hash)
{
    rb_line *first = rb_first_line(table, hash);
    first->elsewhere -= line != first;
    line->tags[at] = line->refs[at] = 0;
}

int rb_index_add(rb_traces *table, uint64_t hash, uint32_t ref)
{
    rb_line *first = rb_first_line(table, hash), *second = rb_second_line(table, hash);
    uint32_t empty = rb_tags_like(first, 0), places = count_of(empty);
    if (places < LEFT_IN_FIRST) {
        uint32_t other = rb_tags_like(second, 0);
        if (count_of(other) > places) {
            put(table, second, (uint32_t)__builtin_ctz(other), hash, ref);
            return 1;
        }
    }
    if (places != 0) {
        put(table, first, (uint32_t)__builtin_ctz(empty), hash, ref);
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
    take_out(table, oldest, at, table->decided[(oldest->refs[at] & ~RB_DECIDED) - 1].hash);
    put(table, oldest, at, hash, ref);
    return 1;
}

/* Where a reference is in a line: a number below RB_TAGS, or that: it is not. */
static uint32_t place_of(const rb_line *line, uint64_t hash, uint32_t ref)
{
    for (uint32_t found = rb_tags_like(line, rb_tag_of(hash)); found != 0; found &= found - 1)
        if (line->refs[__builtin_ctz(found)] == ref)
            return (uint32_t)__builtin_ctz(found);
    return RB_TAGS;
}

void rb_index_replace(rb_traces *table, uint64_t hash, uint32_t before, uint32_t after)
{
    rb_line *line = rb_first_line(table, hash);
    uint32_t at = place_of(line, hash, before);
    if (at == RB_TAGS && line->elsewhere != 0) {
        line = rb_second_line(table, hash);
        at = place_of(line, hash, before);
    }
    if (at == RB_TAGS)
        return;
    if (after != 0)
        line->refs[at] = after;
    else
        take_out(table, line, at, hash);
}

void rb_index_remove(rb_traces *table, uint64_t hash, uint32_t ref) { rb_index_replace(table, hash, ref, 0); }
