/*
 * The hot path: check a lane out, fill a slot, publish it with one store. Nothing here allocates, blocks or takes a
 * lock, and the only system call is the doorbell's, at most once per quarter of a lap and only while the drain sleeps.
 */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "producer/producer_state.h"
#include "shared/atomics.h"
#include "shared/doorbell_ring.h"
#include "shared/point.h"
#include "shared/record.h"

enum { NOT_WRITTEN = 0, WRITTEN = 1, ATTEND = 2 };

/* ---- counting ---- */

/* Threads spread over the lanes by the order in which they first emit. */
static uint32_t own_lane(const rb_producer *producer)
{
    static uint32_t threads;
    static _Thread_local uint32_t thread_number __attribute__((tls_model("initial-exec")));
    if (producer->lane_count == 1)
        return 0;
    if (thread_number == 0)
        thread_number = __atomic_add_fetch(&threads, 1, __ATOMIC_RELAXED);
    return (thread_number - 1) % producer->lane_count;
}

/* Of a lane that another may hold. Pairs with bind_lanes()'s release, where a new ring lies at another address. */
static rb_lane *counters_of(const rb_producer *producer, uint32_t lane)
{
    return rb_load_lane_acquire(&producer->lanes[lane].shared);
}

static rb_lane *own_counters(const rb_producer *producer) { return counters_of(producer, own_lane(producer)); }

void rb_count_local(rb_producer *producer, uint64_t count)
{
    rb_wipe_in_child(producer);
    rb_add_relaxed(&producer->local, count);
}

void rb_count_truncated(rb_producer *producer, uint64_t count)
{
    /* Without a ring there was no span either whose values could be cut. */
    if (rb_has_ring(producer))
        rb_add_relaxed(&own_counters(producer)->truncated, count);
}

uint64_t rb_dropped(const rb_producer *producer)
{
    uint64_t spans = 0;
    if (!rb_has_ring(producer))
        return 0;
    for (uint32_t i = 0; i < producer->lane_count; i++) {
        const rb_lane *lane = counters_of(producer, i);
        spans += rb_load_relaxed(&lane->full) + rb_load_relaxed(&lane->contended);
    }
    return spans;
}

void rb_count_invalid_values(rb_producer *producer, uint64_t count)
{
    if (rb_has_ring(producer))
        rb_add_relaxed(&own_counters(producer)->invalid_values, count);
}

static int set_aside(const rb_lane *lane)
{
    return rb_load32_relaxed(&lane->consumer_state) == RB_CONSUMER_DETACHED ? ATTEND : 0;
}

/* A ring that nobody reads may be one that was removed. Out of line: at most once a second there is more to do. */
static __attribute__((noinline)) int unread(rb_producer *producer) { return rb_is_unread(producer) ? ATTEND : 0; }

static inline uint64_t end_of(const uint8_t *record) { return rb_word_at(record + offsetof(rb_record, end_unix_nano)); }

/* Without a ring: what the door returns. Out of line, so that the doors stay small. */
static __attribute__((noinline)) int no_ring(rb_producer *producer)
{
    if (rb_state_of(producer) == RB_STATE_NONE)
        return RB_NO_RING;
    rb_count_local(producer, 1);
    return NOT_WRITTEN;
}

/* ---- check-out, publish, check-in ---- */

/* NULL where no lane could be had; `is_full`: one was full, else all were held by others. */
struct checked_out {
    rb_held_lane *lane;
    int is_full;
};

/* The first free lane with room, from the thread's own on. By value: no address of the caller's stack is taken. */
static struct checked_out check_out(rb_producer *producer)
{
    uint32_t index = own_lane(producer);
    int is_full = 0;
    for (uint32_t tries = producer->lane_count; tries > 0; tries--) {
        rb_held_lane *lane = &producer->lanes[index];
        if (++index == producer->lane_count)
            index = 0;
        RB_POINT(checkout_begin);
        if (!rb_try_take(&lane->busy))
            continue;
        RB_POINT(checkout_taken);
        if (lane->tail - lane->head < producer->capacity_slots)
            return (struct checked_out){lane, 0};
        /* Pairs with rb_release's store: the slots below `head` were copied out before it was stored. */
        lane->head = rb_load_acquire(&lane->shared->head);
        RB_POINT(checkout_head);
        if (lane->tail - lane->head < producer->capacity_slots)
            return (struct checked_out){lane, 0};
        is_full = 1;
        RB_POINT(checkout_full);
        rb_give_back(&lane->busy);
    }
    return (struct checked_out){NULL, is_full};
}

/* Counts `spans` that found no lane. A closed producer holds all lanes for good: then they are local. */
static int drop(rb_producer *producer, uint64_t spans, int is_full)
{
    if (!rb_has_ring(producer)) {
        rb_count_local(producer, spans);
        return NOT_WRITTEN;
    }
    rb_lane *counters = own_counters(producer);
    RB_POINT(drop_uncounted);
    rb_add_relaxed(is_full ? &counters->full : &counters->contended, spans);
    RB_POINT(drop_counted);
    return NOT_WRITTEN | set_aside(counters) | (is_full ? unread(producer) : 0);
}

static rb_record *slot_at(const rb_producer *producer, const rb_held_lane *lane, uint64_t position)
{
    uint64_t index = position & (producer->capacity_slots - 1);
    return (rb_record *)(void *)(lane->slots + index * producer->slot_bytes);
}

static int ring_doorbell(const rb_producer *producer)
{
    /* Pairs with the release of rb_open and rb_find_doorbell: the page is mapped. */
    uint32_t *doorbell = rb_load_pointer_acquire(&producer->doorbell);
    if (doorbell == NULL)
        return ATTEND; /* the drain came after the ring: its doorbell can be had now */
    RB_POINT(publish_unrung);
    rb_ring_word(doorbell);
    RB_POINT(publish_rung);
    return 0;
}

/*
 * A quarter is crossed: does the drain sleep? The store to `tail` must not pass the load of `sleeping`, as the
 * drain's store to `sleeping` must not pass its last look at `tail` (fall_asleep() in watch.c): with all four
 * seq_cst at least one side sees the other, so no wake-up is lost; with any of them weaker one can be
 * (tests/model/doorbell_orders.pml). It is a release, too, and pairs with rb_copy as the store above.
 */
static __attribute__((noinline)) int publish_crossing(rb_producer *producer, rb_held_lane *lane, uint64_t after)
{
    rb_store_seq_cst(&lane->shared->tail, after);
    RB_POINT(publish_crossed);
    int attend = set_aside(lane->shared) | unread(producer);
    if (rb_load32_seq_cst(&lane->shared->sleeping))
        attend |= ring_doorbell(producer);
    return attend;
}

/*
 * Publishes `count` slots, filled from lane->tail on. Returns ATTEND or 0. Whether it is time to look for a drain that
 * reads is told by when the spans ended, as that is known and the present costs a clock; crossings look in any case.
 */
static int publish(rb_producer *producer, rb_held_lane *lane, uint64_t count, uint64_t end_unix_nano)
{
    uint64_t before = lane->tail;
    uint64_t after = before + count;
    RB_POINT(publish_begin);
    lane->tail = after;
    RB_POINT(publish_unstored);
    if (before >> producer->quarter_shift == after >> producer->quarter_shift) {
        rb_store_release(&lane->shared->tail, after); /* pairs with rb_copy's acquire load */
        RB_POINT(publish_stored);
        return end_unix_nano >= rb_load_relaxed(&producer->next_look) ? unread(producer) : 0;
    }
    return publish_crossing(producer, lane, after);
}

/* Copies whole 64-byte blocks, as all slots are: the compiler then needs no call to memcpy. */
static inline void copy_slots(void *to, const void *from, uint64_t bytes)
{
    uint8_t *out = to;
    const uint8_t *in = from;
    for (uint64_t at = 0; at < bytes; at += 64) {
        RB_POINT(slot_block);
        memcpy(out + at, in + at, 64);
    }
}

/* ---- whole records ---- */

/* How many names there are. Who never had a ring knows no layout: any name will do, as the record goes nowhere. */
static uint32_t name_count(const rb_producer *producer, uint32_t state)
{
    return state == RB_STATE_NONE || producer->span_name_count == 0 ? UINT32_MAX : producer->span_name_count;
}

static inline int is_wanted(const rb_producer *producer, const uint8_t *record)
{
    /* Relaxed, as all that a new ring's sampler changes: a span that is under way may still go by the old one. */
    return (record[offsetof(rb_record, flags)] & RB_SPAN_SAMPLED) || rb_load32_relaxed(&producer->emit_unsampled);
}

int rb_emit(rb_producer *producer, const rb_record *record)
{
    const uint8_t *bytes = (const uint8_t *)record;
    /* First, as it pairs with rb_open's release: what that wrote before may be read then. */
    uint32_t state = rb_state_of(producer);
    uint32_t names = name_count(producer, state);
    if (!rb_is_core_sound(bytes, names))
        return rb_record_check(bytes, names);
    if (state != RB_STATE_OPEN)
        return no_ring(producer);
    if (!is_wanted(producer, bytes)) {
        RB_POINT(unsampled_uncounted);
        rb_add_relaxed(&own_counters(producer)->unsampled, 1);
        RB_POINT(unsampled_counted);
        return NOT_WRITTEN;
    }
    struct checked_out out = check_out(producer);
    rb_held_lane *lane = out.lane;
    if (lane == NULL)
        return drop(producer, 1, out.is_full);
    RB_POINT(slot_begin);
    copy_slots(slot_at(producer, lane, lane->tail), record, producer->slot_bytes);
    int aside = publish(producer, lane, 1, end_of(bytes));
    RB_POINT(checkin_begin);
    rb_give_back(&lane->busy);
    RB_POINT(checkin_done);
    return WRITTEN | aside;
}

/* Copies `count` records to a lane that has room for them, in at most two runs around the end of the array. */
static void copy_batch(const rb_producer *producer, const rb_held_lane *lane, const uint8_t *records, uint64_t count)
{
    uint64_t to_the_end = producer->capacity_slots - (lane->tail & (producer->capacity_slots - 1));
    uint64_t first = count < to_the_end ? count : to_the_end;
    memcpy(slot_at(producer, lane, lane->tail), records, first * producer->slot_bytes);
    RB_POINT(run_half);
    memcpy(lane->slots, records + first * producer->slot_bytes, (count - first) * producer->slot_bytes);
}

/* The room of a lane that is checked out. */
static uint64_t room_in(const rb_producer *producer, rb_held_lane *lane)
{
    /* A stale `head` would cut the batch short of what fits; one that cannot be would let it write outside. */
    uint64_t head = rb_load_acquire(&lane->shared->head); /* pairs with rb_release's store */
    if (lane->tail - head < producer->capacity_slots)
        lane->head = head;
    return producer->capacity_slots - (lane->tail - lane->head);
}

/*
 * The usual batch: it fits one lane and all of it is wanted. Each record is looked at while it is copied, and nothing
 * is published before the last. Returns whether it was written; if not, nothing happened.
 */
static int write_at_once(rb_producer *producer, const uint8_t *records, uint64_t count)
{
    struct checked_out out = check_out(producer);
    rb_held_lane *lane = out.lane;
    if (lane == NULL)
        return 0;
    uint64_t slot_bytes = producer->slot_bytes;
    uint64_t mask = producer->capacity_slots - 1;
    uint64_t done = 0;
    if (count <= room_in(producer, lane)) {
        for (; done < count; done++) {
            const uint8_t *record = records + done * slot_bytes;
            if (!rb_is_core_sound(record, producer->span_name_count) || !is_wanted(producer, record))
                break;
            RB_POINT(batch_record);
            copy_slots(lane->slots + ((lane->tail + done) & mask) * slot_bytes, record, slot_bytes);
        }
    }
    if (done == count)
        publish(producer, lane, count, 0);
    RB_POINT(batch_checkin);
    rb_give_back(&lane->busy);
    return done == count;
}

/* Any batch, run by run of wanted records. */
static uint64_t write_in_runs(rb_producer *producer, const uint8_t *records, uint64_t count)
{
    uint64_t taken = 0;
    while (taken < count) {
        const uint8_t *next = records + taken * producer->slot_bytes;
        uint64_t run = 0;
        while (taken + run < count && is_wanted(producer, next + run * producer->slot_bytes))
            run++;
        if (run == 0) {
            rb_add_relaxed(&own_counters(producer)->unsampled, 1);
            taken++;
            continue;
        }
        struct checked_out out = check_out(producer);
        rb_held_lane *lane = out.lane;
        if (lane == NULL) {
            drop(producer, count - taken, out.is_full);
            break;
        }
        uint64_t room = room_in(producer, lane);
        uint64_t written = run < room ? run : room;
        RB_POINT(run_begin);
        copy_batch(producer, lane, next, written);
        publish(producer, lane, written, 0);
        RB_POINT(run_published);
        rb_give_back(&lane->busy);
        taken += written;
    }
    return taken;
}

int64_t rb_emit_batch(rb_producer *producer, const rb_record *records, uint64_t count)
{
    const uint8_t *bytes = (const uint8_t *)records;
    /* Once: a ring that comes to be meanwhile has another slot size than the one that the records are checked by. */
    uint32_t state = rb_state_of(producer);
    if (state == RB_STATE_OPEN && write_at_once(producer, bytes, count))
        return (int64_t)count;
    if (state == RB_STATE_NONE)
        return RB_NO_RING; /* of which size its records would be is not known yet */
    for (uint64_t i = 0; i < count; i++) {
        int rv = rb_record_check(bytes + i * producer->slot_bytes, name_count(producer, state));
        if (rv != RB_OK)
            return rv;
    }
    if (state == RB_STATE_CLOSED) {
        rb_count_local(producer, count);
        return 0;
    }
    return (int64_t)write_in_runs(producer, bytes, count);
}

int rb_is_set_aside(const rb_producer *producer)
{
    return rb_has_ring(producer) && set_aside(counters_of(producer, 0)) != 0;
}

int rb_lacks_doorbell(const rb_producer *producer)
{
    /* pairs with rb_open's and rb_find_doorbell's release */
    return rb_has_ring(producer) && rb_load_pointer_acquire(&producer->doorbell) == NULL;
}

int rb_wake_drain(const rb_producer *producer) { return rb_has_ring(producer) && ring_doorbell(producer) != ATTEND; }

/* ---- a lane held over many records ---- */

rb_held_lane *rb_lane_hold(rb_producer *producer)
{
    if (!rb_has_ring(producer))
        return NULL;
    uint32_t index = own_lane(producer);
    for (uint32_t tries = producer->lane_count; tries > 0; tries--) {
        rb_held_lane *lane = &producer->lanes[index];
        if (rb_try_take(&lane->busy))
            return lane;
        if (++index == producer->lane_count)
            index = 0;
    }
    return NULL;
}

int rb_lane_emit(rb_producer *producer, rb_held_lane *lane, const rb_record *record)
{
    if (!is_wanted(producer, (const uint8_t *)record)) {
        rb_add_relaxed(&lane->shared->unsampled, 1);
        return NOT_WRITTEN;
    }
    if (lane->tail - lane->head >= producer->capacity_slots) {
        lane->head = rb_load_acquire(&lane->shared->head); /* pairs with rb_release's store */
        if (lane->tail - lane->head >= producer->capacity_slots) {
            rb_add_relaxed(&lane->shared->full, 1);
            return NOT_WRITTEN | set_aside(lane->shared) | unread(producer);
        }
    }
    copy_slots(slot_at(producer, lane, lane->tail), record, producer->slot_bytes);
    return WRITTEN | publish(producer, lane, 1, record->end_unix_nano);
}

void rb_lane_give_back(rb_held_lane *lane) { rb_give_back(&lane->busy); }
