/* What one look at the clocks tells a span. */
#ifndef RINGBUF_CLOCK_H
#define RINGBUF_CLOCK_H

#include <stdint.h>

/* CLOCK_REALTIME and, in *monotonic_nano, CLOCK_MONOTONIC of the same moment, in nanoseconds. */
uint64_t rb_clock_both(uint64_t *monotonic_nano);

#endif
