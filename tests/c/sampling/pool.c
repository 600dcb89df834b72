/*
 * pool.c - entries of a pool: nobody has one that another has, all can be taken, no more memory is used than was ever
 * needed at once, and a third, and the only free one of many is found without a look at them.
 */
#include "sampling/pool.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MOST 5000
#define MANY (1u << 22) /* entries: their bits are 128 pages */
#define TURNS 200000

static uint64_t state;

static uint64_t drawn(void)
{
    uint64_t mixed = state += 0x9e3779b97f4a7c15;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
    return mixed ^ mixed >> 29;
}

static void every_entry_is_one_owners(uint32_t room, uint32_t most)
{
    static uint64_t bits[(MOST + 63) / 64];
    static uint8_t blocks[MOST / RB_POOL_BLOCK + 8], is_taken[MOST];
    static uint32_t taken[MOST];
    memset(bits, 0, sizeof bits);
    memset(blocks, 0, sizeof blocks);
    memset(is_taken, 0, sizeof is_taken);
    rb_pool pool = {.free = bits, .blocks = blocks, .room = room};
    uint32_t count = 0, highest = 0;
    for (int turn = 0; turn < TURNS; turn++) {
        assert(rb_pool_left(&pool) == room - count);
        if (drawn() % 16 == 0)
            rb_pool_look_ahead(&pool);
        if (count < most && (count == 0 || drawn() % 100 < 55)) {
            uint32_t known = rb_pool_next(&pool, 0), number = rb_pool_take(&pool);
            assert(number < room && !is_taken[number]);
            assert(pool.first == 1 || known == number);
            is_taken[number] = 1;
            taken[count++] = number;
            highest = count > highest ? count : highest;
        } else {
            uint32_t at = (uint32_t)drawn() % count, number = taken[at];
            taken[at] = taken[--count];
            is_taken[number] = 0;
            rb_pool_give(&pool, number);
        }
        assert((uint64_t)pool.fresh * 3 <= (uint64_t)(highest + RB_POOL_AHEAD) * 4 + 4 * 64);
    }
    while (count < room) {
        uint32_t number = rb_pool_take(&pool);
        assert(number < room && !is_taken[number]);
        is_taken[number] = 1;
        count++;
    }
    assert(rb_pool_left(&pool) == 0);
}

/* What lies beside each other comes one behind the other, also where it became free in no order. */
static void they_come_in_the_order_of_their_addresses(void)
{
    static uint64_t bits[(MOST + 63) / 64];
    static uint8_t blocks[MOST / RB_POOL_BLOCK + 8];
    rb_pool pool = {.free = bits, .blocks = blocks, .room = MOST};
    uint32_t numbers[MOST];
    for (uint32_t i = 0; i < MOST; i++)
        numbers[i] = rb_pool_take(&pool);
    for (uint32_t i = MOST; i > 0; i--) {
        uint32_t at = (uint32_t)(drawn() % i), number = numbers[at];
        numbers[at] = numbers[i - 1];
        rb_pool_give(&pool, number);
    }
    uint32_t turns = 0;
    for (uint32_t i = 0, before = 0; i < MOST; i++) {
        uint32_t number = rb_pool_take(&pool);
        turns += i != 0 && number != before + 1;
        before = number;
    }
    assert(turns <= 1);
}

/* All bits but those of the only free one, and of the one before it, are out of reach: to look at them is SIGSEGV. */
static void the_only_free_one_is_found_wherever_it_lies(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = MANY / 8;
    uint8_t *bits = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t *blocks = calloc(rb_pool_blocks(MANY), 1);
    assert(bits != MAP_FAILED && blocks != NULL);
    rb_pool pool = {.free = (void *)bits, .blocks = blocks, .room = MANY};
    for (uint32_t i = 0; i < MANY; i++)
        rb_pool_take(&pool);
    for (uint32_t turn = 0, before = MANY - 1, number; turn < 300; turn++, before = number) {
        number = (before + RB_POOL_BLOCK + (uint32_t)drawn() % (MANY - 2 * RB_POOL_BLOCK)) % MANY;
        assert(mprotect(bits, bytes, PROT_NONE) == 0);
        assert(mprotect(bits + before / 8 / page * page, page, PROT_READ | PROT_WRITE) == 0);
        assert(mprotect(bits + number / 8 / page * page, page, PROT_READ | PROT_WRITE) == 0);
        rb_pool_give(&pool, number);
        if (turn % 2)
            rb_pool_look_ahead(&pool);
        assert(rb_pool_take(&pool) == number && rb_pool_left(&pool) == 0);
    }
    munmap(bits, bytes);
    free(blocks);
}

int main(void)
{
    state = (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)state);
    every_entry_is_one_owners(1, 1);
    every_entry_is_one_owners(RB_POOL_AHEAD, RB_POOL_AHEAD);
    every_entry_is_one_owners(64, 64);
    every_entry_is_one_owners(100, 99);
    every_entry_is_one_owners(MOST, 1000);
    every_entry_is_one_owners(MOST, MOST);
    they_come_in_the_order_of_their_addresses();
    the_only_free_one_is_found_wherever_it_lies();
    return 0;
}
