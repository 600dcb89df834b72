/*
 * Two producers, a drain and an observer over ONE mapping (over two mappings of a file ThreadSanitizer sees nothing):
 * what the observer keeps is whole and the record of its position, what it passes is kept or missed, and the drain gets
 * every record beside it. The lanes are small, so that slots are written again under the observer's eyes; and a copy
 * is stopped in the middle, by a page that cannot be read, until drain and producer have gone on.
 */
#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "consumer/consumer_state.h"
#include "producer/producer_state.h"
#include "ring_for_test.h"
#include "shared/atomics.h"

#define SLOT_BYTES 512
#include "numbered_record.h"

#if defined(FEW_ROUNDS)
enum { RECORDS = 1500 };
#else
enum { RECORDS = 15000 };
#endif
enum { CAPACITY = 8, LANES = 2 };

static rb_producer *producer;
static uint64_t first_position;
static uint32_t running; /* producers, then the drain */

/* Each thread holds a lane, so that it knows the position of each of its records, and numbers it by that. */
static void *emit_many(void *argument)
{
    struct rb_held_lane *lane = argument;
    uint64_t index = (uint64_t)(lane - producer->lanes);
    for (uint64_t number = 0; number < RECORDS; number++) {
        record one = make_record(index, first_position + number);
        while (rb_lane_emit(producer, lane, &one.core) == 0)
            sched_yield();
    }
    __atomic_fetch_sub(&running, 1, __ATOMIC_RELEASE);
    return NULL;
}

/* The drain's steps (consumer.c); now and then it waits, so that the observer also sees what is not released. */
static void *drain(void *argument)
{
    uint64_t read[LANES] = {first_position, first_position};
    uint64_t got = 0;
    (void)argument;
    for (uint64_t round = 0; got < (uint64_t)LANES * RECORDS; round++) {
        for (uint32_t i = 0; i < LANES; i++) {
            rb_lane *lane = producer->lanes[i].shared;
            uint64_t tail = rb_load_acquire(&lane->tail);
            for (; read[i] != tail; read[i]++, got++) {
                record copy;
                memcpy(&copy, producer->lanes[i].slots + (read[i] & (CAPACITY - 1)) * SLOT_BYTES, sizeof copy);
                assert(is_record(&copy, i, read[i]));
            }
            if (round % 3 == 0)
                sched_yield();
            rb_store_release(&lane->head, read[i]);
        }
    }
    __atomic_fetch_sub(&running, 1, __ATOMIC_RELEASE);
    return NULL;
}

/* An attached observer, but of the producer's own mapping. */
static rb_consumer *observe_own_mapping(void)
{
    rb_consumer *made = calloc(1, sizeof *made + LANES * sizeof(struct lane));
    assert(made != NULL);
    made->map = producer->map;
    made->map_bytes = producer->map_bytes;
    made->header = (rb_header *)(void *)producer->map;
    made->access = RB_OBSERVE;
    made->lane_count = LANES;
    for (uint32_t i = 0; i < LANES; i++) {
        made->lanes[i].shared = producer->lanes[i].shared;
        made->lanes[i].slots = producer->lanes[i].slots;
    }
    return made;
}

static char path[RB_MAX_PATH_BYTES];

static void open_lanes(const char *directory, uint64_t first)
{
    rb_config config = ring_config(directory, CAPACITY);
    config.slot_bytes = SLOT_BYTES;
    config.lane_count = LANES;
    config.first_position = first;
    first_position = first;
    producer = new_producer();
    open_ring(producer, &config, path);
}

static struct rb_held_lane *held;
static uint64_t released_meanwhile;

static void go_on(int signal_number)
{
    (void)signal_number;
    assert(mprotect(producer->map, producer->map_bytes, PROT_READ | PROT_WRITE) == 0);
    rb_store_release(&held->shared->head, first_position + released_meanwhile);
    for (uint64_t i = 0; i < released_meanwhile; i++) {
        record one = make_record(0, first_position + CAPACITY + i);
        assert(rb_lane_emit(producer, held, &one.core) == 1);
    }
}

/* The last slot of the lane lies on two pages. Before the second can be copied, the oldest slots are written again. */
static void run_interrupted(const char *directory, uint64_t count)
{
    open_lanes(directory, UINT64_MAX - 3);
    rb_consumer *observer = observe_own_mapping();
    record records[CAPACITY];
    uint64_t position = first_position;
    uint64_t missed = 99;
    uint8_t *second_page = (uint8_t *)producer->lanes[0].shared + RB_PAGE_BYTES;
    assert(second_page < producer->lanes[0].slots + CAPACITY * SLOT_BYTES);
    held = rb_lane_hold(producer);
    assert(held == &producer->lanes[0]);
    for (uint64_t i = 0; i < CAPACITY; i++) {
        record one = make_record(0, first_position + i);
        assert(rb_lane_emit(producer, held, &one.core) == 1);
    }
    released_meanwhile = count;
    struct sigaction action = {.sa_handler = go_on};
    assert(sigaction(SIGSEGV, &action, NULL) == 0);
    assert(mprotect(second_page, RB_PAGE_BYTES, PROT_NONE) == 0);
    assert(rb_peek(observer, 0, &position, records, CAPACITY, &missed) == (int64_t)(CAPACITY - count));
    assert(missed == count && position == first_position + CAPACITY);
    for (uint64_t i = 0; i < CAPACITY - count; i++)
        assert(is_record(&records[i], 0, first_position + count + i));
    assert(rb_peek(observer, 0, &position, records, CAPACITY, &missed) == (int64_t)count && missed == 0);
    signal(SIGSEGV, SIG_DFL);
    rb_lane_give_back(held);
    free(observer);
    remove_ring(producer, path);
}

/* Waits until lane 0 is full, or has been released whole, which it is when the drain has begun. */
static void wait_for_lane_0(const uint64_t *position)
{
    while (rb_load_acquire(position) - first_position < CAPACITY)
        sched_yield();
}

static void run(const char *directory, uint64_t first)
{
    pthread_t threads[LANES + 1];
    uint64_t positions[LANES];
    open_lanes(directory, first);
    rb_consumer *observer = observe_own_mapping();
    running = LANES + 1;
    for (uint32_t i = 0; i < LANES; i++) {
        struct rb_held_lane *lane = rb_lane_hold(producer);
        assert(lane != NULL);
        positions[i] = first;
        assert(pthread_create(&threads[i], NULL, emit_many, lane) == 0);
    }
    /* Something is kept, and something is missed, whatever the scheduler does. */
    wait_for_lane_0(&producer->lanes[0].shared->tail);
    record oldest;
    uint64_t none_lost;
    assert(rb_peek(observer, 0, &positions[0], &oldest, 1, &none_lost) == 1 && none_lost == 0);
    assert(is_record(&oldest, 0, first));
    assert(pthread_create(&threads[LANES], NULL, drain, NULL) == 0);
    wait_for_lane_0(&producer->lanes[0].shared->head);
    uint64_t kept = 1;
    uint64_t missed = 0;
    for (uint64_t round = 0; __atomic_load_n(&running, __ATOMIC_ACQUIRE) > 0; round++) {
        for (uint32_t i = 0; i < LANES; i++) {
            record records[CAPACITY];
            uint64_t before = positions[i];
            uint64_t lost;
            int64_t got = rb_peek(observer, i, &positions[i], records, 1 + round % CAPACITY, &lost);
            assert(got >= 0 && (uint64_t)got <= CAPACITY);
            assert(positions[i] - before == (uint64_t)got + lost);
            for (int64_t at = 0; at < got; at++)
                assert(is_record(&records[at], i, positions[i] - (uint64_t)got + (uint64_t)at));
            kept += (uint64_t)got;
            missed += lost;
        }
    }
    for (uint32_t i = 0; i <= LANES; i++)
        pthread_join(threads[i], NULL);
    for (uint32_t i = 0; i < LANES; i++) {
        record none;
        uint64_t lost;
        assert(rb_peek(observer, i, &positions[i], &none, 1, &lost) == 0); /* all is released */
        missed += lost;
        assert(positions[i] == first + RECORDS);
        positions[i]++;
        assert(rb_peek(observer, i, &positions[i], &none, 1, &lost) == RB_E_POSITION);
        rb_lane_give_back(&producer->lanes[i]);
    }
    assert(kept + missed == (uint64_t)LANES * RECORDS);
    assert(missed > 0);
    free(observer);
    remove_ring(producer, path);
    printf("from position %llu: %llu kept, %llu missed\n", (unsigned long long)first, (unsigned long long)kept,
           (unsigned long long)missed);
}

int main(void)
{
    const char *directory = make_directory("observe");
    for (uint64_t count = 0; count <= CAPACITY; count++)
        run_interrupted(directory, count);
    run(directory, 0);
    run(directory, (UINT64_C(1) << 32) - 100);
    run(directory, UINT64_MAX - 100);
    assert(rmdir(directory) == 0);
    return 0;
}
