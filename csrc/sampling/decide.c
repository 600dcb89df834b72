/*
 * decide.c - which rule matches a trace, and what becomes of its spans.
 */
#include "sampling/index.h"

#define AHEAD 8 /* so many decisions later an old one gives way: its line of the index is asked for now */

uint32_t rb_match(const rb_traces *table, uint64_t mask, uint64_t spans, uint64_t begin, uint64_t end)
{
    uint32_t last = table->rule_count - 1;
    for (uint64_t bits = mask & (((uint64_t)1 << last) - 1); bits != 0; bits &= bits - 1) {
        uint32_t number = (uint32_t)__builtin_ctzll(bits);
        if (rb_matches(&table->rules[number], number, mask, spans, begin, end))
            return number;
    }
    return last;
}

uint64_t rb_due_of(const rb_traces *table, const rb_trace *trace, uint32_t *why)
{
    uint64_t due = trace->first_nano + table->waits[0], other = RB_NEVER;
    *why = RB_WHY_TIMEOUT;
    if (trace->root_nano != RB_NEVER)
        other = trace->root_nano + table->waits[1];
    else if (trace->entry_nano != RB_NEVER)
        other = trace->entry_nano + table->waits[2];
    if (other >= due)
        return due;
    *why = trace->root_nano != RB_NEVER ? RB_WHY_ROOT : RB_WHY_ENTRY;
    return other;
}

uint64_t rb_randomness(const uint8_t id[16])
{
    uint64_t low;
    memcpy(&low, id + 8, 8);
    return __builtin_bswap64(low) & (RB_THRESHOLDS - 1);
}

uint64_t rb_random_of(const rb_decided *decided, const uint8_t id[16])
{
    return decided->random_is == RB_RANDOM_OF_ID ? rb_randomness(id) : decided->random;
}

uint64_t rb_drawn_of(const rb_decided *decided)
{
    return decided->random_is == RB_RANDOM_STATED ? decided->random + 1 : 0;
}

uint32_t rb_fate_of(uint32_t rule, uint64_t threshold, uint64_t known, uint64_t random, uint64_t own, uint64_t *stated)
{
    /* One that would not have kept the trace is none: the head went by something else. */
    uint64_t before = own != 0 && random >= own - 1 ? own : known;
    if (before > threshold + 1)
        threshold = before - 1;
    int is_kept = random >= threshold;
    *stated = is_kept && before != 0 ? threshold + 1 : 0;
    return rule | RB_FATE_SETTLED | (is_kept ? RB_FATE_KEPT : 0);
}

static uint64_t higher_stated(uint64_t known, uint64_t stated, uint64_t random)
{
    return stated > known && random >= stated - 1 ? stated : known;
}

/* 1 + T_in of a trace: the highest that one of its spans states, of those that would have kept it. */
static uint64_t known_of(const rb_traces *table, const rb_trace *trace, uint64_t random, uint64_t own)
{
    uint64_t known = trace->random == 0 ? trace->known : 0;
    for (uint32_t at = trace->random != 0 ? trace->last_span : RB_NONE; at != RB_NONE; at = table->spans[at].before)
        known = higher_stated(known, table->spans[at].stated, random);
    known = higher_stated(known, own, random);
    return known != 0 ? known : table->is_head_open;
}

static void settle_span(rb_traces *table, const rb_chain *chain, rb_waiting *span)
{
    table->origins[span->origin].waiting--;
    uint64_t own = span->stated;
    uint32_t fate = chain->fate;
    span->stated = chain->stated;
    span->drew = chain->drew;
    if (own != 0)
        fate = rb_fate_of(fate & RB_FATE_RULE, chain->threshold, chain->known, chain->random, own, &span->stated) |
               (fate & (0xfu << RB_FATE_WHY_SHIFT));
    span->origin = fate;
    rb_count_span(table, fate);
}

/* In a chain every step is a cache miss: so one step in each, and ask for the next. */
void rb_settle_chains(rb_traces *table)
{
    rb_chain *chains = table->chains;
    uint32_t count = table->chain_count, settled = 0;
    uint32_t *to = &table->settled[table->settled_first + table->settled_count];
    while (count != 0)
        for (uint32_t i = 0; i < count;) {
            rb_chain *chain = &chains[i];
            rb_waiting *span = &table->spans[chain->at];
            to[settled++] = chain->at;
            settle_span(table, chain, span);
            chain->at = span->before;
            if (chain->at == RB_NONE) {
                *chain = chains[--count];
            } else {
                __builtin_prefetch(&table->spans[chain->at], 1);
                i++;
            }
        }
    table->waiting_spans -= settled;
    table->settled_count += settled;
    table->chain_count = 0;
}

static void begin_chain(rb_traces *table, const rb_trace *trace, const rb_decided *decided)
{
    if (trace->last_span == RB_NONE)
        return;
    if (table->chain_count == RB_CHAINS)
        rb_settle_chains(table);
    rb_chain *chain = &table->chains[table->chain_count++];
    *chain = (rb_chain){.at = trace->last_span,
                        .drew = rb_drawn_of(decided),
                        .threshold = decided->threshold,
                        .known = decided->known,
                        .random = decided->random};
    chain->fate = rb_fate_of(decided->rule, decided->threshold, decided->known, decided->random, 0, &chain->stated) |
                  (uint32_t)decided->why << RB_FATE_WHY_SHIFT;
    __builtin_prefetch(&table->spans[chain->at], 1);
}

/* The place of the oldest decision becomes free: nothing in the index says any more that it is there. */
static rb_decided *oldest_decision(rb_traces *table)
{
    uint32_t number = (uint32_t)table->decided_count & table->decided_mask;
    rb_decided *decided = &table->decided[number];
    if (table->decided_count > table->decided_mask) {
        uint64_t soon = table->decided[(table->decided_count + AHEAD) & table->decided_mask].hash;
        __builtin_prefetch(rb_first_line(table, soon), 1);
        rb_index_remove(table, decided->hash, RB_DECIDED | (number + 1));
    }
    return decided;
}

const rb_decided *rb_decide(rb_traces *table, uint32_t number, uint32_t why, uint64_t at_nano, uint64_t own)
{
    rb_trace *trace = &table->traces[number];
    uint64_t random = trace->random != 0 ? trace->random - 1 : rb_randomness(trace->id);
    uint32_t rule = rb_match(table, trace->mask, trace->span_count, trace->begin, trace->end);
    rb_decided *decided = oldest_decision(table);
    *decided = (rb_decided){.hash = trace->hash,
                            .threshold = table->choices[rule].threshold,
                            .known = known_of(table, trace, random, own),
                            .random = random,
                            .at_nano = at_nano,
                            .share = (float)table->choices[rule].share,
                            .rule = (uint8_t)rule,
                            .why = (uint8_t)why,
                            .random_is = trace->random != 0 ? RB_RANDOM_STATED : RB_RANDOM_OF_ID};
    memcpy(decided->id, trace->id, 16);
    uint32_t ref = RB_DECIDED | (((uint32_t)table->decided_count & table->decided_mask) + 1);
    table->decided_count++;
    rb_index_replace(table, trace->hash, number + 1, ref);
    rb_age_remove(table, &table->origins[trace->origin].by_age, number);
    if (trace->root_nano != RB_NEVER)
        rb_arrival_remove(table, &table->roots, number);
    else if (trace->entry_nano != RB_NEVER)
        rb_arrival_remove(table, &table->entries, number);
    begin_chain(table, trace, decided);
    table->counts.traces[rule]++;
    table->counts.spans[rule] += trace->span_count;
    table->totals.traces[rule][why]++;
    uint64_t stated;
    uint32_t fate = rb_fate_of(rule, decided->threshold, decided->known, random, 0, &stated);
    table->totals.kept_traces[rule] += (fate & RB_FATE_KEPT) != 0;
    table->counts.waiting_traces--;
    trace->span_count = 0;
    rb_pool_give(&table->trace_pool, number);
    return decided;
}

static void remember(rb_traces *table, const rb_decided *read)
{
    rb_decided *decided = oldest_decision(table);
    *decided = *read;
    if (decided->rule >= table->rule_count)
        decided->rule = (uint8_t)(table->rule_count - 1);
    rb_index_add(table, read->hash, RB_DECIDED | (((uint32_t)table->decided_count & table->decided_mask) + 1));
    table->decided_count++;
}

void rb_traces_remember(rb_traces *table, const rb_decided *decided, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        remember(table, &decided[i]);
}
