/*
 * Many threads emit into one ring while a drain reads it through the SAME mapping (over two mappings of a file
 * ThreadSanitizer sees nothing): every record arrives once, whole and in its lane's order; the law adds up. Positions
 * begin just below 2^32 and 2^64, so that both wrap.
 */
#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomics.h"
#include "consumer_state.h"
#include "producer_state.h"

enum { THREADS = 4, ATTEMPTS = 30000, CAPACITY = 64, SLOT_BYTES = 128, LANES = 2 };

static rb_producer *producer;
static uint32_t running;
static uint64_t written_by_threads;

typedef struct {
    rb_record core;
    uint64_t thread;
    uint64_t number;
    uint64_t check[6];
} record;

static record make_record(uint64_t thread, uint64_t number)
{
    record made;
    memset(&made, 0, sizeof made);
    made.core.flags = RB_SPAN_SAMPLED;
    made.thread = thread;
    made.number = number;
    memcpy(made.core.trace_id, &number, 8);
    memcpy(made.core.trace_id + 8, &thread, 8);
    made.core.trace_id[15] = 1;
    memcpy(made.core.span_id, &number, 8);
    made.core.span_id[7] = (uint8_t)(thread + 1);
    for (unsigned i = 0; i < 6; i++)
        made.check[i] = (number + 1) * (thread + i + 3);
    return made;
}

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
    assert(got->thread < THREADS);
    record expected = make_record(got->thread, got->number);
    assert(memcmp(&expected, got, sizeof expected) == 0);  /* not torn */
    assert(got->number >= last_number[lane][got->thread]); /* in order, not twice */
    last_number[lane][got->thread] = got->number + 1;
}

/* The ring's consumer, but on the producer's own mapping. */
static rb_consumer *attach_to_same_mapping(const char *path)
{
    rb_consumer *consumer;
    rb_error error;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert(fd >= 0 && rb_attach(fd, RB_CONSUME, 0, &consumer, &error) == RB_OK);
    assert(close(fd) == 0);
    assert(munmap(consumer->map, consumer->map_bytes) == 0);
    consumer->map = producer->map;
    for (uint32_t i = 0; i < LANES; i++) {
        consumer->lanes[i].shared = producer->lanes[i].shared;
        consumer->lanes[i].slots = producer->lanes[i].slots;
    }
    return consumer;
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
    rb_error error;
    rb_config config = {.ring_dir = directory,
                        .service_name = "stress",
                        .layout_json = "{}",
                        .resource_json = "{}",
                        .layout_bytes = 2,
                        .resource_bytes = 2,
                        .slot_bytes = SLOT_BYTES,
                        .span_name_count = 1,
                        .lane_count = LANES,
                        .capacity_slots = CAPACITY,
                        .file_mode = 0600,
                        .root_always = 1,
                        .first_position = first_position};
    pthread_t threads[THREADS];
    uint64_t total = 0;
    producer = rb_producer_new();
    assert(producer != NULL);
    if (rb_open(producer, &config, path, &error) != RB_OK) {
        fprintf(stderr, "rb_open: %s\n", error.detail);
        abort();
    }
    memset(last_number, 0, sizeof last_number);
    written_by_threads = 0;
    running = THREADS;
    rb_consumer *consumer = attach_to_same_mapping(path);
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
    consumer->map = NULL; /* it is the producer's */
    rb_consumer_free(consumer);
    rb_producer_free(producer);
    assert(unlink(path) == 0);
    printf("from position %llu: %llu delivered, %llu full, %llu contended\n", (unsigned long long)first_position,
           (unsigned long long)total, (unsigned long long)stats.full, (unsigned long long)stats.contended);
}

int main(void)
{
    char directory[] = "/dev/shm/ringbuf-stress-XXXXXX";
    assert(mkdtemp(directory) != NULL);
    run(directory, 0);
    run(directory, (UINT64_C(1) << 32) - 100);
    run(directory, UINT64_MAX - 100);
    assert(rmdir(directory) == 0);
    return 0;
}
