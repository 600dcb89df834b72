/*
 * Where fork does not wipe, a child's first call does; another thread that comes meanwhile leaves it to that one. If both
 * wiped, the second would take the ring that the first has opened since.
 */
#include <assert.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "producer/producer_state.h"

enum { SPANS = 7 };
#define WIPED_BY UINT32_C(0x80000000)

/* In place of libc's: a kernel that does not wipe. */
int madvise(void *at, size_t bytes, int advice)
{
    if (advice != MADV_WIPEONFORK)
        return (int)syscall(SYS_madvise, at, bytes, advice);
    errno = EINVAL;
    return -1;
}

int main(void)
{
    uint32_t here = (uint32_t)getpid();
    rb_producer_stats stats;
    rb_producer *producer = rb_producer_new();
    assert(producer != NULL && producer->process == here);

    /* A thread of this process is in the middle of it. */
    producer->process = WIPED_BY | here;
    producer->local = SPANS;
    assert(rb_wipe_in_child(producer) == 0);
    assert(producer->local == SPANS && producer->process == (WIPED_BY | here));
    assert(rb_stats(producer, &stats) == RB_BUSY && rb_close(producer) == RB_BUSY);

    /* A process before this one was, and has forked: nobody here ends it. */
    producer->process = WIPED_BY | (here + 1);
    assert(rb_wipe_in_child(producer) == 1);
    assert(producer->local == 0 && producer->process == here);
    assert(rb_stats(producer, &stats) == RB_OK);
    rb_producer_free(producer);
    return 0;
}
