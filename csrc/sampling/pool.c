/* pool.c - which entries of a pool come next. */
#include "sampling/pool.h"

#include <string.h>

#define SPARSE 4 /* where more than this part of all that were ever used is free, no new ones are */

#define BLOCK_WORDS (RB_POOL_BLOCK / 64)

/* Go on to the first block from this one on that has a free entry; where none has, behind the end. */
static void enter_block(rb_pool *pool, uint32_t block)
{
    uint32_t last = pool->fresh / RB_POOL_BLOCK;
    for (; block <= last; block += 8) {
        uint64_t eight;
        memcpy(&eight, &pool->blocks[block], sizeof eight);
        if (eight != 0) {
            block += (uint32_t)__builtin_ctzll(eight) / 8;
            pool->blocks[block] = 0; /* all that is free in it comes now; what becomes so says it again */
            break;
        }
    }
    pool->word = block * BLOCK_WORDS;
}

/* Go on to a word that has a free entry. Returns 0: there is none up to the end of what was ever used. */
static int find_word(rb_pool *pool)
{
    uint32_t words = (pool->fresh + 63) / 64;
    while (pool->word < words && pool->free[pool->word] == 0) {
        pool->word++;
        if (pool->word % BLOCK_WORDS == 0)
            enter_block(pool, pool->word / BLOCK_WORDS);
    }
    return pool->word < words;
}

/* At the end of what was ever used: begin again, or use more. */
static void turn_or_grow(rb_pool *pool)
{
    if (pool->fresh == pool->room || (uint64_t)pool->free_count * SPARSE > pool->fresh) {
        enter_block(pool, 0);
        return;
    }
    uint32_t more = pool->room - pool->fresh < 64 ? pool->room - pool->fresh : 64;
    pool->word = pool->fresh / 64;
    pool->free[pool->word] = UINT64_MAX >> (64 - more);
    pool->free_count += more;
    pool->fresh += more;
}

void rb_pool_look_ahead(rb_pool *pool)
{
    uint32_t count = pool->last - pool->first;
    memmove(pool->next, &pool->next[pool->first], count * sizeof *pool->next);
    while (count < RB_POOL_AHEAD && (pool->free_count != 0 || pool->fresh < pool->room)) {
        if (!find_word(pool)) {
            turn_or_grow(pool);
            continue;
        }
        uint64_t bits = pool->free[pool->word];
        for (; bits != 0 && count < RB_POOL_AHEAD; bits &= bits - 1, pool->free_count--)
            pool->next[count++] = pool->word * 64 + (uint32_t)__builtin_ctzll(bits);
        pool->free[pool->word] = bits;
    }
    pool->first = 0;
    pool->last = count;
}
