/*
 * table.h - the trace table: what waits, what is decided, and where each is found. Private.
 *
 *   index     lines of seven tags; a trace is in its own line, or in one other where that has few places left
 *   traces    those that are not decided, in a pool; each in the list of its ring, by age, and in one of roots or entries
 *   spans     those that wait, in a pool: a chain for each trace, the latest first
 *   chains    of traces that were just decided, whose spans are settled side by side
 *   settled   numbers of the spans to be taken
 *   decided   a circle of the latest decisions, for late spans: the newest takes the place of the oldest
 *
 * All pools are of a fixed size and made with the table: nothing that comes out of a ring makes it grow. Numbers of pool
 * entries are u32; RB_NONE is none.
 */
#ifndef RINGBUF_SAMPLING_TABLE_H
#define RINGBUF_SAMPLING_TABLE_H

#include "sampling/pool.h"
#include "sampling/traces.h"

#include <string.h>

#define RB_NONE UINT32_MAX
#define RB_NEVER UINT64_MAX
#define RB_TAGS 7

/* A list through the pool: its ends. */
typedef struct rb_list {
    uint32_t first;
    uint32_t last;
} rb_list;

typedef struct rb_links {
    uint32_t before;
    uint32_t after;
} rb_links;

/* The first half is all that a span touches that is neither a root nor an entry, and states nothing. */
typedef struct __attribute__((aligned(64))) rb_trace {
    uint8_t id[16];
    uint64_t hash;
    uint64_t mask;  /* of the rules, one of its spans meets the conditions on spans */
    uint64_t begin; /* of the first span, by the producers' clocks */
    uint64_t end;
    uint32_t span_count; /* 0: not in use */
    uint32_t last_span;
    uint32_t origin; /* of its first span */
    uint32_t pad;

    uint64_t first_nano; /* arrivals, by the drain's clock */
    uint64_t root_nano;  /* RB_NEVER: none has come */
    uint64_t entry_nano;
    uint64_t random; /* 1 + R where a span states it */
    rb_links by_age;
    rb_links by_arrival; /* of its root, or of its last entry */
    uint64_t known;      /* 1 + the highest T that a span states and that would have kept the id; 0: none */
    uint64_t pad_to_line;
} rb_trace;

typedef struct rb_waiting {
    uint64_t place;
    uint64_t stated; /* 1 + T, 0: none; once decided, what it states if it is kept */
    uint64_t drew;   /* once decided: 1 + R where its trace stated one */
    uint32_t before; /* the one of its trace that came before it */
    uint32_t origin; /* once decided its fate */
} rb_waiting;

/* Spans of a trace that was decided, from this one on, and what becomes of those that state no threshold. */
typedef struct rb_chain {
    uint32_t at;
    uint32_t fate;
    uint64_t stated;
    uint64_t drew;
    uint64_t threshold; /* what becomes of others is decided by these */
    uint64_t known;
    uint64_t random;
} rb_chain;

#define RB_CHAINS 16

/* A line of cache. */
typedef struct __attribute__((aligned(64))) rb_line {
    uint32_t tags[RB_TAGS]; /* 0: empty */
    uint32_t elsewhere;     /* how many whose first line this is lie in their second */
    uint32_t refs[RB_TAGS]; /* 1 + the number, with RB_DECIDED of a decision */
    uint32_t pad;
} rb_line;

#define RB_DECIDED 0x80000000u

typedef struct rb_origin {
    rb_list by_age;
    uint32_t waiting; /* spans that came from it */
    uint32_t is_joined;
} rb_origin;

struct rb_traces {
    uint64_t key[2];
    uint64_t waits[3]; /* timeout, root, entry */
    uint32_t rule_count;
    uint32_t is_head_open;
    rb_trace_rule rules[RB_MAX_RULES];
    rb_choice choices[RB_MAX_RULES];
    rb_line *index;
    uint64_t line_mask;
    rb_trace *traces;
    rb_pool trace_pool;
    rb_waiting *spans;
    rb_pool span_pool;
    rb_decided *decided;
    uint64_t decided_count; /* in all; the newest is at decided_count - 1, modulo the room */
    uint32_t decided_mask;
    uint32_t waiting_spans;
    uint32_t span_room; /* that may wait; the pool has more, for those that are settled and not yet taken */
    uint32_t look_room;
    uint64_t age_bound; /* no trace that waits came before */
    rb_list roots;
    rb_list entries;
    /* settled_count spans to be taken, from settled_first on; from the start again once all are: no span comes before. */
    uint32_t *settled;
    uint32_t settled_first;
    uint32_t settled_count;
    uint32_t chain_count;
    uint32_t has_no_wait; /* one of the waits is nothing: a trace may be due when its span comes */
    rb_chain chains[RB_CHAINS];
    rb_origin *origins;
    uint32_t origin_room;
    uint32_t joined;
    uint32_t fair_share; /* of the room for spans: 1 / joined */
    uint64_t bytes;      /* of the mapping that has it all but the origins */
    rb_traces_counts counts;
    rb_traces_totals totals;
};

/* ---- index.c; who looks for a trace includes index.h ---- */

static inline int rb_is_same_id(const uint8_t one[16], const uint8_t other[16])
{
    uint64_t ones[2], others[2];
    memcpy(ones, one, sizeof ones);
    memcpy(others, other, sizeof others);
    return ones[0] == others[0] && ones[1] == others[1];
}

/* Whether a decision is of an earlier drain: of the trace id only the hash is known. */
static inline int rb_is_read_back(const rb_decided *decided)
{
    static const uint8_t unknown[16];
    return rb_is_same_id(decided->id, unknown);
}

/* Add a reference; the oldest decision makes room. Returns 0 where both lines are full of traces that wait. */
int rb_index_add(rb_traces *table, uint64_t hash, uint32_t ref);
void rb_index_remove(rb_traces *table, uint64_t hash, uint32_t ref);
/* Put another reference in the place of one. */
void rb_index_replace(rb_traces *table, uint64_t hash, uint32_t before, uint32_t after);

/* ---- rules ---- */

static inline int rb_matches(const rb_trace_rule *rule, uint32_t number, uint64_t mask, uint64_t spans, uint64_t begin,
                             uint64_t end)
{
    return (mask >> number & 1) && spans >= rule->spans_at_least &&
           (!rule->is_longer || (end > begin && end - begin > rule->longer_than_nano));
}

/* Whether no span that may still come can change which rule matches: the first does already. */
static inline int rb_settles(const rb_traces *table, uint64_t mask, uint64_t spans, uint64_t begin, uint64_t end)
{
    return table->rule_count == 1 || rb_matches(&table->rules[0], 0, mask, spans, begin, end);
}

/* ---- decide.c ---- */

/* The first rule that matches: conditions on spans that are met, how many spans, first start, last end. */
uint32_t rb_match(const rb_traces *table, uint64_t mask, uint64_t spans, uint64_t begin, uint64_t end);
/* When to decide on a trace at the latest, and why then. */
uint64_t rb_due_of(const rb_traces *table, const rb_trace *trace, uint32_t *why);
/*
 * Decide on a trace: it becomes a decision, its spans that wait a chain to be settled. `own` is what a span states that makes it decided
 * and does not wait: 1 + T, or 0.
 */
const rb_decided *rb_decide(rb_traces *table, uint32_t number, uint32_t why, uint64_t at_nano, uint64_t own);
/* Settle the spans of all chains. Until then they count as if they waited. */
void rb_settle_chains(rb_traces *table);
/* The fate of a span, RB_FATE_… without why; *stated becomes 1 + T where it states one, else 0. */
uint32_t rb_fate_of(uint32_t rule, uint64_t threshold, uint64_t known, uint64_t random, uint64_t own, uint64_t *stated);
/* R of a span's trace; 1 + R where it was stated, else 0. */
uint64_t rb_random_of(const rb_decided *decided, const uint8_t id[16]);
uint64_t rb_drawn_of(const rb_decided *decided);
/* Of a trace id: its low 56 bits. */
uint64_t rb_randomness(const uint8_t id[16]);

/* A span is settled. */
static inline void rb_count_span(rb_traces *table, uint32_t fate)
{
    uint64_t *spans = fate & RB_FATE_KEPT ? table->totals.kept_spans : table->totals.dropped_spans;
    spans[fate & RB_FATE_RULE]++;
}

/* ---- lists.c ---- */

#define RB_EMPTY_LIST ((rb_list){RB_NONE, RB_NONE})

void rb_age_append(rb_traces *table, rb_list *list, uint32_t number);
void rb_age_remove(rb_traces *table, rb_list *list, uint32_t number);
void rb_arrival_append(rb_traces *table, rb_list *list, uint32_t number);
void rb_arrival_remove(rb_traces *table, rb_list *list, uint32_t number);

/* ---- pressure.c ---- */

#define RB_MOST_OF_ALL 8 /* a ring may have 1/8 of the room while there is some, however many rings there are */

/* Of the room, when so many wait. */
static inline uint32_t rb_share_of(const rb_traces *table, uint64_t waiting)
{
    uint32_t share = table->fair_share, most = table->span_room / RB_MOST_OF_ALL;
    return share < most && waiting < table->span_room - most ? most : share;
}

static inline int rb_is_full(const rb_traces *table)
{
    return table->waiting_spans >= table->span_room || rb_pool_left(&table->trace_pool) == 0;
}

/* Whether so many spans of a ring may wait, one behind the other; the first may begin a trace. */
static inline int rb_has_room(const rb_traces *table, uint32_t origin, uint32_t count)
{
    uint64_t before_last = (uint64_t)table->waiting_spans + count - 1;
    return before_last < table->span_room && rb_pool_left(&table->trace_pool) != 0 &&
           (uint64_t)table->origins[origin].waiting + count - 1 < rb_share_of(table, before_last);
}

/*
 * Make room for one, where there is none: what was found before may be gone. Where there still is none, the ring began no
 * trace, and the span's own gives way.
 */
void rb_make_room(rb_traces *table, uint32_t origin, uint64_t now_nano);

#endif
