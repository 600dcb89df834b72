/* What a producer has counted, in the ring that it has and in those before. */
#include "producer/stats.h"

#include "producer/patience.h"
#include "producer/producer_state.h"
#include "shared/atomics.h"

void rb_add_lane_counts(const rb_producer *producer, const uint8_t *map, rb_producer_stats *sum)
{
    for (uint32_t i = 0; i < producer->lane_count; i++) {
        const rb_lane *lane =
            (const rb_lane *)(const void *)(map + producer->header_bytes + i * producer->lane_stride_bytes);
        sum->published += rb_load_relaxed(&lane->tail) - producer->first_position;
        sum->full += rb_load_relaxed(&lane->full);
        sum->contended += rb_load_relaxed(&lane->contended);
        sum->unsampled += rb_load_relaxed(&lane->unsampled);
        sum->truncated += rb_load_relaxed(&lane->truncated);
        sum->invalid_values += rb_load_relaxed(&lane->invalid_values);
    }
}

int rb_stats(rb_producer *producer, rb_producer_stats *stats)
{
    if (!rb_wipe_in_child(producer) || rb_take_until(&producer->life, rb_end_of_patience()) != RB_OK)
        return RB_BUSY;
    *stats = producer->retired;
    stats->local = rb_load_relaxed(&producer->local);
    if (producer->map != NULL) {
        uint32_t state = rb_load32_acquire(&producer->state); /* under `life`, as its stores are */
        stats->is_open = rb_state_here(producer, state) == RB_STATE_OPEN;
        stats->capacity_slots = (uint64_t)producer->capacity_slots * producer->lane_count;
        stats->consumer_state = rb_load32_relaxed(&producer->lanes[0].shared->consumer_state);
        rb_add_lane_counts(producer, producer->map, stats);
        for (uint32_t i = 0; i < producer->lane_count; i++) {
            const rb_lane *lane = producer->lanes[i].shared;
            /* head first: a tail loaded before it could lie behind it. */
            uint64_t head = rb_load_acquire(&lane->head);          /* pairs with rb_release's store */
            stats->pending += rb_load_acquire(&lane->tail) - head; /* pairs with publish() */
        }
    }
    rb_give_back(&producer->life);
    return RB_OK;
}
