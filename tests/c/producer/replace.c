/*
 * Threads emit while ring after ring takes the place of the one before, and while the producer is closed: every attempt
 * is counted once, over all rings, and each ring's own words agree with what its file holds.
 */
#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ring_for_test.h"
#include "shared/atomics.h"

enum { THREADS = 3, RINGS = 200, CAPACITY = 64, LANES = 2 };

static rb_producer *producer;
static uint64_t attempts;
static uint64_t truncated;
static uint32_t stop;

static void *emit_many(void *argument)
{
    uint64_t number = 0;
    rb_record record;
    (void)argument;
    memset(&record, 0, sizeof record);
    record.trace_id[0] = record.span_id[0] = 1;
    while (!rb_load32_acquire(&stop)) {
        record.flags = number % 2 ? RB_SPAN_SAMPLED : 0;
        int rv = rb_emit(producer, &record);
        assert(rv == 0 || rv == 1);
        rb_count_truncated(producer, 1);
        number++;
    }
    rb_add_relaxed(&attempts, number);
    rb_add_relaxed(&truncated, number);
    return NULL;
}

/* What the drain finds in the file of a ring that is over: adds to `published` and checks the rest. */
static void look_and_remove(const char *path, uint64_t *published)
{
    rb_lane_view views[LANES];
    rb_consumer *consumer = attach_consumer(path);
    int64_t ready = rb_poll(consumer, views);
    assert(ready >= 0);
    *published += (uint64_t)ready;
    rb_consumer_free(consumer);
    assert(unlink(path) == 0);
}

/* Until something was published in the present ring, the `rings`th. */
static void wait_for_spans(uint64_t rings)
{
    rb_producer_stats stats;
    for (uint64_t tries = 0; tries < 10000000; tries++) {
        assert(rb_stats(producer, &stats) == RB_OK);
        if (stats.pending > 0)
            return;
        sched_yield();
    }
    fprintf(stderr, "nothing in ring %llu\n", (unsigned long long)rings);
    abort();
}

int main(void)
{
    const char *directory = make_directory("replace");
    static char paths[RINGS][RB_MAX_PATH_BYTES];
    pthread_t threads[THREADS];
    uint64_t published = 0;
    rb_config config = ring_config(directory, CAPACITY);
    config.lane_count = LANES;
    producer = new_producer();
    open_ring(producer, &config, paths[0]);
    for (unsigned i = 0; i < THREADS; i++)
        assert(pthread_create(&threads[i], NULL, emit_many, NULL) == 0);
    for (unsigned i = 1; i < RINGS; i++) {
        wait_for_spans(i);
        open_ring(producer, &config, paths[i]);
    }
    assert(rb_close(producer) == RB_OK);
    sched_yield();
    rb_store32_release(&stop, 1);
    for (unsigned i = 0; i < THREADS; i++)
        assert(pthread_join(threads[i], NULL) == 0);
    rb_producer_stats stats;
    assert(rb_stats(producer, &stats) == RB_OK);
    printf("%llu attempts: %llu published, %llu unsampled, %llu full, %llu contended, %llu local\n",
           (unsigned long long)attempts, (unsigned long long)stats.published, (unsigned long long)stats.unsampled,
           (unsigned long long)stats.full, (unsigned long long)stats.contended, (unsigned long long)stats.local);
    for (unsigned i = 0; i < RINGS; i++)
        look_and_remove(paths[i], &published);
    assert(published == stats.published);
    assert(stats.published + stats.unsampled + stats.full + stats.contended + stats.local == attempts);
    assert(stats.truncated <= truncated); /* those after the close are not counted */
    rb_producer_free(producer);
    assert(rmdir(directory) == 0);
    return 0;
}
