/*
 * A producer is closed while many lanes are held: it waits for all of them together, not for one after the other, and
 * closes those that it could not have when it is called again.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ring_for_test.h"

enum { HELD = RB_MAX_LANES - 1 };

static uint64_t now_nano = 1;

/* In place of libc's: a second is a thousand looks. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    (void)clock;
    now_nano += 1000000;
    now->tv_sec = (time_t)(now_nano / 1000000000u);
    now->tv_nsec = (long)(now_nano % 1000000000u);
    return 0;
}

static unsigned closed_lanes(rb_consumer *consumer)
{
    static rb_lane_view views[RB_MAX_LANES];
    unsigned closed = 0;
    assert(rb_poll(consumer, views) == 0);
    for (unsigned i = 0; i < RB_MAX_LANES; i++)
        closed += views[i].closed;
    return closed;
}

static void hold(rb_producer *producer, rb_held_lane **lanes)
{
    for (unsigned i = 0; i < HELD; i++) {
        lanes[i] = rb_lane_hold(producer);
        assert(lanes[i] != NULL);
    }
}

int main(void)
{
    const char *directory = make_directory("close_again");
    static rb_held_lane *lanes[HELD];
    char path[RB_MAX_PATH_BYTES], second[RB_MAX_PATH_BYTES];
    rb_error error;
    rb_config config = ring_config(directory, RB_MIN_CAPACITY_SLOTS);
    rb_producer *producer = new_producer();
    config.lane_count = RB_MAX_LANES;
    open_ring(producer, &config, path);
    rb_consumer *consumer = attach_consumer(path);
    hold(producer, lanes);

    uint64_t before = now_nano;
    assert(rb_open(producer, &config, second, &error) == RB_BUSY);
    assert(access(second, F_OK) != 0);
    assert(now_nano - before < UINT64_C(2000000000));

    before = now_nano;
    assert(rb_close(producer) == RB_BUSY);
    assert(now_nano - before < UINT64_C(2000000000));
    assert(closed_lanes(consumer) == 1);
    assert(rb_lane_hold(producer) == NULL);

    rb_lane_give_back(lanes[0]);
    assert(rb_close(producer) == RB_BUSY);
    assert(closed_lanes(consumer) == 2);

    for (unsigned i = 1; i < HELD; i++)
        rb_lane_give_back(lanes[i]);
    assert(rb_close(producer) == RB_OK);
    assert(closed_lanes(consumer) == RB_MAX_LANES);
    assert(rb_close(producer) == RB_OK); /* nothing is left to do */
    rb_consumer_free(consumer);
    rb_producer_free(producer);
    assert(unlink(path) == 0 && rmdir(directory) == 0);
    return 0;
}
