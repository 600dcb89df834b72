/*
 * What a producer keeps to itself. It lies in one anonymous MADV_WIPEONFORK mapping: a forked child reads zeros here,
 * and zero means "no ring", "no seed", "nobody holds this lane" in every field. (forked.c: where the kernel wipes none.)
 */
#ifndef RINGBUF_PRODUCER_STATE_H
#define RINGBUF_PRODUCER_STATE_H

#include <string.h>

#include "ringbuf.h"
#include "shared/atomics.h"

enum rb_state {
    RB_STATE_NONE = 0,
    RB_STATE_OPEN = 1,
    RB_STATE_CLOSED = 2,
    RB_STATE_UNWIPED = 4 /* added where fork does not wipe: what it is holds in one process, rb_state_here() */
};

enum rb_seeded { RB_SEEDED = 1, RB_SEEDED_HERE = 2 /* the same */ };

/* A lane as its holder sees it. Only the thread that took `busy` touches tail and head. */
struct rb_held_lane {
    uint32_t busy;    /* try-flag */
    uint32_t is_over; /* closed: `busy` stays taken */
    uint64_t tail;    /* the next position to write: what the ring's own `tail` will say */
    uint64_t head;    /* as last loaded from the ring: a stale value only makes the lane look fuller */
    rb_lane *shared;
    uint8_t *slots;
    uint8_t pad1[RB_LINE_BYTES - 40];
};

struct rb_producer {
    uint32_t state; /* enum rb_state; release store after all the rest, pairs with the acquire load of each emit */
    uint32_t lane_count;
    uint32_t slot_bytes;
    uint32_t capacity_slots;
    uint32_t quarter_shift; /* log2 of a quarter of the capacity */
    uint32_t span_name_count;
    uint32_t emit_unsampled;
    uint32_t root_always;
    uint64_t root_bound;
    uint64_t root_threshold; /* 0, or 1 + T */
    uint64_t first_position;
    uint8_t *map; /* stays at this address until rb_producer_free: a replacing ring is moved over it */
    uint64_t map_bytes;
    uint32_t *doorbell; /* NULL without a drain that made one; touched by the kernel only */
    uint64_t lane_stride_bytes;
    uint32_t header_bytes;
    uint32_t layout_crc32; /* of the layout's JSON, which a ring that replaces another has too */
    uint64_t next_look;    /* CLOCK_REALTIME: a span that ends then or later asks rb_is_unread() */
    uint32_t present_alone;
    uint32_t sampler_mark; /* of the threshold by which roots are decided, in child_flags; 0: there is none */
    uint32_t present_root; /* RB_PRESENT_ROOT_THRESHOLD where there is one and the layout leaves it, else 0 */
    uint8_t pad0[RB_LINE_BYTES - 116];

    uint64_t id_seed[6];
    uint32_t id_seeded;
    uint32_t pad1;
    uint64_t id_next;
    uint8_t pad2[RB_LINE_BYTES - 64];

    uint64_t local;
    uint32_t life; /* try-flag: held while a ring is opened, replaced, closed or summed up */
    uint32_t pad3;
    rb_producer_stats retired; /* the counts of the rings before this one */
    uint8_t pad4[RB_LINE_BYTES - 16 - sizeof(rb_producer_stats)];

    struct rb_held_lane lanes[RB_MAX_LANES];

    uint64_t looked_at;      /* CLOCK_MONOTONIC of the last rb_is_unread() */
    uint64_t seen_published; /* the sum of all tails then */
    uint64_t device;         /* of the ring's file, which rb_is_removed() compares */
    uint64_t inode;
    char path[RB_MAX_PATH_BYTES];

    uint32_t process; /* whose state this is where fork does not wipe it, else 0 */
};

/* What `state`, as loaded, is in this process: one of the first three. */
uint32_t rb_state_here(const rb_producer *producer, uint32_t state);

/* Pairs with rb_open's release: who finds the ring open finds all of the state that it set before. */
static inline uint32_t rb_state_of(const rb_producer *producer)
{
    uint32_t state = rb_load32_acquire(&producer->state);
    return state == RB_STATE_OPEN ? RB_STATE_OPEN : rb_state_here(producer, state);
}

static inline int rb_has_ring(const rb_producer *producer) { return rb_state_of(producer) == RB_STATE_OPEN; }

/* Pairs with the acquire load of each emit. */
static inline void rb_set_state(rb_producer *producer, uint32_t state)
{
    rb_store32_release(&producer->state, producer->process == 0 ? state : state + RB_STATE_UNWIPED);
}

/* Whether an id of 8 or 16 bytes is none. */
static inline int rb_is_zero(const uint8_t *id, size_t bytes)
{
    uint64_t words[2] = {0, 0};
    memcpy(words, id, bytes);
    return (words[0] | words[1]) == 0;
}

/* rb_new_ids, but for a child without a trace id: then that is NULL. */
void rb_make_ids(rb_producer *producer, uint8_t *trace_id, uint8_t *span_id);

/*
 * Before anything is written here, in calls that are not hot: makes zeros of another process's state. 0 where another
 * thread is doing that and does not come to its end: what is written now it may wipe.
 */
int rb_wipe_in_child(rb_producer *producer);

void rb_unmap_state(rb_producer *producer);

#endif
