/* One ring is made at a time, in a process and in a producer, and nothing comes between. */
#ifndef RINGBUF_MAKING_H
#define RINGBUF_MAKING_H

#include <signal.h>

#include "producer/producer_state.h"

struct rb_making {
    sigset_t signals; /* as they were before */
    int cancellation; /* as it was before */
    int taken;        /* 1: the process's word was taken; 0: it is this thread's already; RB_BUSY: nothing was */
};

/*
 * Takes the producer's `life`, and the word of those who make rings and map doorbells in this process. RB_OK, or RB_BUSY
 * when another thread has one of them; rb_end_making() is called in either case.
 */
int rb_begin_making(rb_producer *producer, struct rb_making *making);
void rb_end_making(rb_producer *producer, const struct rb_making *making);

#endif
