/*
 * The SIGBUS guard of the reading side. A file that is truncated while it is mapped answers the next access with
 * SIGBUS; the guard then maps zeros over the ring's whole range and marks the ring, so that the access completes and
 * its result is thrown away. Producers never install it: their rings are theirs.
 */
#ifndef RINGBUF_SIGBUS_H
#define RINGBUF_SIGBUS_H

#include <stdint.h>

/* The range that this thread is about to touch; *mark becomes 1 when pages were missing. No nesting. */
void rb_guard_enter(void *base, uint64_t bytes, uint32_t *mark);
void rb_guard_leave(void);

/* See that the handler is (still) ours and this thread takes the signal: once per batch, one system call. */
void rb_guard_check(void);

#endif
