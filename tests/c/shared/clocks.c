/*
 * A span's start is what CLOCK_REALTIME says at the moment that its length is counted from, over ticks between the
 * readings, a time of day that is set, and kernels whose coarse clocks do not agree. The clocks here are scripted.
 */
#include "shared/clock.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

enum { SECOND = 1000000000, TICK = 4000000, READING = 25 };

static uint64_t now;      /* CLOCK_MONOTONIC */
static uint64_t distance; /* CLOCK_REALTIME - CLOCK_MONOTONIC */
static unsigned fine, realtime, coarse;
static unsigned tick_before; /* a tick comes right before this reading of a coarse clock, counted from 1; 0: none */
static unsigned tick_again;  /* another */
static uint64_t coarse_blur; /* the coarse clocks go on between two readings, as those that are none */
static clockid_t missing = CLOCK_BOOTTIME; /* a clock that the kernel does not have */

int clock_gettime(clockid_t clock, struct timespec *result)
{
    uint64_t at = 0;
    if (clock == missing) {
        *result = (struct timespec){.tv_sec = 3}; /* as whatever was there */
        return -1;
    }
    switch (clock) {
    case CLOCK_REALTIME:
        realtime++;
        at = now + distance;
        break;
    case CLOCK_MONOTONIC:
        at = now;
        break;
    default:
        coarse++;
        if (coarse == tick_before || coarse == tick_again)
            now = (now / TICK + 1) * TICK;
        at = coarse_blur == 0 ? now / TICK * TICK : now + coarse * coarse_blur;
        if (clock == CLOCK_REALTIME_COARSE)
            at += distance;
    }
    fine += clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC;
    result->tv_sec = (time_t)(at / SECOND);
    result->tv_nsec = (long)(at % SECOND);
    return 0;
}

/* Reads both, and returns how many fine readings that took. */
static unsigned read_both(void)
{
    uint64_t monotonic;
    fine = coarse = realtime = 0;
    now += 7 * READING;
    uint64_t before = now;
    uint64_t unix_nano = rb_clock_both(&monotonic);
    assert(monotonic >= before && monotonic <= now);
    assert(unix_nano == monotonic + distance);
    return fine;
}

static void a_tick_between_any_two_readings(void)
{
    for (unsigned reading = 1; reading <= 6; reading++) {
        read_both();
        now += READING;
        tick_before = reading;
        read_both();
        tick_before = 0;
        assert(read_both() <= 3);
        assert(read_both() == 1);
    }
}

/* Two in a row, each with a tick at the same place: what the first has seen must not fool the second. */
static void a_tick_in_each_of_two(void)
{
    for (unsigned reading = 1; reading <= 6; reading++) {
        read_both();
        tick_before = reading;
        read_both();
        read_both();
        tick_before = 0;
        read_both();
    }
}

/* In the look that follows, too: what it saw is not kept, or the next span would ask for the full clock again. */
static void a_tick_in_the_look_that_follows(void)
{
    for (unsigned reading = 3; reading <= 5; reading++) {
        read_both();
        tick_before = 2;
        tick_again = reading;
        read_both();
        tick_before = tick_again = 0;
        assert(read_both() == 1);
    }
}

/* The full clocks are read, whatever lies where a coarse one's time would be. */
static void a_clock_that_is_not_there(void)
{
    const clockid_t clocks[] = {CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE};
    for (unsigned i = 0; i < sizeof clocks / sizeof *clocks; i++) {
        missing = clocks[i];
        for (unsigned j = 0; j < 4; j++)
            assert(read_both() == 3);
    }
    missing = CLOCK_BOOTTIME;
    read_both();
    assert(read_both() == 1);
}

int main(void)
{
    now = 5 * (uint64_t)SECOND;
    distance = 1700000000 * (uint64_t)SECOND + 123456789;
    assert(read_both() == 3); /* the first */
    assert(read_both() == 1);
    assert(realtime == 0);
    now += 10 * TICK;
    assert(read_both() == 1);
    a_tick_between_any_two_readings();
    a_tick_in_each_of_two();
    a_tick_in_the_look_that_follows();
    a_clock_that_is_not_there();

    const uint64_t steps[] = {
        3600 * (uint64_t)SECOND, (uint64_t)-7200 * SECOND, TICK, (uint64_t)-TICK, 1, (uint64_t)-1};
    for (unsigned i = 0; i < sizeof steps / sizeof *steps; i++) {
        distance += steps[i];
        assert(read_both() == 3);
        assert(read_both() == 1);
    }

    distance = (uint64_t)-4 * SECOND; /* the calendar begins in 1970, later than the machine */
    read_both();
    assert(read_both() == 1);

    coarse_blur = READING; /* each reading is another time: the fine one is asked */
    for (unsigned i = 0; i < 10; i++)
        assert(read_both() == 3);
    return 0;
}
