/*
 * pool.c - entries of a pool: nobody has one that another has, all can be taken, and no more memory is used than was ever
 * needed at once, and a third.
 */
#include "sampling/pool.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST 5000
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
    static uint8_t is_taken[MOST];
    static uint32_t taken[MOST];
    memset(bits, 0, sizeof bits);
    memset(is_taken, 0, sizeof is_taken);
    rb_pool pool = {.free = bits, .room = room};
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
    rb_pool pool = {.free = bits, .room = MOST};
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
    return 0;
}
