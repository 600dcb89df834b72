/* The one call that rings a doorbell: producers for news in a ring, the drain's own threads for work that is done. */
#ifndef RINGBUF_DOORBELL_RING_H
#define RINGBUF_DOORBELL_RING_H

#include <stdint.h>

/*
 * The kernel adds 1 to the word and wakes: a wait which has not yet begun ends as well. A truncated doorbell gives EFAULT
 * there, never a SIGBUS. errno stays as it was.
 */
void rb_ring_word(uint32_t *doorbell);

#endif
