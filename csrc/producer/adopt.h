/* A producer and the ring that it writes: its first, or one that takes an older one's place. */
#ifndef RINGBUF_ADOPT_H
#define RINGBUF_ADOPT_H

#include "producer/producer_state.h"
#include "producer/ring_file.h"

/* Makes a mapped ring the first of a producer, and opens that. */
void rb_adopt_ring(rb_producer *producer, const rb_config *config, const struct rb_shape *shape, uint8_t *map);

/* Says what a ring that takes another's place may not change; NULL when it changes nothing. */
const char *rb_what_changed(const rb_producer *producer, const rb_config *config, const struct rb_shape *shape);

/* Puts a mapped ring of the same shape in the place of the one that the producer has; RB_BUSY if a lane stays held. */
int rb_replace_ring(rb_producer *producer, const rb_config *config, uint8_t *map, rb_error *error);

/*
 * What the header of a ring states of how roots are sampled. One that takes the place of one with another sampler, of
 * the producer `before`, states nothing: roots that began under that sampler are yet to be written.
 */
uint64_t rb_stated_threshold(const rb_config *config, const rb_producer *before);

#endif
