/* Waiting for a try-flag, for a second at most: emits and openings end in milliseconds. */
#ifndef RINGBUF_PATIENCE_H
#define RINGBUF_PATIENCE_H

#include <stdint.h>

enum { RB_PATIENCE_NANO = 1000000000 };

/* When whoever waits for a flag gives up. One end for all flags of a call. */
uint64_t rb_end_of_patience(void);

/* Takes a flag, which is tried once even at the end: RB_OK, or RB_BUSY. */
int rb_take_until(uint32_t *flag, uint64_t end);

#endif
