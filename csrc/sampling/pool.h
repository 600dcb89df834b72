/*
 * pool.h - entries of an array, any of which may become free again. Private.
 *
 * They are taken in the order of their addresses, round and round: which come next is known before, and they lie beside
 * each other, so that memory brings them in time. Those that became free last would lie anywhere.
 *
 * Of a pool that is nearly full the next one may lie far away: blocks in which none is free are passed over.
 */
#ifndef RINGBUF_SAMPLING_POOL_H
#define RINGBUF_SAMPLING_POOL_H

#include <stdint.h>

#define RB_POOL_AHEAD 32
#define RB_POOL_BLOCK 4096 /* entries */

typedef struct rb_pool {
    uint64_t *free;  /* bit i: entry i was in use, is free, and is none of the next; a bit for each of the room */
    uint8_t *blocks; /* 0: no entry of the block is free, but for what `word`, in it, has not come to */
    uint32_t room;
    uint32_t fresh;      /* from here on none was ever used */
    uint32_t free_count; /* bits that are set */
    uint32_t word;       /* of `free`, from which on the next are looked for */
    uint32_t first;      /* of `next` */
    uint32_t last;       /* behind the last of them */
    uint32_t next[RB_POOL_AHEAD];
} rb_pool;

/* How many bytes `blocks` has: some more than there are blocks, as eight are looked at together. */
static inline uint64_t rb_pool_blocks(uint32_t room) { return (uint64_t)room / RB_POOL_BLOCK + 8; }

/* How many may be taken. */
static inline uint64_t rb_pool_left(const rb_pool *pool)
{
    return (uint64_t)(pool->last - pool->first) + pool->free_count + (pool->room - pool->fresh);
}

/* Know the next RB_POOL_AHEAD, or as many as there are. */
void rb_pool_look_ahead(rb_pool *pool);

/* The one that is taken next but `later`, where it is known; else any. */
static inline uint32_t rb_pool_next(const rb_pool *pool, uint32_t later)
{
    return pool->next[pool->first + later < pool->last ? pool->first + later : 0];
}

/* Take one, which there must be. */
static inline uint32_t rb_pool_take(rb_pool *pool)
{
    if (pool->first == pool->last)
        rb_pool_look_ahead(pool);
    return pool->next[pool->first++];
}

static inline void rb_pool_give(rb_pool *pool, uint32_t number)
{
    pool->free[number / 64] |= (uint64_t)1 << number % 64;
    pool->blocks[number / RB_POOL_BLOCK] = 1;
    pool->free_count++;
}

#endif
