/*
 * settle.c - records wherever they lie: what became of them, whose they are, and a copy, by one call for all chunks.
 *
 * The spans of a trace lie where they came, over all that waits. So it goes over places in blocks, twice: find the chunk
 * and ask for what is there, then settle it.
 */
#include "hold/chunk.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK 32
#define LEAST_ROOM 16U
#define SPREAD 0x9e3779b1U /* 2^32 over the golden ratio: serials follow each other, and so do not meet */

typedef struct entry {
    rb_chunk *chunk;
    uint32_t serial;
} entry;

struct rb_chunks {
    entry *entries; /* a quarter of them at most is in use; NULL ends a search */
    uint32_t mask;
    uint32_t count;
};

rb_chunks *rb_chunks_new(void) { return calloc(1, sizeof(rb_chunks)); }

void rb_chunks_free(rb_chunks *chunks)
{
    if (chunks == NULL)
        return;
    free(chunks->entries);
    free(chunks);
}

static entry *find(const rb_chunks *chunks, uint32_t serial)
{
    uint32_t at = serial * SPREAD & chunks->mask;
    while (chunks->entries[at].chunk != NULL && chunks->entries[at].serial != serial)
        at = (at + 1) & chunks->mask;
    return &chunks->entries[at];
}

int rb_chunks_set(rb_chunks *chunks, const uint32_t *serials, rb_chunk *const *all, uint32_t count)
{
    uint32_t room = LEAST_ROOM;
    while (room / 4 < count && room < UINT32_MAX / 2)
        room *= 2;
    entry *entries = calloc(room, sizeof *entries);
    if (entries == NULL)
        return RB_E_SYSTEM;
    free(chunks->entries);
    *chunks = (rb_chunks){.entries = entries, .mask = room - 1, .count = count};
    for (uint32_t i = 0; i < count; i++)
        *find(chunks, serials[i]) = (entry){.chunk = all[i], .serial = serials[i]};
    return RB_OK;
}

/* Where a record lies. */
static rb_chunk *ask_for(const rb_chunks *chunks, uint64_t place)
{
    uint32_t slot = (uint32_t)place;
    rb_chunk *chunk = find(chunks, (uint32_t)(place >> 32))->chunk;
    if (chunk == NULL || slot >= chunk->slots)
        return NULL;
    __builtin_prefetch(&chunk->account.fates[slot], 1);
    __builtin_prefetch(&chunk->account.owners[slot]);
    __builtin_prefetch(rb_chunk_word(chunk, slot), 1);
    return chunk;
}

int rb_chunks_settle(const rb_chunks *chunks, const uint64_t *places, uint64_t count, uint32_t fate,
                     rb_held_counts *counts, uint32_t owners)
{
    if (fate == RB_HELD_WAITING || fate >= RB_HELDS || chunks->count == 0)
        return fate == RB_HELD_WAITING || fate >= RB_HELDS ? RB_E_ARGUMENT : RB_OK;
    rb_guard_check();
    rb_chunk *entered = NULL;
    for (uint64_t start = 0; start < count; start += BLOCK) {
        uint64_t some = count - start < BLOCK ? count - start : BLOCK;
        rb_chunk *found[BLOCK];
        for (uint64_t i = 0; i < some; i++)
            found[i] = ask_for(chunks, places[start + i]);
        for (uint64_t i = 0; i < some; i++) {
            rb_chunk *chunk = found[i];
            uint32_t slot = (uint32_t)places[start + i];
            if (chunk == NULL)
                continue;
            if (chunk != entered)
                rb_guard_enter(chunk->map, chunk->bytes, &chunk->account.is_lost);
            entered = chunk;
            uint32_t owner = chunk->account.owners[slot];
            if (rb_chunk_settle_slot(chunk, slot, fate) && owner < owners) {
                counts[owner].held[RB_HELD_WAITING]--;
                counts[owner].held[fate]++;
            }
        }
    }
    rb_guard_leave();
    return RB_OK;
}

void rb_chunks_owners(const rb_chunks *chunks, const uint64_t *places, uint64_t count, uint32_t *owners)
{
    for (uint64_t i = 0; i < count; i++) {
        uint32_t slot = (uint32_t)places[i];
        const rb_chunk *chunk = chunks->count != 0 ? ask_for(chunks, places[i]) : NULL;
        int waits = chunk != NULL && chunk->account.fates[slot] == RB_HELD_WAITING;
        owners[i] = waits ? chunk->account.owners[slot] : UINT32_MAX;
    }
}

int64_t rb_chunks_copy(const rb_chunks *chunks, const uint64_t *places, uint64_t count, uint32_t slot_bytes,
                       void *records, uint8_t *are_lost)
{
    for (uint64_t i = 0; i < count; i++) {
        const rb_chunk *chunk = chunks->count != 0 ? ask_for(chunks, places[i]) : NULL;
        if (chunk == NULL || rb_chunk_record(chunk, (uint32_t)places[i], slot_bytes) == NULL)
            return RB_E_ARGUMENT;
    }
    rb_guard_check();
    int64_t lost = 0;
    for (uint64_t i = 0; i < count; i++) {
        rb_chunk *chunk = find(chunks, (uint32_t)(places[i] >> 32))->chunk;
        uint32_t *mark = &chunk->account.is_lost;
        if (!rb_load32_relaxed(mark)) { /* of this thread's own handler, or of its own look at the file */
            rb_guard_enter(chunk->map, chunk->bytes, mark);
            memcpy((uint8_t *)records + i * slot_bytes, rb_chunk_record(chunk, (uint32_t)places[i], slot_bytes),
                   slot_bytes);
            rb_guard_leave();
        }
        are_lost[i] = rb_load32_acquire(mark) != 0; /* pairs with on_sigbus()'s release */
        lost += are_lost[i];
    }
    return lost;
}
