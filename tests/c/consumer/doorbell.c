/*
 * The drain falls asleep just as a producer publishes, over and over: no wake-up is lost. A lost one would end the
 * drain's wait by its time limit although records are ready.
 */
#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ring_for_test.h"
#include "shared/atomics.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__) || defined(FEW_ROUNDS)
enum { ROUNDS = 20000 };
#else
enum { ROUNDS = 200000 };
#endif
enum { CAPACITY = 4 }; /* a quarter is one record */
enum { STEP = 4 };     /* of the delay */
static const uint64_t patience_nano = UINT64_C(10) * 1000000000;

static rb_producer *producer;
static uint64_t drained;
static uint32_t delay; /* turns */

/* So many turns, and up to 63 more, another number of them each time. */
static void dawdle(uint32_t *state, uint32_t turns)
{
    *state = *state * 1664525 + 1013904223;
    for (volatile uint32_t left = turns + (*state >> 26); left > 0; left--)
        ;
}

static void *emit_one_by_one(void *argument)
{
    uint32_t random = 219;
    rb_record record;
    (void)argument;
    memset(&record, 0, sizeof record);
    record.trace_id[0] = record.span_id[0] = 1;
    record.flags = RB_SPAN_SAMPLED;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        while (rb_load_acquire(&drained) != round)
            ;
        dawdle(&random, rb_load32_relaxed(&delay)); /* about as long as the drain needs to fall asleep */
        assert(rb_emit(producer, &record) == 1);
    }
    return NULL;
}

int main(void)
{
    const char *directory = make_directory("doorbell");
    char bell_path[RB_MAX_PATH_BYTES];
    char path[RB_MAX_PATH_BYTES];
    rb_error error;
    rb_doorbell *doorbell;
    rb_lane_view view;
    rb_record record;
    pthread_t thread;
    uint64_t slept = 0;
    uint32_t next_delay = 0;
    uint32_t random = 7;
    snprintf(bell_path, sizeof bell_path, "%s/doorbell", directory);
    assert(rb_doorbell_open(bell_path, 0600, &doorbell, &error) == RB_OK);
    rb_config config = ring_config(directory, CAPACITY);
    producer = new_producer();
    open_ring(producer, &config, path);
    rb_consumer *consumer = attach_consumer(path);
    assert(pthread_create(&thread, NULL, emit_one_by_one, NULL) == 0);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        dawdle(&random, 0);
        uint32_t value = rb_doorbell_value(doorbell);
        /* The next record comes earlier after one that came too late, and later after one that came too early: so on
         * any machine most come in the few nanoseconds in which a wake-up can be lost. */
        if (rb_set_sleeping(consumer, 1) != 0) {
            next_delay += STEP;
        } else {
            next_delay -= next_delay < STEP ? next_delay : STEP;
            slept++;
            if (rb_doorbell_wait(doorbell, value, patience_nano) == 0) {
                fprintf(stderr, "round %llu: the wake-up was lost, %lld records are ready\n", (unsigned long long)round,
                        (long long)rb_poll(consumer, &view));
                abort();
            }
        }
        assert(rb_set_sleeping(consumer, 0) >= 0);
        while (rb_copy(consumer, 0, &record, 1) == 0)
            ; /* a spurious wake-up is allowed */
        rb_outcome outcome = {.delivered = 1};
        assert(rb_release(consumer, 0, &outcome) == RB_OK);
        rb_store32_relaxed(&delay, next_delay);
        rb_store_release(&drained, round + 1);
    }
    assert(pthread_join(thread, NULL) == 0);
    assert(slept > 0);
    printf("%d rounds, %llu of them asleep\n", ROUNDS, (unsigned long long)slept);
    remove_ring(producer, path);
    rb_consumer_free(consumer);
    rb_doorbell_free(doorbell);
    assert(unlink(bell_path) == 0 && rmdir(directory) == 0);
    return 0;
}
