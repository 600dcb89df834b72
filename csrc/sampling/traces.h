/*
 * traces.h - the trace table: which traces are kept, decided span by span as they come. Drain only, not installed.
 *
 * Spans are looked at in the drain's own copy. Of a trace the table remembers what the rules ask for, and where its
 * spans wait; it is decided when no span that may still come can change that, or when its wait is over, by the drain's
 * clock. Which rule decides, with which threshold, and when never depends on R.
 *
 * drain/sampling/sampler.py is the same in Python, and the oracle of tests/property/test_traces.py.
 */
#ifndef RINGBUF_SAMPLING_TRACES_H
#define RINGBUF_SAMPLING_TRACES_H

#include "ringbuf.h"

/* [ABI] */
#define RB_MAX_RULES 64 /* bits of a mask */

/* Why a trace is decided when it is. */
enum rb_why {
    RB_WHY_RULE = 0,    /* the first rule matches */
    RB_WHY_ALONE = 1,   /* RB_PRESENT_ALONE */
    RB_WHY_ROOT = 2,    /* the wait after its root is over */
    RB_WHY_ENTRY = 3,   /* that after its last entry */
    RB_WHY_TIMEOUT = 4, /* that after its first span */
    RB_WHY_LIMIT = 5,   /* early: the table is full */
    RB_WHY_HOLD = 6,    /* early: there is no room for what waits */
    RB_WHY_SHARE = 7,   /* early: its ring has more than its share waiting */
    RB_WHY_STOP = 8,    /* early: somebody asked for it */
    RB_WHYS = 9
};

/* What became of a span: the rule in the lowest eight bits, why in the next four, then these. */
enum rb_fate {
    RB_FATE_RULE = 0xff,
    RB_FATE_WHY_SHIFT = 8,
    RB_FATE_SETTLED = 0x1000,   /* else it waits, and all other bits are zero */
    RB_FATE_KEPT = 0x2000,      /* else it is sampled out */
    RB_FATE_LATE = 0x4000,      /* its trace was decided before */
    RB_FATE_ITSELF = 0x8000,    /* late, of a dropped trace, and a rule that keeps all matches it alone */
    RB_FATE_UNSAMPLED = 0x10000 /* its head did not want it: it is part of no trace */
};

/* The conditions of a rule on a whole trace; those on spans are the caller's: bit i of a mask. */
typedef struct rb_trace_rule {
    uint64_t longer_than_nano; /* from the first start to the last end; looked at where is_longer */
    uint32_t is_longer;
    uint32_t spans_at_least; /* 0 or 1: no condition */
    uint32_t keeps_all;      /* of what matches */
    uint32_t pad;
} rb_trace_rule;

/* The conditions of all rules on the core of a span, in bits: bit i is of rule i. */
typedef struct rb_conditions {
    uint64_t every;         /* rules that may match these records at all */
    uint64_t statuses[256]; /* of each, the rules that it meets */
    uint64_t kinds[256];    /* the same */
    const uint64_t *names;  /* the same of each of the layout's names, name_count; NULL: all meet all */
    uint64_t name_count;
    uint64_t timed;                /* rules that ask for a span that took longer than */
    uint64_t longer_than_nano[64]; /* this */
} rb_conditions;

/* What a rule keeps in the second that is now. */
typedef struct rb_choice {
    uint64_t threshold; /* T, RB_THRESHOLDS for none */
    double share;       /* of the spans that it matches, before the bound on all of them */
} rb_choice;

typedef struct rb_traces_config {
    uint8_t key[16]; /* of the hash: random, kept with the decisions */
    uint64_t wait_nano;
    uint64_t wait_after_root_nano;
    uint64_t wait_after_entry_nano;
    const rb_trace_rule *rules; /* the last matches all */
    uint32_t rule_count;
    uint32_t is_head_open; /* a trace that states no threshold has that of all */
    uint32_t trace_room;   /* that are not decided; up to 2^24 */
    uint32_t span_room;    /* that wait; up to 2^28 */
    uint32_t decided_room; /* decisions remembered for late spans: a power of two, up to 2^24 */
    uint32_t look_room;    /* records of a look */
} rb_traces_config;

/* What is known of a record that may have been looked at before a kill: a decision that was read back perhaps has it. */
enum rb_again {
    RB_AGAIN_NOT = 0,
    RB_AGAIN_MAYBE =
        1, /* where such a decision drops its trace, so is it: to keep it for itself would tear the trace */
    RB_AGAIN_ITSELF = 2 /* it is on record that it was kept for itself */
};

/* One look: records of one ring, all of which come now. */
typedef struct rb_look {
    const void *records; /* sound ones: count times slot_bytes */
    const uint64_t *masks;
    const uint64_t *thresholds; /* 1 + T that each states, 0 none; NULL: by root_threshold alone */
    const uint64_t *randoms;    /* 1 + R that each states, 0 none; NULL: none does */
    const uint8_t *again;       /* enum rb_again of each; NULL: all are new */
    uint32_t *fates;            /* out */
    uint64_t *stated;           /* out: 1 + T to be stated by a span that is kept, 0: none */
    uint64_t *drew;             /* out: 1 + R where its trace stated one, 0: R is that of the id */
    uint32_t *spans;            /* out: the number under which it waits, or UINT32_MAX */
    uint32_t *held;             /* out: which records wait or are kept, from the first on; NULL: nobody asks */
    uint64_t count;
    uint64_t now_nano; /* never goes back */
    uint64_t root_threshold;
    uint32_t slot_bytes;
    uint32_t origin;
    uint32_t present_bits;   /* RB_PRESENT_...: those that the layout leaves; see rb_config */
    uint32_t kept;           /* out: records that are to be delivered at once */
    uint32_t for_themselves; /* out: of these, those that are kept for themselves */
} rb_look;

/* Where a trace's R is known from. */
enum rb_random_is {
    RB_RANDOM_OF_ID = 0,
    RB_RANDOM_STATED = 1, /* one of its spans stated it */
    RB_RANDOM_OUTCOME = 2 /* read back: it was stated, and only what came of it is known */
};

/* A trace that was decided. */
typedef struct rb_decided {
    uint64_t hash;
    uint8_t id[16];     /* zero: read back, only the hash is known */
    uint64_t threshold; /* T of the rule, RB_THRESHOLDS: none is kept */
    uint64_t known;     /* 1 + T_in, 0 where it is not known */
    uint64_t random;    /* R */
    uint64_t at_nano;
    float share;
    uint8_t rule;
    uint8_t why;
    uint16_t random_is; /* enum rb_random_is */
} rb_decided;

/* What was decided since the last rb_traces_count, and what waits now. */
typedef struct rb_traces_counts {
    uint64_t traces[64]; /* by rule */
    uint64_t spans[64];  /* of these, without late ones */
    double late_shares;  /* the sum of the shares of the late spans' rules */
    uint64_t waiting_spans;
    uint64_t waiting_traces;
} rb_traces_counts;

/* What was decided since the table was made. */
typedef struct rb_traces_totals {
    uint64_t traces[64][9];   /* by rule and why */
    uint64_t kept_traces[64]; /* of these, those whose spans are kept where none states a higher threshold of its own */
    uint64_t kept_spans[64];  /* late ones too, by the rule of their trace */
    uint64_t dropped_spans[64]; /* the same */
    uint64_t unsampled;         /* spans that their head did not want */
    uint64_t late;
    uint64_t late_kept;
    uint64_t forgotten; /* spans whose trace could not be remembered: both its places in the table are full */
} rb_traces_totals;

typedef struct rb_traces rb_traces;
/* [/ABI] */

/* Threads: one at a time may use a table. Nothing here looks at a ring or a file. */
/* [COLD] */
/* rb_traces_new - make a table. Returns: RB_OK and *table; RB_E_ARGUMENT; RB_E_SYSTEM without memory. */
int rb_traces_new(const rb_traces_config *config, rb_traces **table, rb_error *error);
/* rb_traces_free - free it; NULL is ignored. */
void rb_traces_free(rb_traces *table);

/* rb_traces_choose - what the rules keep from now on; as many as there are rules. */
void rb_traces_choose(rb_traces *table, const rb_choice *choices);

/* rb_traces_join - a ring comes. Returns: its number, which is an `origin`; RB_E_SYSTEM without memory. */
int64_t rb_traces_join(rb_traces *table);
/* rb_traces_leave - it has ended; its number is another's once none of its spans waits. Returns: RB_OK; RB_E_ARGUMENT. */
int rb_traces_leave(rb_traces *table, uint32_t origin);

/*
 * rb_traces_look - take records in, in their order. What is due at now_nano is decided before, by rb_traces_decide_due,
 * and what is settled was taken.
 *
 * Returns: how many records are held, and in look->held; RB_E_ARGUMENT, and nothing was done.
 */
int64_t rb_traces_look(rb_traces *table, rb_look *look);

/*
 * rb_traces_place - say where records of the latest look lie, before the next rb_traces_take: which[i] of them at
 * places[i]. Of those that do not wait nobody asks it.
 *
 * Returns: RB_OK; RB_E_ARGUMENT.
 */
int rb_traces_place(rb_traces *table, const rb_look *look, const uint32_t *which, const uint64_t *places,
                    uint64_t count);

/*
 * rb_masks - which conditions sound records meet: masks[i] is of record i. Returns: RB_OK; RB_E_ARGUMENT.
 */
int rb_masks(const rb_conditions *conditions, const void *records, uint32_t slot_bytes, uint64_t count,
             uint64_t *masks);

/* rb_traces_next_due - when the next wait is over, UINT64_MAX: none waits. */
uint64_t rb_traces_next_due(const rb_traces *table);
/*
 * rb_traces_decide_due - decide on up to `most` traces whose wait is over at `upto_nano`. Returns: how many.
 */
int64_t rb_traces_decide_due(rb_traces *table, uint64_t upto_nano, uint64_t most);
/*
 * rb_traces_decide_early - decide on the oldest traces of a ring, or UINT32_MAX: of the one with most waiting, until at
 * least `spans` that waited are settled. Returns: how many spans are.
 */
int64_t rb_traces_decide_early(rb_traces *table, uint32_t origin, uint64_t spans, uint32_t why, uint64_t now_nano);

/* rb_traces_settled - how many spans there are to be taken. */
uint64_t rb_traces_settled(const rb_traces *table);
/*
 * rb_traces_take - what became of spans that waited, up to `most` of them: first those that are kept, *kept of them, then
 * the others. Returns: how many.
 */
int64_t rb_traces_take(rb_traces *table, uint64_t most, uint64_t *places, uint32_t *fates, uint64_t *stated,
                       uint64_t *drew, uint64_t *kept);

/* rb_traces_count - read the counts, and begin anew. */
void rb_traces_count(rb_traces *table, rb_traces_counts *counts);
/* rb_traces_total - read the totals. */
void rb_traces_total(const rb_traces *table, rb_traces_totals *totals);
/* rb_traces_oldest - when the first span of the oldest trace that waits came; UINT64_MAX: none waits. */
uint64_t rb_traces_oldest(const rb_traces *table);

/* rb_traces_decisions - how many decisions there were, remembered ones too. */
uint64_t rb_traces_decisions(const rb_traces *table);
/*
 * rb_traces_decided - copy decisions from the one numbered *number on, up to `most`; those that were overwritten are
 * passed over. *number becomes that of the next. Returns: how many.
 */
int64_t rb_traces_decided(const rb_traces *table, uint64_t *number, rb_decided *decided, uint64_t most);
/* rb_pack_decided - two words of each decision, for the hold; rules[r] is the name of rule r in ten bits. */
void rb_pack_decided(const rb_decided *decided, uint64_t count, const uint16_t *rules, uint64_t *words);
/* rb_traces_remember - take decisions in that were read back, or are another table's; the oldest first. */
void rb_traces_remember(rb_traces *table, const rb_decided *decided, uint64_t count);

/*
 * rb_traces_know - known[i] becomes whether the trace of record i waits here or was decided here. Nothing changes.
 *
 * Returns: RB_OK; RB_E_ARGUMENT.
 */
int rb_traces_know(const rb_traces *table, const void *records, uint32_t slot_bytes, uint64_t count, uint8_t *known);
/* [/COLD] */

#endif
