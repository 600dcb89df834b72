/*
 * look.c - records of one ring come, and each meets its trace.
 *
 * With a million traces every step is a cache miss. So a look goes over its records in blocks, three times: hash, load the
 * lines of the index and find by tag, ask for the traces, then do it. What the second found is checked again by the
 * third, as the records before may have changed it. What new traces and spans take is known before.
 *
 * Spans of one trace often come one behind the other, as a thread ends them: what was found for one is tried for the next.
 */
#include "sampling/index.h"
#include "sampling/siphash.h"

#define BLOCK RB_POOL_AHEAD

/* Records are those of a caller's buffer. */
typedef struct __attribute__((packed, may_alias)) any_record {
    rb_record core;
} any_record;

/* A record, as the rules and the table see it. */
typedef struct arrival {
    const any_record *record;
    uint64_t hash;
    uint64_t mask;
    uint64_t stated; /* 1 + T */
    uint64_t random; /* 1 + R */
    uint64_t at;     /* in the look */
    uint32_t found;  /* in the index, as rb_line.refs */
} arrival;

static inline const any_record *record_at(const rb_look *look, uint64_t i)
{
    return (const any_record *)((const uint8_t *)look->records + i * look->slot_bytes);
}

static inline int is_sampled(uint32_t flags)
{
    return (flags & RB_SPAN_SAMPLED) || !(flags & RB_SPAN_HAS_IS_REMOTE); /* else who wrote them knows of no sampling */
}

static inline int is_root(const any_record *record)
{
    uint64_t parent;
    memcpy(&parent, record->core.parent_span_id, 8);
    return parent == 0;
}

/* 1 + T that a span states: itself, or as one of a trace whose root its ring's sampler kept. */
static uint64_t stated_by(const rb_look *look, uint64_t i, const any_record *record)
{
    if (look->thresholds != NULL)
        return look->thresholds[i];
    uint32_t kept = RB_SPAN_SAMPLED | RB_SPAN_RANDOM;
    uint32_t of_root = record->core.present & look->present_bits & (uint32_t)RB_PRESENT_ROOT_THRESHOLD;
    return look->root_threshold != 0 && (is_root(record) || of_root) && (record->core.flags & kept) == kept &&
                   rb_randomness(record->core.trace_id) >= look->root_threshold - 1
               ? look->root_threshold
               : 0;
}

/* A span that decides on itself: nothing else belongs to it, or nothing can be remembered of it. */
static uint32_t decide_by_itself(rb_traces *table, const rb_look *look, const arrival *span, uint32_t why)
{
    uint64_t i = span->at;
    const any_record *any = span->record;
    uint32_t rule = rb_match(table, span->mask, 1, any->core.start_unix_nano, any->core.end_unix_nano);
    uint64_t random = span->random != 0 ? span->random - 1 : rb_randomness(any->core.trace_id);
    look->drew[i] = span->random;
    table->counts.traces[rule]++;
    table->counts.spans[rule]++;
    table->totals.traces[rule][why]++;
    uint32_t fate =
        rb_fate_of(rule, table->choices[rule].threshold, table->is_head_open, random, span->stated, &look->stated[i]);
    table->totals.kept_traces[rule] += (fate & RB_FATE_KEPT) != 0;
    return fate | why << RB_FATE_WHY_SHIFT;
}

static uint32_t fate_of_late(rb_traces *table, const rb_look *look, const arrival *span)
{
    uint64_t i = span->at;
    const any_record *any = span->record;
    const rb_decided *decided = &table->decided[(span->found & ~RB_DECIDED) - 1];
    uint64_t random = rb_random_of(decided, any->core.trace_id), own = span->stated;
    uint32_t fate = rb_fate_of(decided->rule, decided->threshold, decided->known, random, own, &look->stated[i]);
    fate |= RB_FATE_LATE | (uint32_t)decided->why << RB_FATE_WHY_SHIFT;
    look->drew[i] = rb_drawn_of(decided);
    table->totals.late++;
    table->counts.late_shares += (double)decided->share;
    if (fate & RB_FATE_KEPT)
        return fate;
    uint32_t again = look->again != NULL ? look->again[i] : RB_AGAIN_NOT;
    uint32_t rule = rb_match(table, span->mask, 1, any->core.start_unix_nano, any->core.end_unix_nano);
    if ((again == RB_AGAIN_MAYBE && rb_is_read_back(decided)) ||
        (again != RB_AGAIN_ITSELF && !table->rules[rule].keeps_all))
        return fate;
    /* For itself: the trace is not kept after all, as then one of its spans would have decided by its being late. */
    look->stated[i] = own != 0 && random >= own - 1 ? own : decided->known;
    table->totals.late_kept++;
    return fate | RB_FATE_KEPT | RB_FATE_ITSELF;
}

/* A trace begins. Returns its number; RB_NONE: both its places in the index are full. */
static uint32_t begin_trace(rb_traces *table, const rb_look *look, const arrival *span)
{
    uint32_t number = rb_pool_take(&table->trace_pool);
    if (!rb_index_add(table, span->hash, number + 1)) {
        rb_pool_give(&table->trace_pool, number);
        return RB_NONE;
    }
    rb_trace *trace = &table->traces[number];
    *trace = (rb_trace){.hash = span->hash,
                        .begin = UINT64_MAX,
                        .last_span = RB_NONE,
                        .origin = look->origin,
                        .first_nano = look->now_nano,
                        .root_nano = RB_NEVER,
                        .entry_nano = RB_NEVER};
    memcpy(trace->id, span->record->core.trace_id, 16);
    rb_age_append(table, &table->origins[look->origin].by_age, number);
    table->age_bound = look->now_nano < table->age_bound ? look->now_nano : table->age_bound;
    table->counts.waiting_traces++;
    return number;
}

/* What the rules and T_in ask for. */
static void take_in(rb_trace *trace, const arrival *span)
{
    const any_record *any = span->record;
    trace->span_count++;
    trace->mask |= span->mask;
    trace->begin = any->core.start_unix_nano < trace->begin ? any->core.start_unix_nano : trace->begin;
    trace->end = any->core.end_unix_nano > trace->end ? any->core.end_unix_nano : trace->end;
    if (span->stated > trace->known && rb_randomness(trace->id) >= span->stated - 1)
        trace->known = span->stated;
    if (span->random != 0 && trace->random == 0)
        trace->random = span->random;
}

/* The span waits. Returns its number. */
static uint32_t add_span(rb_traces *table, const rb_look *look, rb_trace *trace, const arrival *span)
{
    uint32_t number = rb_pool_take(&table->span_pool);
    table->spans[number] = (rb_waiting){.stated = span->stated, .before = trace->last_span, .origin = look->origin};
    trace->last_span = number;
    table->origins[look->origin].waiting++;
    table->waiting_spans++;
    return number;
}

/* A root or an entry came: a wait may end sooner, or later. */
static void note_arrival(rb_traces *table, uint32_t number, const any_record *record, uint64_t now_nano)
{
    int root = is_root(record);
    if (!root && !(record->core.flags & RB_SPAN_IS_REMOTE))
        return;
    rb_trace *trace = &table->traces[number];
    if (trace->root_nano != RB_NEVER)
        return;
    if (trace->entry_nano != RB_NEVER)
        rb_arrival_remove(table, &table->entries, number);
    if (root)
        trace->root_nano = now_nano;
    else
        trace->entry_nano = now_nano;
    rb_arrival_append(table, root ? &table->roots : &table->entries, number);
}

/* Why to decide on a trace now that a span has come, or RB_WHYS: not yet. */
static uint32_t why_now(const rb_traces *table, const rb_trace *trace, uint64_t now_nano)
{
    if (rb_settles(table, trace->mask, trace->span_count, trace->begin, trace->end))
        return RB_WHY_RULE;
    if (!table->has_no_wait)
        return RB_WHYS;
    uint32_t why;
    int may_be_due = trace->first_nano == now_nano || trace->root_nano == now_nano || trace->entry_nano == now_nano;
    return may_be_due && rb_due_of(table, trace, &why) <= now_nano ? why : RB_WHYS; /* a wait of nothing */
}

/* A span meets its trace, or begins it. Where none can be remembered it decides on itself. */
static uint32_t meet(rb_traces *table, const rb_look *look, arrival *span, int is_short)
{
    uint64_t i = span->at;
    uint32_t number = span->found != 0 ? span->found - 1 : RB_NONE;
    if (number == RB_NONE && rb_pool_left(&table->trace_pool) != 0)
        number = begin_trace(table, look, span);
    if (number == RB_NONE) {
        table->totals.forgotten++;
        return decide_by_itself(table, look, span, RB_WHY_LIMIT);
    }
    span->found = number + 1;
    rb_trace *trace = &table->traces[number];
    take_in(trace, span);
    note_arrival(table, number, span->record, look->now_nano);
    uint32_t why = why_now(table, trace, look->now_nano);
    if (why == RB_WHYS && is_short)
        why = RB_WHY_SHARE;
    if (why == RB_WHYS) {
        look->spans[i] = add_span(table, look, trace, span);
        return 0;
    }
    const rb_decided *decided = rb_decide(table, number, why, look->now_nano, span->stated);
    look->drew[i] = rb_drawn_of(decided);
    return rb_fate_of(decided->rule, decided->threshold, decided->known, decided->random, span->stated,
                      &look->stated[i]) |
           why << RB_FATE_WHY_SHIFT;
}

/* A span that nothing else belongs to, or that its head did not want: it needs no place in the table. */
static int is_decided_at_once(rb_traces *table, const rb_look *look, const arrival *span, uint32_t *fate)
{
    const any_record *any = span->record;
    if (!is_sampled(any->core.flags)) {
        table->totals.unsampled++;
        *fate = RB_FATE_SETTLED | RB_FATE_UNSAMPLED;
        return 1;
    }
    if (!(any->core.present & look->present_bits & (uint32_t)RB_PRESENT_ALONE))
        return 0;
    int settles = rb_settles(table, span->mask, 1, any->core.start_unix_nano, any->core.end_unix_nano);
    *fate = decide_by_itself(table, look, span, settles ? RB_WHY_RULE : RB_WHY_ALONE);
    rb_count_span(table, *fate);
    return 1;
}

/* Let others give way where there is no room for a span. What was found may be gone. Returns whether there still is none. */
static int find_room(rb_traces *table, const rb_look *look, arrival *span)
{
    if (rb_has_room(table, look->origin, 1))
        return 0;
    rb_settle_chains(table);
    if (rb_has_room(table, look->origin, 1))
        return 0;
    rb_make_room(table, look->origin, look->now_nano);
    span->found = rb_index_find(table, span->hash, span->record->core.trace_id);
    return !rb_has_room(table, look->origin, 1);
}

static uint32_t fate_now(rb_traces *table, const rb_look *look, arrival *span, int has_room)
{
    const uint8_t *id = span->record->core.trace_id;
    if (span->found == 0 || !rb_index_holds(table, span->found, span->hash, id))
        span->found = rb_index_find(table, span->hash, id);
    int is_short = !has_room && !(span->found & RB_DECIDED) && find_room(table, look, span);
    if (span->found & RB_DECIDED)
        return fate_of_late(table, look, span);
    return meet(table, look, span, is_short);
}

/* Decide on what needs no place in the table; hash the others. Returns how many. */
static uint32_t begin_block(rb_traces *table, const rb_look *look, uint64_t *next, arrival *spans)
{
    uint32_t count = 0;
    uint64_t i = *next;
    for (; i < look->count && count < BLOCK; i++) {
        const any_record *record = record_at(look, i);
        arrival *span = &spans[count];
        *span = (arrival){.record = record,
                          .mask = look->masks[i],
                          .stated = stated_by(look, i, record),
                          .random = look->randoms != NULL ? look->randoms[i] : 0,
                          .at = i};
        look->spans[i] = RB_NONE;
        look->stated[i] = look->drew[i] = 0;
        if (is_decided_at_once(table, look, span, &look->fates[i]))
            continue;
        if (count != 0 && rb_is_same_id(record->core.trace_id, spans[count - 1].record->core.trace_id)) {
            span->hash = spans[count - 1].hash;
        } else {
            span->hash = rb_siphash(table->key, record->core.trace_id);
        }
        count++;
    }
    *next = i;
    return count;
}

/* Whether a span is of the trace of the one before: what is found for that is its, too. */
static inline int is_follower(const arrival *spans, uint32_t i) { return i != 0 && spans[i].hash == spans[i - 1].hash; }

/* Find by tag alone, in the first lines; and ask for the second ones of those who may be there. */
static void find_in_first(const rb_traces *table, uint32_t count, arrival *spans)
{
    for (uint32_t i = 0; i < count; i++) /* one behind the other, so that memory brings several in at a time */
        (void)*(const volatile uint32_t *)&rb_first_line(table, spans[i].hash)->elsewhere;
    for (uint32_t i = 0; i < count; i++) {
        if (is_follower(spans, i))
            continue;
        arrival *span = &spans[i];
        const rb_line *line = rb_first_line(table, span->hash);
        span->found = rb_line_like(line, span->hash);
        if (span->found == 0 && line->elsewhere != 0)
            __builtin_prefetch(rb_second_line(table, span->hash), 1);
    }
}

/* Find the others; ask for what is there, or for what a new one takes. */
static void find_block(const rb_traces *table, uint32_t count, arrival *spans)
{
    uint32_t begun = 0;
    find_in_first(table, count, spans);
    for (uint32_t i = 0; i < count; i++) {
        arrival *span = &spans[i];
        __builtin_prefetch(&table->spans[rb_pool_next(&table->span_pool, i)], 1);
        if (is_follower(spans, i))
            continue;
        if (span->found == 0 && rb_first_line(table, span->hash)->elsewhere != 0)
            span->found = rb_line_like(rb_second_line(table, span->hash), span->hash);
        if (span->found & RB_DECIDED) {
            __builtin_prefetch(&table->decided[(span->found & ~RB_DECIDED) - 1]);
        } else if (span->found != 0) {
            const rb_trace *trace = &table->traces[span->found - 1];
            __builtin_prefetch(trace, 1);
            if (is_root(span->record) || span->stated != 0 || span->record->core.flags & RB_SPAN_IS_REMOTE)
                __builtin_prefetch(&trace->first_nano, 1);
        } else {
            const rb_trace *trace = &table->traces[rb_pool_next(&table->trace_pool, begun++)];
            __builtin_prefetch(trace, 1);
            __builtin_prefetch(&trace->first_nano, 1);
        }
    }
}

/* Whether so many spans of the look may wait, whatever becomes of them. */
static int have_room(const rb_traces *table, uint32_t origin, uint32_t count)
{
    return rb_has_room(table, origin, count) && rb_pool_left(&table->trace_pool) >= count;
}

static void meet_block(rb_traces *table, const rb_look *look, uint32_t count, arrival *spans)
{
    int all_have_room = have_room(table, look->origin, count);
    for (uint32_t i = 0; i < count; i++) {
        arrival *span = &spans[i];
        if (is_follower(spans, i))
            span->found = spans[i - 1].found;
        uint32_t fate = look->fates[span->at] = fate_now(table, look, span, all_have_room);
        if (fate & RB_FATE_SETTLED)
            rb_count_span(table, fate);
    }
}

static int64_t list_held(rb_look *look)
{
    uint32_t count = 0, kept = 0, for_themselves = 0;
    for (uint64_t i = 0; i < look->count; i++) {
        uint32_t fate = look->fates[i];
        look->held[count] = (uint32_t)i;
        count += !(fate & RB_FATE_SETTLED) || fate & RB_FATE_KEPT;
        kept += (fate & RB_FATE_KEPT) != 0;
        for_themselves += (fate & RB_FATE_ITSELF) != 0;
    }
    look->kept = kept;
    look->for_themselves = for_themselves;
    return count;
}

int64_t rb_traces_look(rb_traces *table, rb_look *look)
{
    if (table == NULL || look == NULL || look->count > table->look_room || table->settled_count != 0 ||
        look->origin >= table->origin_room || !table->origins[look->origin].is_joined ||
        look->slot_bytes < RB_CORE_BYTES || look->root_threshold > RB_THRESHOLDS)
        return RB_E_ARGUMENT;
    if (look->count && (!look->records || !look->masks || !look->fates || !look->stated || !look->drew || !look->spans))
        return RB_E_ARGUMENT;
    arrival spans[BLOCK];
    for (uint64_t next = 0; next < look->count;) {
        uint32_t count = begin_block(table, look, &next, spans);
        rb_pool_look_ahead(&table->trace_pool);
        rb_pool_look_ahead(&table->span_pool);
        find_block(table, count, spans);
        meet_block(table, look, count, spans);
    }
    rb_settle_chains(table);
    return look->held != NULL ? list_held(look) : 0;
}

int rb_traces_know(const rb_traces *table, const void *records, uint32_t slot_bytes, uint64_t count, uint8_t *known)
{
    if (table == NULL || slot_bytes < RB_CORE_BYTES || (count && (records == NULL || known == NULL)))
        return RB_E_ARGUMENT;
    const rb_look look = {.records = records, .slot_bytes = slot_bytes};
    for (uint64_t i = 0; i < count; i++) {
        const uint8_t *id = record_at(&look, i)->core.trace_id;
        known[i] = rb_index_find(table, rb_siphash(table->key, id), id) != 0;
    }
    return RB_OK;
}
