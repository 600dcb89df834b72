/*
 * One thread writes a plain word and then does what stores to a shared one; another waits, by relaxed loads that order
 * nothing, until that is stored, does what loads it, and reads the plain word. So ThreadSanitizer sees a release or an
 * acquire that is missing, also where all that it guards in the library is atomic, or touched by the kernel only.
 */
#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "same_mapping.h"
#include "shared/atomics.h"

enum { CAPACITY = 4, ROUNDS = 10 }; /* a quarter is one record: each crosses */
enum { WRITTEN = 1, ATTEND = 2 };   /* what rb_emit returns */

static const char *directory;
static rb_producer *producer;
static rb_consumer *consumer;
static uint64_t parcel;

static int emit_one(void)
{
    rb_record record;
    memset(&record, 0, sizeof record);
    record.trace_id[0] = record.span_id[0] = 1;
    record.flags = RB_SPAN_SAMPLED;
    return rb_emit(producer, &record);
}

/* The seeds of the ids: seed_ids(), next_id(). */
static void give_seeds(void)
{
    uint8_t trace_id[16];
    uint8_t span_id[8];
    rb_new_ids(producer, trace_id, span_id);
}

static void take_seeds(void)
{
    while (rb_load32_relaxed(&producer->id_seeded) == 0)
        sched_yield();
    give_seeds();
}

/* The end of the ring: rb_close, rb_poll. */
static void give_end(void) { assert(rb_close(producer) == RB_OK); }

static void take_end(void)
{
    rb_lane_view view;
    do {
        sched_yield();
        assert(rb_poll(consumer, &view) == 0);
    } while (!view.closed);
}

/* The doorbell that is found later: rb_find_doorbell, ring_doorbell(). */
static void give_doorbell(void) { assert(rb_find_doorbell(producer, directory) == RB_OK); }

static void wait_for_doorbell(void)
{
    const uint64_t *address = (const uint64_t *)(const void *)&producer->doorbell;
    while (rb_load_relaxed(address) == 0)
        sched_yield();
}

static void take_doorbell_to_ring(void)
{
    assert(rb_set_sleeping(consumer, 1) == 0);
    wait_for_doorbell();
    assert(emit_one() == WRITTEN);
}

static void take_doorbell_to_look(void)
{
    wait_for_doorbell();
    assert(!rb_lacks_doorbell(producer));
}

static void take_doorbell_to_wake(void)
{
    wait_for_doorbell();
    assert(rb_wake_drain(producer) == 1);
}

/* That the drain sleeps: fall_asleep(), publish(). */
static void give_sleep(void) { assert(rb_set_sleeping(consumer, 1) >= 0); }

static void take_sleep(void)
{
    while (rb_load32_relaxed(&producer->lanes[0].shared->sleeping) == 0)
        sched_yield();
    assert(emit_one() == (WRITTEN | ATTEND)); /* it would ring, and has no doorbell */
}

/* That a quarter is crossed: publish(), fall_asleep(). */
/* The other may be asleep by the time that this one looks, which then would ring, and has no doorbell (ATTEND). */
static void give_crossing(void) { assert(emit_one() & WRITTEN); }

static void take_crossing(void)
{
    while (rb_load_relaxed(&producer->lanes[0].shared->tail) == 0)
        sched_yield();
    assert(rb_set_sleeping(consumer, 1) == 1);
}

typedef struct {
    const char *name;
    void (*give)(void);
    void (*take)(void);
} handover;

static const handover handovers[] = {
    {"the seeds", give_seeds, take_seeds},
    {"the end of the ring", give_end, take_end},
    {"the doorbell, rung", give_doorbell, take_doorbell_to_ring},
    {"the doorbell, looked for", give_doorbell, take_doorbell_to_look},
    {"the doorbell, rung for a wait", give_doorbell, take_doorbell_to_wake},
    {"sleep", give_sleep, take_sleep},
    {"a crossing", give_crossing, take_crossing},
};

static void *give(void *argument)
{
    const handover *one = argument;
    parcel++;
    one->give();
    return NULL;
}

static void *take(void *argument)
{
    const handover *one = argument;
    one->take();
    parcel++;
    return NULL;
}

static void hand_over(const handover *one)
{
    char path[RB_MAX_PATH_BYTES];
    char bell_path[RB_MAX_PATH_BYTES];
    rb_error error;
    rb_doorbell *doorbell;
    pthread_t giver;
    pthread_t taker;
    rb_config config = ring_config(directory, CAPACITY);
    producer = new_producer();
    open_ring(producer, &config, path);
    consumer = attach_to_same_mapping(producer, path);
    snprintf(bell_path, sizeof bell_path, "%s/doorbell", directory);
    assert(rb_doorbell_open(bell_path, 0600, &doorbell, &error) == RB_OK); /* after the ring, which has none so far */
    parcel = 0;
    assert(pthread_create(&taker, NULL, take, (void *)(uintptr_t)one) == 0);
    assert(pthread_create(&giver, NULL, give, (void *)(uintptr_t)one) == 0);
    assert(pthread_join(giver, NULL) == 0 && pthread_join(taker, NULL) == 0);
    assert(parcel == 2);
    assert(rb_close(producer) == RB_OK && !rb_wake_drain(producer));
    rb_doorbell_free(doorbell);
    assert(unlink(bell_path) == 0);
    free_on_same_mapping(consumer);
    remove_ring(producer, path);
}

int main(void)
{
    directory = make_directory("handover");
    for (unsigned i = 0; i < sizeof handovers / sizeof *handovers; i++) {
        for (int round = 0; round < ROUNDS; round++)
            hand_over(&handovers[i]);
        printf("%s: handed over\n", handovers[i].name);
    }
    assert(rmdir(directory) == 0);
    return 0;
}
