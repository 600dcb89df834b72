/*
 * A forked child finds zeros where its parent kept a producer's private state: the kernel sees to it (MADV_WIPEONFORK,
 * Linux 4.14). Where it does not, as under gVisor, the state says whose process it is of, which costs a getpid for each
 * span; a child takes it for zeros, and makes zeros of it before it opens a ring or makes ids.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "producer/producer_state.h"
#include "shared/atomics.h"

enum { BEING_WIPED = UINT32_MAX }; /* in place of a process */
enum { MOST_TURNS = 1000 };        /* that are given to who wipes: it may be a thread that no child has */

static uint64_t state_bytes(void) { return (sizeof(rb_producer) + RB_PAGE_BYTES - 1) / RB_PAGE_BYTES * RB_PAGE_BYTES; }

rb_producer *rb_producer_new(void)
{
    rb_producer *producer = mmap(NULL, state_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (producer == MAP_FAILED)
        return NULL;
    if (madvise(producer, state_bytes(), MADV_WIPEONFORK) != 0)
        producer->process = (uint32_t)getpid();
    return producer;
}

void rb_unmap_state(rb_producer *producer) { munmap(producer, state_bytes()); }

uint32_t rb_state_here(const rb_producer *producer, uint32_t state)
{
    if (state < RB_STATE_UNWIPED)
        return state;
    /* Relaxed, as the state's own order holds: another process's number is never taken for ours. */
    return rb_load32_relaxed(&producer->process) == (uint32_t)getpid() ? state - RB_STATE_UNWIPED : RB_STATE_NONE;
}

void rb_wipe_in_child(rb_producer *producer)
{
    uint32_t of = rb_load32_acquire(&producer->process); /* pairs with the release below */
    if (of == 0)
        return;
    uint32_t here = (uint32_t)getpid();
    if (of == here)
        return;
    if (of == BEING_WIPED || !rb_replace32(&producer->process, of, BEING_WIPED)) {
        for (unsigned turns = 0; turns < MOST_TURNS; turns++) {
            if (rb_load32_acquire(&producer->process) == here)
                return;
            sched_yield();
        }
    }
    memset(producer, 0, offsetof(rb_producer, process)); /* which is the last of it */
    rb_store32_release(&producer->process, here);
}
