/*
 * The hot path: check a lane out, fill a slot, publish it with one store. Nothing here allocates, blocks or takes a
 * lock, and the only system call is the doorbell's, at most once per quarter of a lap and only while the drain sleeps.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "producer/producer_state.h"
#include "shared/atomics.h"
#include "shared/doorbell_ring.h"
#include "shared/point.h"
#include "shared/record.h"

enum { NOT_WRITTEN = 0, WRITTEN = 1, ATTEND = 2 };

/* ---- ids ---- */

/* Threads may race here after a fork: each seed word is set once, so all of them go on with the same seeds. */
static void seed_ids(rb_producer *producer)
{
    uint64_t fresh[6];
    int saved_errno = errno;
    rb_wipe_in_child(producer);
    if (rb_load32_acquire(&producer->id_seeded)) /* pairs with the release below */
        return;
    /* Not by libc's function, at which a thread may be cancelled. */
    if (syscall(SYS_getrandom, fresh, sizeof fresh, GRND_NONBLOCK) != (long)sizeof fresh) {
        /* Early boot or a filter: the clock, the process and its address space are what there is. */
        for (unsigned i = 0; i < 6; i++)
            fresh[i] = rb_clock_unix_nano() * (2 * i + 1) ^ ((uint64_t)getpid() << 32) ^ (uint64_t)(uintptr_t)producer;
    }
    errno = saved_errno;
    for (unsigned i = 0; i < 6; i++)
        rb_set_once(&producer->id_seed[i], fresh[i] | 1);
    /* Pairs with seed_once()'s acquire: whoever sees it sees the seeds. */
    rb_store32_release(&producer->id_seeded, producer->process == 0 ? RB_SEEDED : RB_SEEDED_HERE);
}

static inline void seed_once(rb_producer *producer)
{
    if (rb_load32_acquire(&producer->id_seeded) != RB_SEEDED) /* pairs with seed_ids()'s release */
        seed_ids(producer);
}

/* A bijection of 64 bits (xor-shifts and odd multiplications): distinct counts give distinct ids. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static uint64_t next_count(rb_producer *producer)
{
    seed_once(producer);
    return rb_add_relaxed(&producer->id_next, 1);
}

/*
 * Two seeds a stream: one offsets the count, one masks the result, so that two processes whose counts overlap still do
 * not repeat each other. The streams have seeds of their own, so one count serves both ids of a root.
 */
static uint64_t id_word(const rb_producer *producer, uint64_t count, unsigned stream)
{
    return mix(rb_load_relaxed(&producer->id_seed[2 * stream]) + count) ^
           rb_load_relaxed(&producer->id_seed[2 * stream + 1]);
}

/* The ids of a span by its count; a root has a trace id, too. False when one came out as zero, which no id may be. */
static int ids_of(const rb_producer *producer, uint64_t count, uint8_t *trace_id, uint8_t *span_id)
{
    uint64_t words[3] = {id_word(producer, count, 0), 1, 1};
    memcpy(span_id, &words[0], 8);
    if (trace_id != NULL) {
        words[1] = id_word(producer, count, 1);
        words[2] = id_word(producer, count, 2);
        memcpy(trace_id, &words[1], 16);
    }
    return words[0] != 0 && (words[1] | words[2]) != 0;
}

static void new_ids(rb_producer *producer, uint8_t *trace_id, uint8_t *span_id)
{
    while (!ids_of(producer, next_count(producer), trace_id, span_id))
        ;
}

void rb_new_ids(rb_producer *producer, uint8_t trace_id[16], uint8_t span_id[8])
{
    new_ids(producer, trace_id, span_id);
}

static int is_zero(const uint8_t *bytes, size_t count)
{
    uint64_t words[2] = {0, 0};
    memcpy(words, bytes, count);
    return (words[0] | words[1]) == 0;
}

void rb_fill_ids(rb_producer *producer, rb_record *records, uint64_t count, uint32_t stride_bytes)
{
    uint8_t *at = (uint8_t *)records;
    for (uint64_t i = 0; i < count; i++, at += stride_bytes) {
        uint8_t *trace_id = at + offsetof(rb_record, trace_id);
        uint8_t *span_id = at + offsetof(rb_record, span_id);
        uint8_t unused[8];
        if (is_zero(trace_id, 16))
            new_ids(producer, trace_id, is_zero(span_id, 8) ? span_id : unused);
        else if (is_zero(span_id, 8))
            new_ids(producer, NULL, span_id);
    }
}

/* ---- counting ---- */

/* Pairs with rb_open's release: who finds the ring open finds all of the state that it set before. */
static inline uint32_t state_of(const rb_producer *producer)
{
    uint32_t state = rb_load32_acquire(&producer->state);
    return state == RB_STATE_OPEN ? RB_STATE_OPEN : rb_state_here(producer, state);
}

static int has_ring(const rb_producer *producer) { return state_of(producer) == RB_STATE_OPEN; }

int rb_has_ring(const rb_producer *producer) { return has_ring(producer); }

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
    if (has_ring(producer))
        rb_add_relaxed(&own_counters(producer)->truncated, count);
}

static int set_aside(const rb_lane *lane)
{
    return rb_load32_relaxed(&lane->consumer_state) == RB_CONSUMER_DETACHED ? ATTEND : 0;
}

/* A ring that nobody reads may be one that was removed. Out of line: at most once a second there is more to do. */
static __attribute__((noinline)) int unread(rb_producer *producer) { return rb_is_unread(producer) ? ATTEND : 0; }

/* By when the span ended, as that is known and the present costs a clock; crossings look whatever their spans say. */
static inline int look_at(rb_producer *producer, const uint8_t *record)
{
    uint64_t end_unix_nano;
    memcpy(&end_unix_nano, record + offsetof(rb_record, end_unix_nano), sizeof end_unix_nano);
    return end_unix_nano >= rb_load_relaxed(&producer->next_look) ? unread(producer) : 0;
}

/* Without a ring: what the door returns. Out of line, so that the doors stay small. */
static __attribute__((noinline)) int no_ring(rb_producer *producer)
{
    if (state_of(producer) == RB_STATE_NONE)
        return RB_NO_RING;
    rb_count_local(producer, 1);
    return NOT_WRITTEN;
}

/* ---- check-out, publish, check-in ---- */

/*
 * The first free lane with room, from the thread's own on; NULL when there is none, and then *found_full says whether
 * any lane was full (else all were held by others).
 */
static rb_held_lane *check_out(rb_producer *producer, int *found_full)
{
    uint32_t index = own_lane(producer);
    *found_full = 0;
    for (uint32_t tries = producer->lane_count; tries > 0; tries--) {
        rb_held_lane *lane = &producer->lanes[index];
        if (++index == producer->lane_count)
            index = 0;
        RB_POINT(checkout_begin);
        if (!rb_try_take(&lane->busy))
            continue;
        RB_POINT(checkout_taken);
        if (lane->tail - lane->head < producer->capacity_slots)
            return lane;
        /* Pairs with rb_release's store: the slots below `head` were copied out before it was stored. */
        lane->head = rb_load_acquire(&lane->shared->head);
        RB_POINT(checkout_head);
        if (lane->tail - lane->head < producer->capacity_slots)
            return lane;
        *found_full = 1;
        RB_POINT(checkout_full);
        rb_give_back(&lane->busy);
    }
    return NULL;
}

/* Counts `spans` that found no lane. A closed producer holds all lanes for good: then they are local. */
static int drop(rb_producer *producer, uint64_t spans, int found_full)
{
    if (!has_ring(producer)) {
        rb_count_local(producer, spans);
        return NOT_WRITTEN;
    }
    rb_lane *counters = own_counters(producer);
    RB_POINT(drop_uncounted);
    rb_add_relaxed(found_full ? &counters->full : &counters->contended, spans);
    RB_POINT(drop_counted);
    return NOT_WRITTEN | set_aside(counters) | (found_full ? unread(producer) : 0);
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

/* Publishes `count` slots, filled from lane->tail on. Returns ATTEND or 0. */
static int publish(rb_producer *producer, rb_held_lane *lane, uint64_t count)
{
    uint64_t before = lane->tail;
    uint64_t after = before + count;
    RB_POINT(publish_begin);
    lane->tail = after;
    RB_POINT(publish_unstored);
    if (before >> producer->quarter_shift == after >> producer->quarter_shift) {
        rb_store_release(&lane->shared->tail, after); /* pairs with rb_copy's acquire load */
        RB_POINT(publish_stored);
        return 0;
    }
    /*
     * A quarter is crossed: does the drain sleep? The store to `tail` must not pass the load of `sleeping`, as the
     * drain's store to `sleeping` must not pass its last look at `tail` (fall_asleep() in watch.c): with all four
     * seq_cst at least one side sees the other, so no wake-up is lost; with any of them weaker one can be
     * (tests/model/doorbell_orders.pml). It is a release, too, and pairs with rb_copy as the store above.
     */
    rb_store_seq_cst(&lane->shared->tail, after);
    RB_POINT(publish_crossed);
    int attend = set_aside(lane->shared) | unread(producer);
    if (rb_load32_seq_cst(&lane->shared->sleeping))
        attend |= ring_doorbell(producer);
    return attend;
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
    uint32_t state = state_of(producer);
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
    int found_full;
    rb_held_lane *lane = check_out(producer, &found_full);
    if (lane == NULL)
        return drop(producer, 1, found_full);
    RB_POINT(slot_begin);
    copy_slots(slot_at(producer, lane, lane->tail), record, producer->slot_bytes);
    int aside = publish(producer, lane, 1);
    RB_POINT(checkin_begin);
    rb_give_back(&lane->busy);
    RB_POINT(checkin_done);
    return WRITTEN | aside | look_at(producer, bytes);
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
    int found_full;
    rb_held_lane *lane = check_out(producer, &found_full);
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
        publish(producer, lane, count);
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
        int found_full;
        rb_held_lane *lane = check_out(producer, &found_full);
        if (lane == NULL) {
            drop(producer, count - taken, found_full);
            break;
        }
        uint64_t room = room_in(producer, lane);
        uint64_t written = run < room ? run : room;
        RB_POINT(run_begin);
        copy_batch(producer, lane, next, written);
        publish(producer, lane, written);
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
    uint32_t state = state_of(producer);
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
    return has_ring(producer) && set_aside(counters_of(producer, 0)) != 0;
}

int rb_lacks_doorbell(const rb_producer *producer)
{
    /* pairs with rb_open's and rb_find_doorbell's release */
    return has_ring(producer) && rb_load_pointer_acquire(&producer->doorbell) == NULL;
}

/* ---- spans ---- */

static int is_root_sampled(const rb_producer *producer, const uint8_t *trace_id)
{
    if (rb_load32_relaxed(&producer->root_always))
        return 1;
    uint64_t low;
    memcpy(&low, trace_id + 8, 8);
    return __builtin_bswap64(low) < rb_load_relaxed(&producer->root_bound);
}

int rb_span_begin(rb_producer *producer, const rb_span *parent, rb_span *span)
{
    /* Without a ring, as in a forked child, no sampler is known: a root is sampled. */
    int rv = state_of(producer) == RB_STATE_NONE ? RB_NO_RING : RB_OK;
    if (parent != NULL) {
        memcpy(span->trace_id, parent->trace_id, 16);
        memcpy(span->parent_span_id, parent->span_id, 8);
        span->flags = parent->child_flags;
        new_ids(producer, NULL, span->span_id);
    } else {
        memset(span->parent_span_id, 0, 8);
        new_ids(producer, span->trace_id, span->span_id);
        int is_sampled = rv == RB_NO_RING || is_root_sampled(producer, span->trace_id);
        span->flags = RB_SPAN_HAS_IS_REMOTE | (is_sampled ? RB_SPAN_SAMPLED : 0u);
    }
    span->child_flags = span->flags & ~(uint32_t)RB_SPAN_IS_REMOTE;
    return rv;
}

void rb_span_identify(const rb_span *span, rb_record *record)
{
    memcpy(record->trace_id, span->trace_id, 16);
    memcpy(record->span_id, span->span_id, 8);
    memcpy(record->parent_span_id, span->parent_span_id, 8);
    record->flags = span->flags;
}

uint64_t rb_process_mark(rb_producer *producer)
{
    seed_once(producer);
    return rb_load_relaxed(&producer->id_seed[0]);
}

/* ---- W3C trace context ---- */

/* The value of a lower-case hex digit plus one; zero for any other character. */
static const uint8_t hex_value[256] = {
    ['0'] = 1, ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9, ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
};

/* Reads 2 * count digits; returns 0 when one of them is none. */
static int read_hex(const char *text, uint8_t *bytes, unsigned count)
{
    unsigned bad = 0;
    for (unsigned i = 0; i < count; i++) {
        unsigned high = hex_value[(uint8_t)text[2 * i]] - 1u;
        unsigned low = hex_value[(uint8_t)text[2 * i + 1]] - 1u;
        bad |= high | low; /* an unset entry gives UINT_MAX */
        bytes[i] = (uint8_t)(high << 4 | low);
    }
    return bad <= 15;
}

int rb_parent_from_traceparent(const char *text, size_t bytes, rb_span *parent)
{
    uint8_t flags;
    if (bytes != 55 || text[0] != '0' || text[1] != '0' || text[2] != '-' || text[35] != '-' || text[52] != '-' ||
        !read_hex(text + 3, parent->trace_id, 16) || !read_hex(text + 36, parent->span_id, 8) ||
        !read_hex(text + 53, &flags, 1) || is_zero(parent->trace_id, 16) || is_zero(parent->span_id, 8))
        return RB_E_TRACEPARENT;
    parent->child_flags = (flags & (RB_SPAN_SAMPLED | RB_SPAN_RANDOM)) | RB_SPAN_HAS_IS_REMOTE | RB_SPAN_IS_REMOTE;
    return RB_OK;
}

/* ---- a lane held over many records ---- */

rb_held_lane *rb_lane_hold(rb_producer *producer)
{
    if (!has_ring(producer))
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
    int aside = publish(producer, lane, 1);
    return WRITTEN | aside | look_at(producer, (const uint8_t *)record);
}

void rb_lane_give_back(rb_held_lane *lane) { rb_give_back(&lane->busy); }
