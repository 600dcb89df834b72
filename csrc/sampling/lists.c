/*
 * lists.c - lists of traces, in the order in which they came: the first is always the next whose wait is over.
 */
#include "sampling/table.h"

static void append(rb_traces *table, rb_list *list, uint32_t number, size_t links)
{
    rb_trace *traces = table->traces;
    rb_links *own = (rb_links *)((uint8_t *)&traces[number] + links);
    own->before = list->last;
    own->after = RB_NONE;
    if (list->last == RB_NONE)
        list->first = number;
    else
        ((rb_links *)((uint8_t *)&traces[list->last] + links))->after = number;
    list->last = number;
}

static void remove_from(rb_traces *table, rb_list *list, uint32_t number, size_t links)
{
    rb_trace *traces = table->traces;
    rb_links own = *(rb_links *)((uint8_t *)&traces[number] + links);
    if (own.before == RB_NONE)
        list->first = own.after;
    else
        ((rb_links *)((uint8_t *)&traces[own.before] + links))->after = own.after;
    if (own.after == RB_NONE)
        list->last = own.before;
    else
        ((rb_links *)((uint8_t *)&traces[own.after] + links))->before = own.before;
}

void rb_age_append(rb_traces *table, rb_list *list, uint32_t number)
{
    append(table, list, number, offsetof(rb_trace, by_age));
}

void rb_age_remove(rb_traces *table, rb_list *list, uint32_t number)
{
    remove_from(table, list, number, offsetof(rb_trace, by_age));
}

void rb_arrival_append(rb_traces *table, rb_list *list, uint32_t number)
{
    append(table, list, number, offsetof(rb_trace, by_arrival));
}

void rb_arrival_remove(rb_traces *table, rb_list *list, uint32_t number)
{
    remove_from(table, list, number, offsetof(rb_trace, by_arrival));
}
