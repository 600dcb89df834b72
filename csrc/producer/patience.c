#include "producer/patience.h"

#include <sched.h>

#include "ringbuf.h"
#include "shared/atomics.h"

uint64_t rb_end_of_patience(void) { return rb_clock_monotonic_nano() + RB_PATIENCE_NANO; }

int rb_take_until(uint32_t *flag, uint64_t end)
{
    while (!rb_try_take(flag)) {
        if (rb_clock_monotonic_nano() > end)
            return RB_BUSY;
        sched_yield();
    }
    return RB_OK;
}
