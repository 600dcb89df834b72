/*
 * Threads look for a ring while it is opened, over and over: who finds it open finds all of the producer's state, and
 * who takes ids at once with others finds the seeds.
 */
#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atomics.h"
#include "ringbuf.h"

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
    char directory[] = "/dev/shm/ringbuf-open-race-XXXXXX";
    char path[RB_MAX_PATH_BYTES];
    rb_error error;
    assert(mkdtemp(directory) != NULL);
    rb_config config = {.ring_dir = directory,
                        .service_name = "open",
                        .layout_json = "{}",
                        .resource_json = "{}",
                        .layout_bytes = 2,
                        .resource_bytes = 2,
                        .slot_bytes = 64,
                        .span_name_count = 1,
                        .lane_count = 1,
                        .capacity_slots = 4,
                        .file_mode = 0600,
                        .root_always = 1};
    for (int ring = 0; ring < RINGS; ring++) {
        pthread_t threads[THREADS];
        rb_producer_stats stats;
        producer = rb_producer_new();
        assert(producer != NULL);
        for (int i = 0; i < THREADS; i++)
            assert(pthread_create(&threads[i], NULL, emit_as_soon_as_open, NULL) == 0);
        assert(rb_open(producer, &config, path, &error) == RB_OK);
        for (int i = 0; i < THREADS; i++)
            assert(pthread_join(threads[i], NULL) == 0);
        assert(rb_stats(producer, &stats) == RB_OK && stats.published == THREADS);
        assert(rb_close(producer) == RB_OK);
        rb_producer_free(producer);
        assert(unlink(path) == 0);
    }
    assert(rmdir(directory) == 0);
    printf("%d rings\n", RINGS);
    return 0;
}
