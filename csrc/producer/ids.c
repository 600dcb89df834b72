/*
 * Trace and span ids: a bijection of a counter, masked. Seeds come once a process, so that a forked child does not
 * repeat its parent's ids; nothing here blocks.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "producer/producer_state.h"
#include "shared/atomics.h"

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
    uint64_t of_span = id_word(producer, count, 0);
    memcpy(span_id, &of_span, 8);
    if (trace_id == NULL)
        return of_span != 0;
    uint64_t first = id_word(producer, count, 1);
    uint64_t second = id_word(producer, count, 2);
    memcpy(trace_id, &first, 8);
    memcpy(trace_id + 8, &second, 8);
    return of_span != 0 && (first | second) != 0;
}

void rb_make_ids(rb_producer *producer, uint8_t *trace_id, uint8_t *span_id)
{
    while (!ids_of(producer, next_count(producer), trace_id, span_id))
        ;
}

void rb_new_ids(rb_producer *producer, uint8_t trace_id[16], uint8_t span_id[8])
{
    rb_make_ids(producer, trace_id, span_id);
}

void rb_fill_ids(rb_producer *producer, rb_record *records, uint64_t count, uint32_t stride_bytes)
{
    uint8_t *at = (uint8_t *)records;
    for (uint64_t i = 0; i < count; i++, at += stride_bytes) {
        uint8_t *trace_id = at + offsetof(rb_record, trace_id);
        uint8_t *span_id = at + offsetof(rb_record, span_id);
        uint8_t unused[8];
        if (rb_is_zero(trace_id, 16))
            rb_make_ids(producer, trace_id, rb_is_zero(span_id, 8) ? span_id : unused);
        else if (rb_is_zero(span_id, 8))
            rb_make_ids(producer, NULL, span_id);
    }
}

uint64_t rb_process_mark(rb_producer *producer)
{
    seed_once(producer);
    return rb_load_relaxed(&producer->id_seed[0]);
}
