/* pool.c - which entries of a pool come next. */
#include "sampling/pool.h"

#include <string.h>

#define SPARSE 4 /* where more than this part of all that were ever used is free, no new ones are */

/* At the end of what was ever used: begin again, or use more. */
static void turn_or_grow(rb_pool *pool)
{
    if (pool->fresh == pool->room || (uint64_t)pool->free_count * SPARSE > pool->fresh) {
        pool->word = 0;
        return;
    }
    uint32_t more = pool->room - pool->fresh < 64 ? pool->room - pool->fresh : 64;
    pool->free[pool->word] = UINT64_MAX >> (64 - more);
    pool->free_count += more;
    pool->fresh += more;
}

void rb_pool_look_ahead(rb_pool *pool)
{
    uint32_t count = pool->last - pool->first;
    memmove(pool->next, &pool->next[pool->first], count * sizeof *pool->next);
    while (count < RB_POOL_AHEAD && (pool->free_count != 0 || pool->fresh < pool->room)) {
        if ((uint64_t)pool->word * 64 >= pool->fresh)
            turn_or_grow(pool);
        uint64_t bits = pool->free[pool->word];
        for (; bits != 0 && count < RB_POOL_AHEAD; bits &= bits - 1, pool->free_count--)
            pool->next[count++] = pool->word * 64 + (uint32_t)__builtin_ctzll(bits);
        pool->free[pool->word] = bits;
        pool->word += bits == 0;
    }
    pool->first = 0;
    pool->last = count;
}
