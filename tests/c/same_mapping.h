/* A drain in its producer's process, over the producer's own mapping: over two of a file ThreadSanitizer sees nothing. */
#ifndef SAME_MAPPING_H
#define SAME_MAPPING_H

#include <sys/mman.h>

#include "consumer/consumer_state.h"
#include "producer/producer_state.h"
#include "ring_for_test.h"

static inline rb_consumer *attach_to_same_mapping(rb_producer *producer, const char *path)
{
    rb_consumer *consumer = attach_consumer(path);
    assert(munmap(consumer->map, consumer->map_bytes) == 0);
    consumer->map = producer->map;
    for (uint64_t i = 0; i < consumer->lane_count; i++) {
        consumer->lanes[i].shared = producer->lanes[i].shared;
        consumer->lanes[i].slots = producer->lanes[i].slots;
    }
    return consumer;
}

static inline void free_on_same_mapping(rb_consumer *consumer)
{
    consumer->map = NULL; /* it is the producer's */
    rb_consumer_free(consumer);
}

#endif
