/*
 * due.c - traces whose wait is over. All waits of a kind are equally long, so that a list in the order in which they
 * began has the next one first.
 */
#include "sampling/table.h"

uint64_t rb_traces_oldest(const rb_traces *table)
{
    uint64_t oldest = RB_NEVER;
    for (uint32_t i = 0; i < table->origin_room; i++) {
        uint32_t first = table->origins[i].by_age.first;
        if (first != RB_NONE && table->traces[first].first_nano < oldest)
            oldest = table->traces[first].first_nano;
    }
    return oldest;
}

static uint64_t after(uint64_t nano, uint64_t wait) { return nano == RB_NEVER ? RB_NEVER : nano + wait; }

uint64_t rb_traces_next_due(const rb_traces *table)
{
    uint64_t next = after(table->age_bound, table->waits[0]);
    uint64_t root = table->roots.first == RB_NONE ? RB_NEVER : table->traces[table->roots.first].root_nano;
    uint64_t entry = table->entries.first == RB_NONE ? RB_NEVER : table->traces[table->entries.first].entry_nano;
    root = after(root, table->waits[1]);
    entry = after(entry, table->waits[2]);
    next = root < next ? root : next;
    return entry < next ? entry : next;
}

/* The traces behind the first are asked for while it is decided. */
static void ask_for(const rb_traces *table, uint32_t number)
{
    if (number == RB_NONE)
        return;
    __builtin_prefetch(&table->traces[number], 1);
    __builtin_prefetch(&table->traces[number].first_nano, 1);
}

/* The first of a list, where its wait is over. Returns 1 when it was decided. */
static int decide_first(rb_traces *table, uint32_t number, uint64_t upto_nano)
{
    uint32_t why;
    uint64_t due = number == RB_NONE ? RB_NEVER : rb_due_of(table, &table->traces[number], &why);
    if (number == RB_NONE || due > upto_nano)
        return 0;
    ask_for(table, table->traces[number].by_age.after);
    ask_for(table, table->traces[number].by_arrival.after);
    rb_decide(table, number, why, due, 0);
    return 1;
}

int64_t rb_traces_decide_due(rb_traces *table, uint64_t upto_nano, uint64_t most)
{
    uint64_t decided = 0;
    while (decided < most && decide_first(table, table->roots.first, upto_nano))
        decided++;
    while (decided < most && decide_first(table, table->entries.first, upto_nano))
        decided++;
    if (after(table->age_bound, table->waits[0]) > upto_nano)
        return (int64_t)decided;
    for (uint32_t i = 0; i < table->origin_room; i++)
        while (decided < most && decide_first(table, table->origins[i].by_age.first, upto_nano))
            decided++;
    table->age_bound = rb_traces_oldest(table);
    return (int64_t)decided;
}
