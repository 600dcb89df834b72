#ifndef RINGBUF_STATS_H
#define RINGBUF_STATS_H

#include "producer/producer_state.h"

/* Adds the counts of the ring that is mapped at `map`, of the shape that the producer has. */
void rb_add_lane_counts(const rb_producer *producer, const uint8_t *map, rb_producer_stats *sum);

#endif
