/*
 * Many threads emit into one ring while a drain reads it through the SAME mapping (over two mappings of a file
 * ThreadSanitizer sees nothing): every record arrives once, whole and in its lane's order; the law adds up. Positions
 * begin just below 2^32 and 2^64, so that both wrap.
 */
#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "same_mapping.h"
#include "shared/atomics.h"

#define SLOT_BYTES 128
#include "numbered_record.h"

enum { THREADS = 4, ATTEMPTS = 30000, CAPACITY = 64, LANES = 2 };

static rb_producer *producer;
static uint32_t running;
static uint64_t written_by_threads;

static void *emit_many(void *argument)
{
    uint64_t thread = (uint64_t)(uintptr_t)argument;
    uint64_t written = 0;
    for (uint64_t number = 0; number < ATTEMPTS; number++) {
        record one = make_record(thread, number);
        int rv = number % 7 == 0 ? (int)rb_emit_batch(producer, &one.core, 1) : rb_emit(producer, &one.core);
        assert(rv == 0 || rv == 1);
        written += (uint64_t)rv;
        if (rv == 0)
            sched_yield();
    }
    rb_add_relaxed(&written_by_threads, written);
    __atomic_fetch_sub(&running, 1, __ATOMIC_RELEASE);
    return NULL;
}

static uint64_t last_number[LANES][THREADS]; /* + 1 */

static void check_record(uint32_t lane, const record *got)
{
    assert(got->source < THREADS);
    assert(is_record(got, got->source, got->number));      /* not torn */
    assert(got->number >= last_number[lane][got->source]); /* in order, not twice */
    last_number[lane][got->source] = got->number + 1;
}

static uint64_t drain_lane(rb_consumer *consumer, uint32_t index)
{
    static record copies[CAPACITY];
    int64_t count = rb_copy(consumer, index, copies, CAPACITY);
    assert(count >= 0 && count <= CAPACITY);
    for (int64_t i = 0; i < count; i++)
        check_record(index, &copies[i]);
    rb_outcome outcome = {.delivered = (uint64_t)count};
    assert(rb_release(consumer, index, &outcome) == RB_OK);
    return (uint64_t)count;
}

static void run(const char *directory, uint64_t first_position)
{
    char path[RB_MAX_PATH_BYTES];
    rb_config config = ring_config(directory, CAPACITY);
    config.slot_bytes = SLOT_BYTES;
    config.lane_count = LANES;
    config.first_position = first_position;
    pthread_t threads[THREADS];
    uint64_t total = 0;
    producer = new_producer();
    open_ring(producer, &config, path);
    memset(last_number, 0, sizeof last_number);
    written_by_threads = 0;
    running = THREADS;
    rb_consumer *consumer = attach_to_same_mapping(producer, path);
    for (uint64_t i = 0; i < THREADS; i++)
        assert(pthread_create(&threads[i], NULL, emit_many, (void *)(uintptr_t)i) == 0);
    while (__atomic_load_n(&running, __ATOMIC_ACQUIRE) > 0) {
        uint64_t got = 0;
        for (uint32_t i = 0; i < LANES; i++)
            got += drain_lane(consumer, i);
        total += got;
        if (got == 0)
            sched_yield();
    }
    for (uint32_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (uint32_t i = 0; i < LANES; i++)
        total += drain_lane(consumer, i);
    assert(total == written_by_threads);
    rb_producer_stats stats;
    assert(rb_stats(producer, &stats) == RB_OK);
    assert(stats.published == total && stats.pending == 0);
    assert(stats.published + stats.full + stats.contended == (uint64_t)THREADS * ATTEMPTS);
    assert(stats.full + stats.contended > 0); /* else the full and the taken lane were not tried */
    assert(rb_close(producer) == RB_OK);
    record late = make_record(0, 0);
    assert(rb_emit(producer, &late.core) == 0);
    free_on_same_mapping(consumer);
    rb_producer_free(producer);
    assert(unlink(path) == 0);
    printf("from position %llu: %llu delivered, %llu full, %llu contended\n", (unsigned long long)first_position,
           (unsigned long long)total, (unsigned long long)stats.full, (unsigned long long)stats.contended);
}

int main(void)
{
    const char *directory = make_directory("stress");
    run(directory, 0);
    run(directory, (UINT64_C(1) << 32) - 100);
    run(directory, UINT64_MAX - 100);
    assert(rmdir(directory) == 0);
    return 0;
}
