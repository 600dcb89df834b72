/*
 * due.c - traces whose wait is over. All waits of a kind are equally long, so that a list in the order in which they
 * began has the next one first.
 */
#include "sampling/index.h"

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

/*
 * What it takes to decide on a trace. The line lies anywhere in the index: it is loaded, since a prefetch whose page the
 * TLB lacks brings nothing in time.
 */
static void ask_for(const rb_traces *table, const rb_trace *trace)
{
    (void)*(const volatile uint32_t *)&rb_first_line(table, trace->hash)->elsewhere;
    if (trace->last_span != RB_NONE)
        __builtin_prefetch(&table->spans[trace->last_span], 1);
    if (trace->by_age.before != RB_NONE)
        __builtin_prefetch(&table->traces[trace->by_age.before].by_age, 1);
    if (trace->by_age.after != RB_NONE)
        __builtin_prefetch(&table->traces[trace->by_age.after].by_age, 1);
}

/* Decide on the first traces of a list whose wait is over, some at a time. Returns how many: all, or `most`. */
static uint64_t decide_first(rb_traces *table, const rb_list *list, size_t links, uint64_t upto_nano, uint64_t most)
{
    for (uint64_t decided = 0;;) {
        struct {
            uint64_t due;
            uint32_t number;
            uint32_t why;
        } next[RB_CHAINS];
        uint32_t count = 0, number = list->first;
        for (; number != RB_NONE && count < RB_CHAINS && decided + count < most; count++) {
            const rb_trace *trace = &table->traces[number];
            number = ((const rb_links *)((const uint8_t *)trace + links))->after;
            if (number != RB_NONE) {
                __builtin_prefetch(&table->traces[number], 1);
                __builtin_prefetch(&table->traces[number].first_nano, 1);
            }
            next[count].number = (uint32_t)(trace - table->traces);
            next[count].due = rb_due_of(table, trace, &next[count].why);
            if (next[count].due > upto_nano)
                break;
            ask_for(table, trace);
        }
        for (uint32_t i = 0; i < count; i++)
            rb_decide(table, next[i].number, next[i].why, next[i].due, 0);
        decided += count;
        if (count < RB_CHAINS)
            return decided;
    }
}

int64_t rb_traces_decide_due(rb_traces *table, uint64_t upto_nano, uint64_t most)
{
    uint64_t decided = decide_first(table, &table->roots, offsetof(rb_trace, by_arrival), upto_nano, most);
    decided += decide_first(table, &table->entries, offsetof(rb_trace, by_arrival), upto_nano, most - decided);
    if (after(table->age_bound, table->waits[0]) <= upto_nano) {
        for (uint32_t i = 0; i < table->origin_room; i++)
            decided +=
                decide_first(table, &table->origins[i].by_age, offsetof(rb_trace, by_age), upto_nano, most - decided);
        table->age_bound = rb_traces_oldest(table);
    }
    rb_settle_chains(table);
    return (int64_t)decided;
}
