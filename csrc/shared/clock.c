/* The two clocks of a span: its start by the one, its length by the other. */
#include "shared/clock.h"

#include <time.h>

#include "ringbuf.h"
#include "shared/atomics.h"

/* Zero for a clock that the kernel does not have: coarse ones are no part of POSIX. */
static uint64_t clock_nano(clockid_t clock)
{
    struct timespec now;
    if (clock_gettime(clock, &now) != 0)
        return 0;
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t rb_clock_unix_nano(void) { return clock_nano(CLOCK_REALTIME); }

uint64_t rb_clock_monotonic_nano(void) { return clock_nano(CLOCK_MONOTONIC); }

/* CLOCK_REALTIME - CLOCK_MONOTONIC, as it was last seen; zero: it was not. */
static uint64_t distance_seen;

/* The two clocks at the kernel's last tick: neither asks the processor's counter, which is what a reading costs. */
static uint64_t distance_at_tick(void)
{
    uint64_t unix_nano = clock_nano(CLOCK_REALTIME_COARSE);
    uint64_t monotonic = clock_nano(CLOCK_MONOTONIC_COARSE);
    return unix_nano == 0 || monotonic == 0 ? 0 : unix_nano - monotonic;
}

/* Both are one counter, and are slewed alike: their distance is exact, and the same until the time of day is set. */
static void look_again(void)
{
    uint64_t before = clock_nano(CLOCK_MONOTONIC_COARSE);
    uint64_t unix_nano = clock_nano(CLOCK_REALTIME_COARSE);
    if (clock_nano(CLOCK_MONOTONIC_COARSE) == before) /* else a tick lies between them */
        rb_store_relaxed(&distance_seen, unix_nano - before);
}

uint64_t rb_clock_both(uint64_t *monotonic_nano)
{
    uint64_t monotonic = rb_clock_monotonic_nano();
    uint64_t distance = distance_at_tick();
    if (distance != 0 && distance == rb_load_relaxed(&distance_seen)) {
        *monotonic_nano = monotonic;
        return monotonic + distance;
    }
    look_again();
    uint64_t unix_nano = rb_clock_unix_nano();
    /* Anew, and last: a pause before it, as a tick may bring, makes the span shorter, and not end after its parent. */
    *monotonic_nano = rb_clock_monotonic_nano();
    return unix_nano;
}
