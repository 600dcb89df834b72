/* chunk.h - a chunk that is mapped, and the drain's own account of it. Private. */
#ifndef RINGBUF_HOLD_CHUNK_H
#define RINGBUF_HOLD_CHUNK_H

#include "consumer/sigbus.h"
#include "hold/hold.h"
#include "shared/atomics.h"
#include "shared/point.h"

#define RB_CHUNK_UNIT 64U /* bytes: where heads and records begin */

struct rb_chunk {
    uint8_t *map;
    uint64_t bytes;
    uint64_t number;
    uint64_t used;  /* bytes of head and segments */
    uint32_t slots; /* words that belong to records */
    uint32_t is_begun;
    rb_account account;
};

static inline void rb_chunk_enter(rb_chunk *chunk)
{
    rb_guard_check();
    rb_guard_enter(chunk->map, chunk->bytes, &chunk->account.is_lost);
}

static inline int rb_chunk_leave(rb_chunk *chunk)
{
    rb_guard_leave();
    return rb_load32_acquire(&chunk->account.is_lost) ? RB_E_TRUNCATED : RB_OK; /* pairs with on_sigbus()'s release */
}

static inline uint32_t *rb_chunk_word(const rb_chunk *chunk, uint64_t slot)
{
    return (uint32_t *)(void *)(chunk->map + chunk->bytes - 4 * (slot + 1));
}

/* Where the record of a slot lies; NULL: the chunk has no such. */
static inline const uint8_t *rb_chunk_record(const rb_chunk *chunk, uint32_t slot, uint32_t slot_bytes)
{
    if (slot >= chunk->slots)
        return NULL;
    uint64_t offset = (uint64_t)chunk->account.units[slot] * RB_CHUNK_UNIT;
    return offset + slot_bytes <= chunk->bytes ? chunk->map + offset : NULL;
}

/* Say what became of a record that waits; of another that is known. The chunk is entered. */
static inline int rb_chunk_settle_slot(rb_chunk *chunk, uint32_t slot, uint32_t fate)
{
    if (chunk->account.fates[slot] != RB_HELD_WAITING)
        return 0;
    RB_POINT(hold_unsettled);
    /* Behind whatever this rests on: a decision, a delivery, the segment that a record was moved to. */
    if (!rb_load32_relaxed(&chunk->account.is_lost))          /* of this thread's own handler */
        rb_store32_release(rb_chunk_word(chunk, slot), fate); /* pairs with nothing: who reads it comes later */
    RB_POINT(hold_settled);
    chunk->account.fates[slot] = (uint8_t)fate;
    chunk->account.waiting--;
    return 1;
}

#endif
