/* The two clocks of a span: its start by the one, its length by the other. */
#include <time.h>

#include "ringbuf.h"

static uint64_t clock_nano(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t rb_clock_unix_nano(void) { return clock_nano(CLOCK_REALTIME); }

uint64_t rb_clock_monotonic_nano(void) { return clock_nano(CLOCK_MONOTONIC); }
