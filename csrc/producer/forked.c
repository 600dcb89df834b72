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

#define WIPED_BY UINT32_C(0x80000000) /* with the number of a process, which has 22 bits at most */
enum { MOST_TURNS = 1000 };           /* that are given to the thread which wipes: this may be its own signal handler */

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

int rb_wipe_in_child(rb_producer *producer)
{
    uint32_t of = rb_load32_acquire(&producer->process); /* pairs with the release below */
    if (of == 0)
        return 1;
    uint32_t here = (uint32_t)getpid();
    for (unsigned turns = 0; turns < MOST_TURNS; turns++) {
        if (of == here)
            return 1;
        if (of == (WIPED_BY | here)) {
            sched_yield();
        } else if (rb_replace32(&producer->process, of, WIPED_BY | here)) {
            /* Also where a process before this one has forked in the middle of it: no thread here will end that. */
            memset(producer, 0, offsetof(rb_producer, process)); /* which is the last of it */
            rb_store32_release(&producer->process, here);
            return 1;
        }
        of = rb_load32_acquire(&producer->process);
    }
    return 0;
}
