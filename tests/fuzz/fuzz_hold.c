/*
 * Fuzz target: a chunk of the hold that anybody may have written, and what a drain does with it. The input:
 *
 *   byte 0      enum how: how the file is made of the rest
 *   byte 1      n, the length of the script
 *   byte 2      m, how many words there are
 *   3 to 3+n    the script: calls into the chunk, and cuts of its file between them; see run_script
 *   then        m words of u32, that of slot 0 first, for the end of the file
 *   the rest    the file from its begin on: head, segments, records
 *
 * Checked beside the sanitizers: what a call may return; that the segments of a chunk come to an end, one behind the
 * other, inside the file and before its words; that what is settled is counted once; that what is appended is found.
 */
#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hold/hold.h"
#include "ringbuf.h"
#include "script.h"

#define FILE_BYTES RB_MIN_CHUNK_BYTES
#define MAX_SLOTS (FILE_BYTES / (RB_CORE_BYTES + 4))
#define OWNERS 2

enum how {
    FIX_CHAIN = 1, /* each segment gets the chunk's number, the slot that it must have, and its checksums */
    HOLES = 2,     /* the file is not allocated whole */
    LONGER = 4     /* it has a page more than its head says */
};

static int file = -1;
static uint8_t image[FILE_BYTES + RB_PAGE_BYTES];
static const uint8_t boot_id[16] = {7};

/* ---- the file ---- */

static uint32_t crc32_of(const uint8_t *data, size_t bytes)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
    }
    return ~crc;
}

/* What is wrong with a segment is then in its numbers alone. */
static void fix_chain(void)
{
    rb_chunk_head head;
    memcpy(&head, image, sizeof head);
    uint32_t slots = 0;
    for (size_t at = sizeof head; at + sizeof(rb_segment) <= FILE_BYTES;) {
        rb_segment segment;
        memcpy(&segment, image + at, sizeof segment);
        if (segment.count == 0)
            return;
        segment.number = head.number;
        size_t sources = at + sizeof segment, bytes = 4 * (size_t)(segment.count % FILE_BYTES);
        if (segment.moved_from != 0 && bytes <= FILE_BYTES - sources)
            segment.sources_crc32 = crc32_of(image + sources, bytes);
        size_t begin = offsetof(rb_segment, bytes);
        segment.crc32 = crc32_of((uint8_t *)&segment + begin, sizeof segment - begin);
        memcpy(image + at, &segment, sizeof segment);
        slots += segment.count;
        if (segment.bytes < sizeof segment || segment.bytes > FILE_BYTES - at)
            return;
        at += segment.bytes;
    }
}

static size_t make_file(uint32_t how, const uint8_t *words, size_t count, const uint8_t *data, size_t bytes)
{
    memset(image, 0, sizeof image);
    bytes = bytes < FILE_BYTES ? bytes : FILE_BYTES;
    memcpy(image, data, bytes);
    for (size_t slot = 0; slot < count; slot++)
        memcpy(image + FILE_BYTES - 4 * (slot + 1), words + 4 * slot, 4);
    if (how & FIX_CHAIN)
        fix_chain();
    size_t size = how & LONGER ? sizeof image : FILE_BYTES, written = how & HOLES ? bytes : size;
    int is_made = ftruncate(file, 0) == 0 && pwrite(file, image, written, 0) == (ssize_t)written &&
                  ftruncate(file, (off_t)size) == 0;
    assert(is_made);
    return size;
}

static void resize(size_t bytes)
{
    int status = ftruncate(file, (off_t)bytes);
    assert(status == 0);
}

/* ---- a drain that takes it up ---- */

struct drain {
    rb_chunk *chunk;
    rb_chunks *chunks;
    size_t bytes;
    uint32_t slots;  /* that it knows of */
    uint64_t end;    /* of the segments */
    rb_segment last; /* that was found or appended */
    uint64_t offset; /* of its records */
    rb_held_counts counts[OWNERS];
};

static int is_known(int status)
{
    return status == RB_OK || status == RB_E_ARGUMENT || status == RB_E_TRUNCATED || status == RB_E_CRC ||
           status == RB_E_GEOMETRY;
}

/* As `Chunk.next_found` and `Chunk.own` do. */
static void account_for(struct drain *drain, const rb_segment *found, uint64_t offset)
{
    rb_account *account = rb_chunk_account(drain->chunk);
    assert(found->first_slot == drain->slots && (uint64_t)found->first_slot + found->count <= account->room);
    int64_t waiting = rb_chunk_account_found(drain->chunk, found, offset);
    assert(waiting == RB_E_TRUNCATED || (waiting >= 0 && waiting <= found->count));
    for (uint32_t i = 0; i < found->count; i++)
        account->owners[found->first_slot + i] = i % (OWNERS + 1); /* the last of them is nobody */
    drain->counts[0].held[0] += found->count;
    drain->slots += found->count;
}

static void check_found(struct drain *drain)
{
    const rb_segment *found = &drain->last;
    uint64_t bytes = (uint64_t)found->count * found->slot_bytes;
    assert(found->count >= 1 && found->slot_bytes >= RB_CORE_BYTES && found->slot_bytes <= RB_MAX_SLOT_BYTES);
    assert(drain->offset >= drain->end + sizeof *found && found->lane < RB_MAX_LANES);
    drain->end = drain->offset + bytes;
    assert(drain->end + 4 * ((uint64_t)found->first_slot + found->count) <= drain->bytes);
    uint8_t *records = malloc(bytes); /* of just this size, so that a write beyond it is seen */
    assert(records != NULL);
    uint64_t places[MAX_SLOTS];
    for (uint32_t i = 0; i < found->count; i++)
        places[i] = found->first_slot + i;
    int copied = rb_chunk_copy(drain->chunk, places, found->count, found->slot_bytes, records);
    assert(copied == RB_OK || copied == RB_E_TRUNCATED);
    uint8_t *shown = malloc(bytes);
    ssize_t read = shown == NULL ? -1 : pread(file, shown, bytes, (off_t)drain->offset);
    assert(copied != RB_OK || (read == (ssize_t)bytes && memcmp(records, shown, bytes) == 0));
    free(shown);
    free(records);
    uint32_t *sources = malloc(4 * (uint64_t)found->count);
    assert(sources != NULL);
    int status = rb_chunk_sources(drain->chunk, found, drain->offset, sources);
    assert(is_known(status) && (found->moved_from != 0 || status == RB_E_ARGUMENT));
    free(sources);
}

static void take_up(struct drain *drain)
{
    rb_chunk_head head;
    rb_error error;
    memset(&error, 0x7f, sizeof error);
    int status = rb_chunk_take_up(drain->chunk, &head, &error);
    if (status < 0) {
        assert(error.status == status && memchr(error.detail, '\0', sizeof error.detail) != NULL);
        return;
    }
    assert(head.number != 0 && (status == RB_OK || status == 1));
    drain->end = RB_CHUNK_HEAD_BYTES;
    for (uint32_t steps = 0;; steps++) {
        assert(steps <= 2 * FILE_BYTES / RB_SEGMENT_HEAD_BYTES); /* it ends */
        status = rb_chunk_next(drain->chunk, &drain->last, &drain->offset);
        assert(status == 1 || is_known(status));
        if (status == RB_OK || status == RB_E_TRUNCATED)
            return;
        if (status == 1) {
            account_for(drain, &drain->last, drain->offset);
            check_found(drain);
            continue;
        }
        uint32_t missing = 0, first_slot = drain->slots;
        status = rb_chunk_skip(drain->chunk, &missing);
        assert(status == 1 || is_known(status));
        if (status < 0)
            return;
        account_for(drain, &(rb_segment){.first_slot = first_slot, .count = missing}, 0);
    }
}

static int begin_life(struct drain *drain, size_t bytes)
{
    rb_error error;
    *drain = (struct drain){.bytes = bytes};
    int status = rb_chunk_open(file, &drain->chunk, &error);
    assert((status == RB_OK) == (drain->chunk != NULL));
    if (status != RB_OK) {
        assert(status == RB_E_SPARSE || status == RB_E_FILE_SIZE);
        return 0;
    }
    drain->chunks = rb_chunks_new();
    assert(drain->chunks != NULL);
    uint32_t serial = 5;
    status = rb_chunks_set(drain->chunks, &serial, &drain->chunk, 1);
    assert(status == RB_OK);
    return 1;
}

static void end_life(struct drain *drain)
{
    rb_chunks_free(drain->chunks);
    rb_chunk_free(drain->chunk);
    *drain = (struct drain){0};
}

static uint64_t waiting_of(const struct drain *drain)
{
    const rb_account *account = rb_chunk_account(drain->chunk);
    uint64_t waiting = 0;
    for (uint32_t slot = 0; slot < drain->slots; slot++)
        waiting += account->fates[slot] == RB_HELD_WAITING;
    assert(waiting == account->waiting);
    return waiting;
}

/* ---- the script ---- */

/* A record is settled once, and one that waits no more is no record of anybody. */
static void settle(struct drain *drain, uint32_t slot, uint32_t fate)
{
    uint64_t place = (uint64_t)5 << 32 | slot, before = waiting_of(drain);
    int status = rb_chunks_settle(drain->chunks, &place, 1, fate, drain->counts, OWNERS);
    int is_fate = fate != RB_HELD_WAITING && fate < RB_HELDS;
    assert(status == (is_fate ? RB_OK : RB_E_ARGUMENT));
    assert(before - waiting_of(drain) <= (is_fate && slot < drain->slots));
}

/* Whatever became of it before, each is counted once, at its owner. */
static void settle_all(struct drain *drain)
{
    uint64_t places[MAX_SLOTS], waiting = waiting_of(drain), counted = 0;
    for (uint32_t slot = 0; slot < drain->slots; slot++) {
        places[slot] = (uint64_t)5 << 32 | slot;
        const rb_account *account = rb_chunk_account(drain->chunk);
        counted += account->fates[slot] == RB_HELD_WAITING && account->owners[slot] < OWNERS;
    }
    uint64_t before = drain->counts[0].held[RB_HELD_LOST] + drain->counts[1].held[RB_HELD_LOST];
    int status = rb_chunks_settle(drain->chunks, places, drain->slots, RB_HELD_LOST, drain->counts, OWNERS);
    uint64_t now = drain->counts[0].held[RB_HELD_LOST] + drain->counts[1].held[RB_HELD_LOST];
    assert(status == RB_OK && waiting_of(drain) == 0 && now - before == counted && counted <= waiting);
}

static void append(struct drain *drain, uint32_t count, uint32_t lines, int is_moved)
{
    static uint8_t records[64 * 4 * 64];
    uint32_t slot_bytes = 64 * (1 + lines % 4), sources[64];
    memset(sources, 3, sizeof sources);
    memset(records, (int)count, sizeof records);
    rb_segment segment = {.count = count, .slot_bytes = slot_bytes, .moved_from = is_moved ? 9 : 0};
    rb_new_segment added = {.records = records, .sources = is_moved ? sources : NULL, .owner = 1};
    uint64_t room = rb_chunk_room(drain->chunk, slot_bytes, is_moved ? 1 : 0), offset;
    int64_t slot = rb_chunk_append(drain->chunk, &segment, &added, &offset);
    assert(slot >= 0 || slot == RB_E_TRUNCATED || (slot == RB_E_ARGUMENT && (count == 0 || count > room)));
    if (slot < 0)
        return;
    assert(slot == (int64_t)drain->slots && count <= room);
    drain->slots += count;
    drain->counts[1].held[0] += count;
    uint8_t found[64 * 4];
    uint64_t place = (uint64_t)slot;
    int status = rb_chunk_copy(drain->chunk, &place, 1, slot_bytes, found);
    assert(status == RB_E_TRUNCATED || memcmp(found, records, slot_bytes) == 0);
}

/* What was appended, and what became of it, is what the next drain finds. */
static void go_on(struct drain *drain)
{
    uint32_t slots = drain->slots;
    uint64_t waiting = waiting_of(drain);
    int is_sound = drain->bytes == FILE_BYTES && !rb_chunk_account(drain->chunk)->is_lost;
    size_t bytes = drain->bytes;
    end_life(drain);
    if (!begin_life(drain, bytes))
        return;
    take_up(drain);
    assert(!is_sound || (drain->slots == slots && waiting_of(drain) == waiting));
}

static void begin(struct drain *drain, uint64_t number)
{
    int status = rb_chunk_begin(drain->chunk, number, boot_id);
    assert(is_known(status));
    if (status != RB_E_ARGUMENT)
        drain->slots = 0;
}

static void run_script(struct drain *drain, struct script script)
{
    uint64_t begun = 0;
    int is_ours = 0; /* all that is in the chunk was put there by this drain */
    while (script.left > 0 && drain->chunk != NULL) {
        uint32_t what = next_byte(&script) % 8, first = next_byte(&script);
        switch (what) {
        case 0:
            settle(drain, first, next_byte(&script) % (RB_HELDS + 2));
            break;
        case 1: {
            uint64_t place = first + 256 * (next_byte(&script) % 8);
            uint8_t record[RB_MAX_SLOT_BYTES];
            int status = rb_chunk_copy(drain->chunk, &place, 1, RB_MAX_SLOT_BYTES, record);
            assert(is_known(status) && (status != RB_OK || place < drain->slots));
            assert(status != RB_OK ||
                   64 * (uint64_t)rb_chunk_account(drain->chunk)->units[place] + sizeof record <= drain->bytes);
            break;
        }
        case 2: {
            rb_segment beyond = {.first_slot = first, .count = drain->slots + next_byte(&script)};
            if ((uint64_t)first + beyond.count > drain->slots) {
                int64_t status = rb_chunk_account_found(drain->chunk, &beyond, 0);
                assert(status == RB_E_ARGUMENT);
            }
            break;
        }
        case 3: /* with a number that it never had, as all are */
            begin(drain, ++begun * 0x9e3779b97f4a7c15);
            is_ours = 1;
            break;
        case 4:
            append(drain, first % 65, next_byte(&script), first >= 128);
            break;
        case 5:
            if (is_ours)
                go_on(drain);
            break;
        case 6: /* cut */
            resize(drain->bytes * first / 256);
            is_ours = 0;
            break;
        default: { /* a drain that asks for what is not there */
            rb_segment segment = drain->last;
            uint32_t sources[MAX_SLOTS], missing;
            segment.count %= MAX_SLOTS;
            int status = rb_chunk_sources(drain->chunk, &segment, drain->bytes - 64 * (uint64_t)first, sources);
            assert(is_known(status));
            status = rb_chunk_skip(drain->chunk, &missing);
            assert(status == 1 || is_known(status));
            if (status >= 0)
                account_for(drain, &(rb_segment){.first_slot = drain->slots, .count = missing}, 0);
            is_ours = 0; /* nothing was unsound that it could go on behind */
            break;
        }
        }
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    file = memfd_create("chunk", MFD_CLOEXEC);
    assert(file >= 0);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    int status = rb_guard_install(); /* each time: libFuzzer puts its own handler there, after the first */
    assert(status == RB_OK);
    if (bytes < 3 || bytes - 3 < data[1] + 4U * data[2])
        return 0;
    struct script script = {data + 3, data[1]};
    const uint8_t *words = data + 3 + data[1], *begin_of_file = words + 4U * data[2];
    size_t size = make_file(data[0], words, data[2], begin_of_file, bytes - (size_t)(begin_of_file - data));
    struct drain drain;
    if (begin_life(&drain, size)) {
        take_up(&drain);
        waiting_of(&drain);
        run_script(&drain, script);
    }
    if (drain.chunk != NULL) {
        settle_all(&drain);
    }
    end_life(&drain);
    return 0;
}
