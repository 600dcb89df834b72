/*
 * Threads look for a ring while it is opened, over and over: who finds it open finds all of the producer's state, and
 * who takes ids at once with others finds the seeds.
 */
#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ring_for_test.h"

enum { THREADS = 2, RINGS = 100 };

static rb_producer *producer;

static void *emit_as_soon_as_open(void *argument)
{
    rb_held_lane *lane;
    rb_record record;
    (void)argument;
    memset(&record, 0, sizeof record);
    rb_new_ids(producer, record.trace_id, record.span_id);
    record.flags = RB_SPAN_SAMPLED;
    while ((lane = rb_lane_hold(producer)) == NULL)
        sched_yield();
    assert(rb_lane_emit(producer, lane, &record) == 1);
    rb_lane_give_back(lane);
    return NULL;
}

int main(void)
{
    const char *directory = make_directory("open-race");
    char path[RB_MAX_PATH_BYTES];
    rb_config config = ring_config(directory, 4);
    for (int ring = 0; ring < RINGS; ring++) {
        pthread_t threads[THREADS];
        rb_producer_stats stats;
        producer = new_producer();
        for (int i = 0; i < THREADS; i++)
            assert(pthread_create(&threads[i], NULL, emit_as_soon_as_open, NULL) == 0);
        open_ring(producer, &config, path);
        for (int i = 0; i < THREADS; i++)
            assert(pthread_join(threads[i], NULL) == 0);
        assert(rb_stats(producer, &stats) == RB_OK && stats.published == THREADS);
        remove_ring(producer, path);
    }
    assert(rmdir(directory) == 0);
    printf("%d rings\n", RINGS);
    return 0;
}
