/*
 * pressure.c - who gives way when there is no room: a ring that has more than its share waiting, its own oldest first.
 *
 * A producer can hurt the traces that it began, and those whose ids it knows; nobody else's.
 */
#include "sampling/table.h"

#define AT_ONCE 64 /* so many spans are settled at a time: finding who has most costs a look at each ring */

/* Of those that have begun traces that wait. */
static uint32_t origin_with_most(const rb_traces *table)
{
    uint32_t found = RB_NONE;
    for (uint32_t i = 0; i < table->origin_room; i++)
        if (table->origins[i].by_age.first != RB_NONE &&
            (found == RB_NONE || table->origins[i].waiting > table->origins[found].waiting))
            found = i;
    return found;
}

int64_t rb_traces_decide_early(rb_traces *table, uint32_t origin, uint64_t spans, uint32_t why, uint64_t now_nano)
{
    if (table == NULL || why >= RB_WHYS || (origin != RB_NONE && origin >= table->origin_room))
        return RB_E_ARGUMENT;
    uint64_t settled = 0;
    while (settled < spans) {
        rb_settle_chains(table); /* who has most is counted without them */
        uint32_t from = origin != RB_NONE ? origin : origin_with_most(table);
        if (from == RB_NONE || table->origins[from].by_age.first == RB_NONE)
            break;
        uint64_t until = settled + AT_ONCE < spans ? settled + AT_ONCE : spans;
        for (uint32_t number; settled < until && (number = table->origins[from].by_age.first) != RB_NONE;) {
            settled += table->traces[number].span_count;
            rb_decide(table, number, why, now_nano, 0);
        }
    }
    rb_settle_chains(table);
    return (int64_t)settled;
}

void rb_make_room(rb_traces *table, uint32_t origin, uint64_t now_nano)
{
    if (!rb_is_full(table))
        rb_traces_decide_early(table, origin, 1, RB_WHY_SHARE, now_nano);
    else if (table->origins[origin].waiting < table->fair_share ||
             rb_traces_decide_early(table, origin, 1, RB_WHY_LIMIT, now_nano) == 0)
        rb_traces_decide_early(table, RB_NONE, AT_ONCE, RB_WHY_LIMIT, now_nano);
}
