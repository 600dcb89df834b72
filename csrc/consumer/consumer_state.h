/* What a consumer has of its ring in its own memory, and the guard around each touch of the mapping. */
#ifndef RINGBUF_CONSUMER_STATE_H
#define RINGBUF_CONSUMER_STATE_H

#include "consumer/sigbus.h"
#include "ringbuf.h"
#include "shared/atomics.h"

/* One lane of an attached ring. */
struct lane {
    rb_lane *shared;
    const uint8_t *slots;
    uint64_t read;
    uint64_t released;
    uint64_t counted_before; /* in the outcome words already, but not below `head`: an earlier drain was killed */
    uint64_t repeated;
    rb_outcome outcome; /* what the outcome words say */
};

struct rb_consumer {
    uint8_t *map;
    rb_header *header; /* private copy, header_bytes long */
    uint32_t access;   /* enum rb_access */
    uint32_t faulted;  /* set by the SIGBUS guard */
    uint64_t map_bytes;
    uint64_t lane_count; /* as map_bytes from the header: a look at a ring then takes one line of cache less */
    struct lane lanes[];
};

static inline void rb_consumer_enter(rb_consumer *consumer)
{
    rb_guard_enter(consumer->map, consumer->map_bytes, &consumer->faulted);
}

/* Whatever was read while pages were missing is void. The acquire pairs with on_sigbus()'s release. */
static inline int rb_consumer_leave(rb_consumer *consumer)
{
    rb_guard_leave();
    return rb_load32_acquire(&consumer->faulted) ? RB_E_TRUNCATED : RB_OK;
}

#endif
