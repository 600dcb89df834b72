/*
 * traces.c - a table is made, rings join and leave it, and what is settled is taken out of it.
 */
#include "sampling/table.h"
#include "shared/error.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define MAX_TRACES (1u << 24)
#define MAX_SPANS (1u << 28)
#define AHEAD 16        /* spans that are asked for before they are taken */
#define TRACES_A_LINE 4 /* of the index, and decisions: of seven places */

static int is_sound(const rb_traces_config *config)
{
    uint32_t decided = config->decided_room;
    return config->rules != NULL && config->rule_count >= 1 && config->rule_count <= RB_MAX_RULES &&
           config->trace_room >= 1 && config->trace_room <= MAX_TRACES && config->span_room >= 1 &&
           config->span_room <= MAX_SPANS && config->look_room >= 1 && config->look_room <= MAX_SPANS && decided >= 1 &&
           decided <= MAX_TRACES && (decided & (decided - 1)) == 0;
}

static uint64_t power_of_two_above(uint64_t number)
{
    uint64_t power = 1;
    while (power < number)
        power *= 2;
    return power;
}

/* The parts of the mapping, one behind the other; first with `base` NULL, to know how much it takes. */
static uint64_t lay_out(rb_traces *table, uint8_t *base)
{
    uint64_t at = 0;
#define PART(member, count)                                                                                            \
    do {                                                                                                               \
        table->member = (void *)(base + at);                                                                           \
        at += (((uint64_t)(count) * sizeof *table->member) + 63) / 64 * 64;                                            \
    } while (0)
    PART(index, table->line_mask + 1);
    PART(traces, table->trace_pool.room);
    PART(decided, table->decided_mask + 1);
    PART(spans, table->span_pool.room);
    PART(trace_pool.free, ((uint64_t)table->trace_pool.room + 63) / 64);
    PART(span_pool.free, ((uint64_t)table->span_pool.room + 63) / 64);
    PART(trace_pool.blocks, rb_pool_blocks(table->trace_pool.room));
    PART(span_pool.blocks, rb_pool_blocks(table->span_pool.room));
    PART(settled, table->span_pool.room);
#undef PART
    return at;
}

int rb_traces_new(const rb_traces_config *config, rb_traces **table_out, rb_error *error)
{
    if (config == NULL || table_out == NULL || !is_sound(config))
        return rb_fail(error, RB_E_ARGUMENT, 0, "no rules, or a room out of bounds");
    rb_traces *table = calloc(1, sizeof *table);
    if (table == NULL)
        return rb_fail(error, RB_E_SYSTEM, ENOMEM, "%m");
    memcpy(table->key, config->key, sizeof config->key);
    table->waits[0] = config->wait_nano;
    table->waits[1] = config->wait_after_root_nano;
    table->waits[2] = config->wait_after_entry_nano;
    table->has_no_wait = table->waits[0] == 0 || table->waits[1] == 0 || table->waits[2] == 0;
    table->rule_count = config->rule_count;
    memcpy(table->rules, config->rules, config->rule_count * sizeof *config->rules);
    table->is_head_open = config->is_head_open != 0;
    table->span_room = config->span_room;
    table->look_room = config->look_room;
    table->trace_pool.room = config->trace_room;
    table->span_pool.room = config->span_room + config->look_room;
    table->decided_mask = config->decided_room - 1;
    uint64_t traces = (uint64_t)config->trace_room + config->decided_room;
    table->line_mask = power_of_two_above((traces + TRACES_A_LINE - 1) / TRACES_A_LINE) - 1;
    table->roots = table->entries = RB_EMPTY_LIST;
    table->age_bound = RB_NEVER;
    table->bytes = lay_out(table, NULL);
    /* Zero pages, which take memory as they are used. */
    void *base = mmap(NULL, table->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        int why = errno;
        free(table);
        return rb_fail(error, RB_E_SYSTEM, why, "%m");
    }
    madvise(base, table->bytes, MADV_HUGEPAGE); /* a lookup anywhere in 100 MiB misses the TLB, too */
    lay_out(table, base);
    *table_out = table;
    return RB_OK;
}

void rb_traces_free(rb_traces *table)
{
    if (table == NULL)
        return;
    munmap(table->index, table->bytes);
    free(table->origins);
    free(table);
}

void rb_traces_choose(rb_traces *table, const rb_choice *choices)
{
    memcpy(table->choices, choices, table->rule_count * sizeof *choices);
}

static void share_fairly(rb_traces *table)
{
    table->fair_share = table->span_room / (table->joined != 0 ? table->joined : 1);
}

int64_t rb_traces_join(rb_traces *table)
{
    uint32_t number = 0;
    while (number < table->origin_room && (table->origins[number].is_joined || table->origins[number].waiting != 0 ||
                                           table->origins[number].by_age.first != RB_NONE))
        number++;
    if (number == table->origin_room) {
        uint32_t room = 2 * table->origin_room + 16;
        rb_origin *grown = realloc(table->origins, room * sizeof *grown);
        if (grown == NULL)
            return RB_E_SYSTEM;
        for (uint32_t i = table->origin_room; i < room; i++)
            grown[i] = (rb_origin){.by_age = RB_EMPTY_LIST};
        table->origins = grown;
        table->origin_room = room;
    }
    table->origins[number].is_joined = 1;
    table->joined++;
    share_fairly(table);
    return number;
}

int rb_traces_leave(rb_traces *table, uint32_t origin)
{
    if (origin >= table->origin_room || !table->origins[origin].is_joined)
        return RB_E_ARGUMENT;
    table->origins[origin].is_joined = 0;
    table->joined--;
    share_fairly(table);
    return RB_OK;
}

int rb_traces_place(rb_traces *table, const rb_look *look, const uint32_t *which, const uint64_t *places,
                    uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        if (which[i] >= look->count)
            return RB_E_ARGUMENT;
    for (uint64_t i = 0; i < count; i++) {
        uint32_t span = look->spans[which[i]];
        if (span < table->span_pool.fresh)
            table->spans[span].place = places[i];
    }
    return RB_OK;
}

uint64_t rb_traces_settled(const rb_traces *table) { return table->settled_count; }

int64_t rb_traces_take(rb_traces *table, uint64_t most, uint64_t *places, uint32_t *fates, uint64_t *stated,
                       uint64_t *drew, uint64_t *kept)
{
    uint64_t taken = table->settled_count < most ? table->settled_count : most, first = 0, last = taken;
    const uint32_t *numbers = &table->settled[table->settled_first];
    for (uint64_t i = 0; i < taken; i++) {
        if (i + AHEAD < taken)
            __builtin_prefetch(&table->spans[numbers[i + AHEAD]]);
        uint32_t number = numbers[i];
        const rb_waiting *span = &table->spans[number];
        uint64_t at = span->origin & RB_FATE_KEPT ? first++ : --last;
        places[at] = span->place;
        fates[at] = span->origin;
        stated[at] = span->stated;
        drew[at] = span->drew;
        rb_pool_give(&table->span_pool, number);
    }
    table->settled_count -= (uint32_t)taken;
    table->settled_first = table->settled_count == 0 ? 0 : table->settled_first + (uint32_t)taken;
    *kept = first;
    return (int64_t)taken;
}

void rb_traces_count(rb_traces *table, rb_traces_counts *counts)
{
    uint64_t traces = table->counts.waiting_traces;
    *counts = table->counts;
    counts->waiting_spans = table->waiting_spans;
    table->counts = (rb_traces_counts){.waiting_traces = traces};
}

void rb_traces_total(const rb_traces *table, rb_traces_totals *totals) { *totals = table->totals; }

uint64_t rb_traces_decisions(const rb_traces *table) { return table->decided_count; }

int64_t rb_traces_decided(const rb_traces *table, uint64_t *number, rb_decided *decided, uint64_t most)
{
    uint64_t room = (uint64_t)table->decided_mask + 1, copied = 0;
    if (table->decided_count > room && *number < table->decided_count - room)
        *number = table->decided_count - room;
    for (; copied < most && *number < table->decided_count; ++*number)
        decided[copied++] = table->decided[*number & table->decided_mask];
    return (int64_t)copied;
}
