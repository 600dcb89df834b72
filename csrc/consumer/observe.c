/*
 * Looking at records without taking them. The observer writes nothing into the ring, so that nobody waits for it: a
 * slot may be released and written again in the middle of a copy. `head` decides afterwards what such a copy is worth,
 * as the sequence number of a seqlock does.
 */
#include <string.h>

#include "consumer/consumer_state.h"
#include "shared/atomics.h"

enum { TRIES = 100 };

/*
 * The drain's head, and a tail that fits it: between the two loads both may move on, then both are loaded again.
 * Returns 0 when they never fit: no producer and drain leave more than a capacity between them.
 */
static int look_at_ends(const struct lane *lane, uint64_t capacity, uint64_t *head, uint64_t *tail)
{
    for (int i = 0; i < TRIES; i++) {
        *head = rb_load_acquire(&lane->shared->head); /* pairs with rb_release, for the load of tail after it */
        *tail = rb_load_acquire(&lane->shared->tail); /* pairs with publish(): the slots below it are written */
        if (*tail - *head <= capacity)
            return 1;
    }
    return 0;
}

/* How far `position` is behind `mark` on the circle of 2^64; 0 when it is not. */
static uint64_t behind(uint64_t position, uint64_t mark)
{
    uint64_t distance = mark - position;
    return distance <= INT64_MAX ? distance : 0;
}

static void copy_slots(const rb_consumer *consumer, const struct lane *lane, uint64_t position, void *records,
                       uint64_t count)
{
    uint64_t slot_bytes = consumer->header->slot_bytes;
    uint64_t capacity = consumer->header->capacity_slots;
    uint64_t at = position & (capacity - 1);
    uint64_t first = count < capacity - at ? count : capacity - at;
    rb_copy_acquire(records, lane->slots + at * slot_bytes, first * slot_bytes);
    rb_copy_acquire((uint8_t *)records + first * slot_bytes, lane->slots, (count - first) * slot_bytes);
}

int64_t rb_peek(rb_consumer *consumer, uint32_t index, uint64_t *position, void *records, uint64_t max_records,
                uint64_t *missed)
{
    if (index >= consumer->header->lane_count || consumer->access != RB_OBSERVE)
        return RB_E_ARGUMENT;
    struct lane *lane = &consumer->lanes[index];
    uint64_t slot_bytes = consumer->header->slot_bytes;
    uint64_t from = *position;
    uint64_t count = 0;
    uint64_t lost = 0;
    uint64_t head = 0;
    uint64_t tail = 0;
    rb_guard_check();
    rb_consumer_enter(consumer);
    int plausible = look_at_ends(lane, consumer->header->capacity_slots, &head, &tail) && behind(tail, from) == 0;
    if (plausible) {
        uint64_t start = from + behind(from, head);
        count = tail - start < max_records ? tail - start : max_records;
        copy_slots(consumer, lane, start, records, count);
        /*
         * A slot is written again only by a producer that saw `head` beyond it. So when `head`, loaded after the copy,
         * is not beyond the slot, the copy came before any such write. Each load of the copy is an acquire, so that
         * "after" holds; the producer's acquire of `head` in check_out(), that its writes come after it. C11 would have
         * these be release stores, for our acquires to pair with (tests/model/peek_orders.pml fails without). They are
         * none: where a store reaches all other processors at once, as on x86-64 and aarch64, who has seen what was
         * written after a load of `head` cannot then load an older `head`.
         */
        head = rb_load_acquire(&lane->shared->head);
        lost = behind(start, head) < count ? behind(start, head) : count;
        if (lost > 0)
            memmove(records, (uint8_t *)records + lost * slot_bytes, (count - lost) * slot_bytes);
        lost += start - from;
        *position = start + count;
        *missed = lost;
    }
    int guard = rb_consumer_leave(consumer);
    if (guard != RB_OK)
        return guard;
    return plausible ? (int64_t)(*position - from - lost) : RB_E_POSITION;
}
