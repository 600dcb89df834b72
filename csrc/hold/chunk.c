/* A chunk of the hold, see hold.h: mapped, begun, appended to, settled; and read again by the next drain. */
#include "hold/chunk.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "consumer/sigbus.h"
#include "shared/atomics.h"
#include "shared/crc32.h"
#include "shared/error.h"
#include "shared/point.h"

_Static_assert(sizeof(rb_chunk_head) == RB_CHUNK_HEAD_BYTES, "the head of a chunk has 128 bytes");
_Static_assert(offsetof(rb_chunk_head, number) == 16, "number lies at 16");
_Static_assert(sizeof(rb_segment) == RB_SEGMENT_HEAD_BYTES, "the head of a segment has 128 bytes");
_Static_assert(offsetof(rb_segment, number) == 0 && offsetof(rb_segment, bytes) == 16, "what the checksum covers");
_Static_assert(sizeof(uint32_t) * RB_MAX_CHUNK_BYTES / RB_CORE_BYTES < INT32_MAX, "slots fit");

#define MAGIC "rb-hold"
#define ALIGN_BYTES RB_CHUNK_UNIT

static uint64_t sources_bytes(uint64_t count, int is_moved)
{
    return is_moved ? (4 * count + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES : 0;
}

static uint64_t segment_bytes(uint64_t count, uint64_t slot_bytes, int is_moved)
{
    return RB_SEGMENT_HEAD_BYTES + sources_bytes(count, is_moved) + count * slot_bytes;
}

static uint32_t crc_of(const rb_segment *segment)
{
    return rb_crc32((const uint8_t *)segment + offsetof(rb_segment, bytes),
                    sizeof *segment - offsetof(rb_segment, bytes));
}

/* Each number within its own limits first: the products then cannot overflow 64 bits. */
static int fits_at(const rb_chunk *chunk, uint64_t at, uint64_t slots, uint64_t count, uint64_t slot_bytes,
                   int is_moved)
{
    return count >= 1 && count <= chunk->bytes && slot_bytes >= RB_CORE_BYTES && slot_bytes <= RB_MAX_SLOT_BYTES &&
           slot_bytes % ALIGN_BYTES == 0 &&
           at + segment_bytes(count, slot_bytes, is_moved) + 4 * (slots + count) <= chunk->bytes;
}

static int fits(const rb_chunk *chunk, uint64_t count, uint64_t slot_bytes, int is_moved)
{
    return fits_at(chunk, chunk->used, chunk->slots, count, slot_bytes, is_moved);
}

/* A private copy of a segment's head that lies at `at` and whose first record has the slot `slots`. */
static int checked(const rb_chunk *chunk, const rb_segment *segment, uint64_t at, uint64_t slots)
{
    if (segment->crc32 != crc_of(segment))
        return RB_E_CRC;
    int is_moved = segment->moved_from != 0;
    if (!fits_at(chunk, at, slots, segment->count, segment->slot_bytes, is_moved) ||
        segment->bytes != segment_bytes(segment->count, segment->slot_bytes, is_moved) ||
        segment->first_slot != slots || segment->lane >= RB_MAX_LANES)
        return RB_E_GEOMETRY;
    return RB_OK;
}

int rb_chunk_open(int fd, rb_chunk **chunk, rb_error *error)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return rb_fail(error, RB_E_SYSTEM, errno, "fstat: %m");
    if (!S_ISREG(status.st_mode))
        return rb_fail(error, RB_E_NOT_A_RING, 0, "not a regular file");
    if (status.st_size < RB_MIN_CHUNK_BYTES || status.st_size > RB_MAX_CHUNK_BYTES ||
        status.st_size % RB_PAGE_BYTES != 0)
        return rb_fail(error, RB_E_FILE_SIZE, 0, "no chunk has %lld bytes", (long long)status.st_size);
    /* A hole is allocated when it is read: that could find no memory, which is a SIGBUS. */
    if (status.st_blocks * 512 < status.st_size)
        return rb_fail(error, RB_E_SPARSE, 0, "%lld of %lld bytes are allocated", (long long)status.st_blocks * 512,
                       (long long)status.st_size);
    rb_chunk *made = calloc(1, sizeof *made);
    if (made == NULL)
        return rb_fail(error, RB_E_SYSTEM, ENOMEM, "%m");
    made->bytes = (uint64_t)status.st_size;
    void *map = mmap(NULL, made->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        int rv = rb_fail(error, RB_E_SYSTEM, errno, "mmap: %m");
        free(made);
        return rv;
    }
    made->map = map;
    made->account.room = made->bytes / (RB_CORE_BYTES + 4);
    made->account.fates = calloc(made->account.room, sizeof *made->account.fates);
    made->account.owners = calloc(made->account.room, sizeof *made->account.owners);
    made->account.units = calloc(made->account.room, sizeof *made->account.units);
    if (made->account.fates == NULL || made->account.owners == NULL || made->account.units == NULL) {
        rb_chunk_free(made);
        return rb_fail(error, RB_E_SYSTEM, ENOMEM, "%m");
    }
#ifdef MADV_POPULATE_WRITE
    madvise(map, made->bytes, MADV_POPULATE_WRITE); /* at once, which takes a tenth of the faults one by one */
#endif
    *chunk = made;
    return RB_OK;
}

void rb_chunk_free(rb_chunk *chunk)
{
    if (chunk == NULL)
        return;
    munmap(chunk->map, chunk->bytes);
    free(chunk->account.fates);
    free(chunk->account.owners);
    free(chunk->account.units);
    free(chunk);
}

rb_account *rb_chunk_account(rb_chunk *chunk) { return &chunk->account; }

int rb_chunk_take_home(rb_chunk *chunk, int fd, rb_error *error)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return rb_fail(error, RB_E_SYSTEM, errno, "fstat: %m");
    if ((uint64_t)status.st_size != chunk->bytes)
        return rb_fail(error, RB_E_FILE_SIZE, 0, "%lld bytes", (long long)status.st_size);
    void *map = mmap(NULL, chunk->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return rb_fail(error, RB_E_SYSTEM, errno, "mmap: %m");
    rb_chunk_enter(chunk);
    memcpy(map, chunk->map, chunk->bytes); /* its one thread is here */
    int rv = rb_chunk_leave(chunk);
    void *gone = rv == RB_OK ? chunk->map : map;
    if (rv == RB_OK)
        chunk->map = map;
    munmap(gone, chunk->bytes);
    return rv == RB_OK ? RB_OK : rb_fail(error, rv, 0, "the file was cut");
}

int rb_chunk_begin(rb_chunk *chunk, uint64_t number, const uint8_t boot_id[16])
{
    if (number == 0 || number == chunk->number)
        return RB_E_ARGUMENT;
    rb_chunk_head *head = (rb_chunk_head *)(void *)chunk->map;
    rb_chunk_enter(chunk);
    RB_POINT(hold_unbegun);
    memcpy(head->magic, MAGIC, sizeof head->magic);
    head->version = RB_CHUNK_VERSION;
    head->file_bytes = (uint32_t)chunk->bytes;
    memcpy(head->boot_id, boot_id, sizeof head->boot_id);
    rb_store_release(&head->number, number); /* behind what is said beside it; pairs with rb_chunk_take_up's load */
    RB_POINT(hold_begun);
    chunk->number = number;
    chunk->used = RB_CHUNK_HEAD_BYTES;
    chunk->slots = 0;
    chunk->is_begun = 1;
    memset(chunk->account.fates, RB_HELD_WAITING, chunk->account.room);
    chunk->account.waiting = 0;
    return rb_chunk_leave(chunk);
}

int rb_chunk_take_up(rb_chunk *chunk, rb_chunk_head *head, rb_error *error)
{
    rb_chunk_enter(chunk);
    uint64_t number = rb_load_acquire(&((rb_chunk_head *)(void *)chunk->map)->number); /* pairs with rb_chunk_begin */
    memcpy(head, chunk->map, sizeof *head);
    rb_segment first;
    memcpy(&first, chunk->map + RB_CHUNK_HEAD_BYTES, sizeof first);
    if (rb_chunk_leave(chunk) != RB_OK)
        return rb_fail(error, RB_E_TRUNCATED, 0, "the file lost pages while it was read");
    int is_ours = memcmp(head->magic, MAGIC, sizeof head->magic) == 0;
    if (is_ours && head->version > RB_CHUNK_VERSION)
        return rb_fail(error, RB_E_ABI_NEWER, 0, "version %u, this drain knows up to %d", (unsigned)head->version,
                       RB_CHUNK_VERSION);
    if (head->file_bytes != chunk->bytes)
        return rb_fail(error, RB_E_FILE_SIZE, 0, "the head says %u bytes, the file has %llu",
                       (unsigned)head->file_bytes, (unsigned long long)chunk->bytes);
    int is_sound = is_ours && head->version == RB_CHUNK_VERSION && number != 0;
    if (!is_sound) {
        /* Its segments have the number, too: a head that is damaged loses none of them. */
        if (first.number == 0 || checked(chunk, &first, RB_CHUNK_HEAD_BYTES, 0) != RB_OK)
            return rb_fail(error, is_ours ? RB_E_ABI_UNKNOWN : RB_E_NOT_A_RING, 0,
                           "no magic \"" MAGIC "\", version %u, number %llu", (unsigned)head->version,
                           (unsigned long long)number);
        number = first.number;
    }
    head->number = chunk->number = number;
    chunk->used = RB_CHUNK_HEAD_BYTES;
    chunk->slots = 0;
    chunk->is_begun = 0;
    return is_sound ? RB_OK : 1;
}

int rb_chunk_next(rb_chunk *chunk, rb_segment *segment, uint64_t *records_offset)
{
    if (chunk->number == 0 || chunk->is_begun)
        return RB_E_ARGUMENT;
    if (chunk->used + sizeof *segment + 4 * (uint64_t)chunk->slots > chunk->bytes)
        return 0;
    rb_chunk_enter(chunk);
    const rb_segment *shared = (const rb_segment *)(void *)(chunk->map + chunk->used);
    uint64_t number = rb_load_acquire(&shared->number); /* pairs with rb_chunk_append: all of it is there */
    memcpy(segment, shared, sizeof *segment);
    int rv = rb_chunk_leave(chunk);
    if (rv != RB_OK || number != chunk->number)
        return rv;
    rv = checked(chunk, segment, chunk->used, chunk->slots);
    if (rv != RB_OK)
        return rv;
    *records_offset = chunk->used + segment->bytes - (uint64_t)segment->count * segment->slot_bytes;
    chunk->used += segment->bytes;
    chunk->slots += segment->count;
    return 1;
}

int rb_chunk_skip(rb_chunk *chunk, uint32_t *missing)
{
    if (chunk->number == 0 || chunk->is_begun || chunk->used + sizeof(rb_segment) > chunk->bytes)
        return RB_E_ARGUMENT;
    rb_segment segment;
    uint64_t found = 0, slots = chunk->slots, at = chunk->used;
    rb_chunk_enter(chunk);
    memcpy(&segment, chunk->map + at, sizeof segment);
    /* Where nothing sound lies behind it, what it says of itself is the best that is known, if it could be. */
    int is_moved = segment.moved_from != 0;
    uint64_t said = fits(chunk, segment.count, segment.slot_bytes, is_moved) ? segment.count : 0;
    for (at += ALIGN_BYTES; found == 0 && at + sizeof segment + 4 * slots <= chunk->bytes; at += ALIGN_BYTES) {
        if (rb_load_acquire((uint64_t *)(void *)(chunk->map + at)) != chunk->number) /* pairs with rb_chunk_append */
            continue;
        memcpy(&segment, chunk->map + at, sizeof segment);
        if (segment.first_slot >= slots && (segment.first_slot - slots) * RB_CORE_BYTES <= at - chunk->used &&
            checked(chunk, &segment, at, segment.first_slot) == RB_OK)
            found = at;
    }
    int rv = rb_chunk_leave(chunk);
    if (rv != RB_OK)
        return rv;
    *missing = (uint32_t)(found != 0 ? segment.first_slot - slots : said);
    chunk->used = found != 0 ? found : chunk->bytes;
    chunk->slots += *missing;
    return found != 0;
}

int64_t rb_chunk_account_found(rb_chunk *chunk, const rb_segment *segment, uint64_t records_offset)
{
    rb_account *account = &chunk->account;
    uint32_t first = segment->first_slot, waiting = 0;
    if (first > chunk->slots || segment->count > chunk->slots - first || chunk->slots > account->room)
        return RB_E_ARGUMENT;
    rb_chunk_enter(chunk);
    for (uint32_t i = 0; i < segment->count; i++) {
        uint32_t word = rb_load32_relaxed(rb_chunk_word(chunk, first + i)); /* of a drain that is gone */
        account->fates[first + i] = (uint8_t)(word < RB_HELDS ? word : RB_HELD_WAITING);
        account->units[first + i] = (uint32_t)((records_offset + (uint64_t)i * segment->slot_bytes) / RB_CHUNK_UNIT);
        waiting += account->fates[first + i] == RB_HELD_WAITING;
    }
    account->waiting += waiting;
    int rv = rb_chunk_leave(chunk);
    return rv == RB_OK ? (int64_t)waiting : rv;
}

int rb_chunk_sources(rb_chunk *chunk, const rb_segment *segment, uint64_t records_offset, uint32_t *sources)
{
    uint64_t bytes = sources_bytes(segment->count, 1);
    if (segment->moved_from == 0 || records_offset > chunk->bytes ||
        records_offset < RB_CHUNK_HEAD_BYTES + RB_SEGMENT_HEAD_BYTES + bytes)
        return RB_E_ARGUMENT;
    rb_chunk_enter(chunk);
    memcpy(sources, chunk->map + records_offset - bytes, 4 * (uint64_t)segment->count);
    int rv = rb_chunk_leave(chunk);
    if (rv == RB_OK && rb_crc32(sources, 4 * (uint64_t)segment->count) != segment->sources_crc32)
        rv = RB_E_CRC;
    return rv;
}

int rb_chunk_is_whole(rb_chunk *chunk)
{
    rb_chunk_enter(chunk);
    (void)*(volatile const uint8_t *)(chunk->map + chunk->bytes - 1);
    return rb_chunk_leave(chunk) == RB_OK;
}

uint64_t rb_chunk_room(const rb_chunk *chunk, uint32_t slot_bytes, uint32_t is_moved)
{
    uint64_t taken = chunk->used + 4 * (uint64_t)chunk->slots + segment_bytes(0, 0, 0) + (is_moved ? ALIGN_BYTES : 0);
    if (!chunk->is_begun || slot_bytes == 0 || taken > chunk->bytes)
        return 0;
    return (chunk->bytes - taken) / (slot_bytes + 4ULL + (is_moved ? 4 : 0));
}

/*
 * Copy units of RB_CHUNK_UNIT bytes, past the caches: what is held is read again after its wait, if ever, and what is
 * looked at next stays there. `to` begins at a unit; finish_units orders the stores before all that follow.
 */
static void copy_units(uint8_t *to, const uint8_t *from, uint64_t bytes)
{
#ifdef __SSE2__
    for (uint64_t i = 0; i < bytes; i += sizeof(__m128i))
        _mm_stream_si128((__m128i *)(void *)(to + i), _mm_loadu_si128((const __m128i *)(const void *)(from + i)));
#else
    memcpy(to, from, bytes);
#endif
}

static void finish_units(void)
{
#ifdef __SSE2__
    _mm_sfence();
#endif
}

/* The records of a segment, behind each other. */
static void copy_records(uint8_t *to, const rb_new_segment *added, uint32_t count, uint32_t slot_bytes)
{
    const uint8_t *records = added->records;
    if (added->which == NULL)
        copy_units(to, records, (uint64_t)count * slot_bytes);
    else
        for (uint32_t i = 0; i < count; i++)
            copy_units(to + (uint64_t)i * slot_bytes, records + (uint64_t)added->which[i] * slot_bytes, slot_bytes);
    finish_units();
}

int64_t rb_chunk_append(rb_chunk *chunk, rb_segment *segment, const rb_new_segment *added, uint64_t *records_offset)
{
    int is_moved = segment->moved_from != 0;
    if (!chunk->is_begun || is_moved != (added->sources != NULL) || segment->lane >= RB_MAX_LANES ||
        !fits(chunk, segment->count, segment->slot_bytes, is_moved))
        return RB_E_ARGUMENT;
    uint32_t count = segment->count;
    segment->number = chunk->number;
    segment->bytes = (uint32_t)segment_bytes(count, segment->slot_bytes, is_moved);
    segment->first_slot = chunk->slots;
    segment->sources_crc32 = is_moved ? rb_crc32(added->sources, 4 * (uint64_t)count) : 0;
    segment->crc32 = crc_of(segment);
    *records_offset = chunk->used + segment->bytes - (uint64_t)count * segment->slot_bytes;

    rb_chunk_enter(chunk);
    RB_POINT(hold_append_begin);
    uint8_t *at = chunk->map + chunk->used;
    copy_records(chunk->map + *records_offset, added, count, segment->slot_bytes);
    if (is_moved)
        memcpy(at + RB_SEGMENT_HEAD_BYTES, added->sources, 4 * (uint64_t)count);
    RB_POINT(hold_append_half);
    for (uint32_t i = 0; i < count; i++)
        rb_store32_relaxed(rb_chunk_word(chunk, chunk->slots + i), RB_HELD_WAITING); /* published with the rest */
    memcpy(at + sizeof segment->number, (uint8_t *)segment + sizeof segment->number,
           sizeof *segment - sizeof segment->number);
    RB_POINT(hold_unpublished);
    rb_store_release((uint64_t *)(void *)at, chunk->number); /* pairs with rb_chunk_next */
    RB_POINT(hold_published);
    int rv = rb_chunk_leave(chunk);
    if (rv != RB_OK)
        return rv;
    uint32_t first_slot = chunk->slots;
    chunk->used += segment->bytes;
    chunk->slots += count;
    for (uint32_t i = 0; i < count; i++) {
        chunk->account.owners[first_slot + i] = added->owner;
        chunk->account.units[first_slot + i] =
            (uint32_t)((*records_offset + (uint64_t)i * segment->slot_bytes) / RB_CHUNK_UNIT);
    }
    chunk->account.waiting += count;
    return first_slot;
}

int rb_chunk_settle(rb_chunk *chunk, const uint64_t *places, uint64_t count, uint32_t fate)
{
    for (uint64_t i = 0; i < count; i++)
        if ((uint32_t)places[i] >= chunk->slots)
            return RB_E_ARGUMENT;
    rb_chunk_enter(chunk);
    for (uint64_t i = 0; i < count; i++)
        rb_chunk_settle_slot(chunk, (uint32_t)places[i], fate);
    return rb_chunk_leave(chunk);
}

int rb_chunk_copy(rb_chunk *chunk, const uint64_t *places, uint64_t count, uint32_t slot_bytes, void *records)
{
    for (uint64_t i = 0; i < count; i++)
        if (rb_chunk_record(chunk, (uint32_t)places[i], slot_bytes) == NULL)
            return RB_E_ARGUMENT;
    rb_chunk_enter(chunk);
    for (uint64_t i = 0; i < count; i++)
        memcpy((uint8_t *)records + i * slot_bytes, rb_chunk_record(chunk, (uint32_t)places[i], slot_bytes),
               slot_bytes);
    return rb_chunk_leave(chunk);
}
