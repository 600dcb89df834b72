/*
 * hold.h - a chunk of the hold: a file of the drain's own in which spans wait for the decision on their trace.
 *
 * A chunk outlives the drain as a ring outlives both sides, and the next drain goes on with it. Its size is fixed and
 * allocated before it is used; tests/model/hold.pml has the protocol, with kills before each step.
 *
 *   file offset 0          struct rb_chunk_head
 *   RB_CHUNK_HEAD_BYTES    segments, one behind the other: each a struct rb_segment; where records were moved here, the
 *               |          slots that they had, u32 each, and zeros up to the next 64 bytes; then the records
 *               v
 *               ^          room that is not used yet
 *               |
 *   end of the file        words, one u32 for each record: of slot s the one that ends 4 * s bytes before the end
 *
 * All integers are little-endian. Slots count the records of a chunk in their order, from 0.
 *
 * Three stores, and what a kill finds before and after each:
 *
 *   head.number       voids all segments of before: a chunk is begun anew once none of their records waits.
 *   segment.number    publishes a segment: it is the chunk's number, which no other use of a chunk ever had, so that
 *                     what is left of one is no segment. Before it there is nothing, after it all of its records.
 *   a record's word   says what became of it (enum rb_held). Records are settled in any order.
 *
 * A lane of a ring is released once its segment is published. The next drain begins at the segment's `upto`. Records
 * that outlive their neighbours are moved: a segment with them is published in another chunk, then their old words say
 * RB_HELD_MOVED; whoever finds both says it again, by `moved_from` and the slots that they had.
 *
 * The blocks marked [ABI] and [COLD] are also read by cffi (csrc/ffi_build.py).
 */
#ifndef RINGBUF_HOLD_H
#define RINGBUF_HOLD_H

#include "ringbuf.h"

/* [ABI] */
#define RB_CHUNK_VERSION 1
#define RB_CHUNK_HEAD_BYTES 128
#define RB_SEGMENT_HEAD_BYTES 128
#define RB_MIN_CHUNK_BYTES 65536
#define RB_MAX_CHUNK_BYTES 67108864

typedef struct rb_chunk_head {
    uint8_t magic[8]; /* "rb-hold" and a zero byte */
    uint32_t version;
    uint32_t file_bytes;
    uint64_t number; /* of this use of the chunk: random, not zero */
    uint8_t boot_id[16];
    uint8_t pad[88];
} rb_chunk_head;

/* One look at a lane, or records that were moved. Numbers are checked as those of a ring are, and by crc32. */
typedef struct rb_segment {
    uint64_t number;        /* the chunk's, when it is published */
    uint32_t crc32;         /* of the head from `bytes` on */
    uint32_t sources_crc32; /* of the slots that its records had; 0 where none was moved */
    uint32_t bytes;         /* all of it: a multiple of 64 */
    uint32_t count;         /* of its records, at least 1 */
    uint32_t slot_bytes;
    uint32_t first_slot;
    uint64_t ring_inode; /* whose records these are, where they came out of a ring */
    uint64_t ring_created_unix_nano;
    uint64_t start; /* positions of the look: start <= those of its records < upto */
    uint64_t upto;
    uint32_t lane;
    uint32_t invalid; /* decided at once, and not held: start + count + invalid + sampled_out == upto */
    uint32_t sampled_out;
    uint32_t is_of_ring;   /* 1: of a look; 0: records that were moved, here or before */
    uint64_t moved_from;   /* number of the chunk that its records were in; 0: none */
    uint64_t arrived_nano; /* CLOCK_MONOTONIC of the drain at the look, or at the oldest look of what was moved */
    uint8_t origin[16];    /* which layout and resource: hash of the document */
    uint8_t pad[16];
} rb_segment;

enum rb_held {
    RB_HELD_WAITING = 0, /* so do records with a word that is none of these */
    RB_HELD_DELIVERED = 1,
    RB_HELD_SPOOLED = 2,
    RB_HELD_REJECTED = 3,
    RB_HELD_DEAD_LETTERED = 4,
    RB_HELD_SAMPLED_OUT = 5,
    RB_HELD_INVALID = 6,
    RB_HELD_MOVED = 7,
    RB_HELD_LOST = 8, /* its origin or its bytes are gone */
    RB_HELDS = 9
};

/* What is appended to a chunk. */
typedef struct rb_new_segment {
    const void *records;
    const uint32_t *which;   /* numbers of those that it shall have, NULL: all, from the first on */
    const uint32_t *sources; /* the slots that they had, NULL where moved_from is zero */
    uint32_t owner;          /* whose they are, see rb_chunks_settle */
    uint32_t pad;
} rb_new_segment;

/* The drain's own account of a chunk, of which the file has a copy. It is not where a file can be cut. */
typedef struct rb_account {
    uint8_t *fates;   /* of each slot, enum rb_held */
    uint32_t *owners; /* of each slot */
    uint32_t *units;  /* of each slot: where its record begins, in units of 64 bytes */
    uint64_t room;    /* slots */
    uint64_t waiting; /* records that wait */
    uint32_t is_lost; /* the file was cut; also set by the SIGBUS guard */
    uint32_t pad;
} rb_account;

/* Records of an owner, by what became of them. */
typedef struct rb_held_counts {
    uint64_t held[9]; /* RB_HELDS */
} rb_held_counts;

typedef struct rb_chunk rb_chunk;
typedef struct rb_chunks rb_chunks;
/* [/ABI] */

/*
 * One thread at a time may use a chunk. A file that was cut gives RB_E_TRUNCATED, not a signal, once rb_guard_install
 * was called; then the chunk is done for. A segment that a call returns is a private copy, and was checked.
 */
/* [COLD] */
/*
 * rb_chunk_open - map a chunk's file, which is allocated whole, for reading and writing. `fd` may be closed afterwards.
 *
 * Returns: RB_OK, and the chunk in *chunk; RB_E_NOT_A_RING for no regular file, RB_E_FILE_SIZE, RB_E_SPARSE,
 * RB_E_SYSTEM.
 */
int rb_chunk_open(int fd, rb_chunk **chunk, rb_error *error);
/* rb_chunk_account - the account of it, which lives as long as the chunk. */
rb_account *rb_chunk_account(rb_chunk *chunk);
/* rb_chunk_free - unmap it without a word in it; NULL is ignored. */
void rb_chunk_free(rb_chunk *chunk);

/*
 * rb_chunk_take_home - go on in another file with all that is in this one, which has lost its name.
 *
 * `fd` is of a file of the same size, allocated whole; it may be closed afterwards. Returns: RB_OK; RB_E_FILE_SIZE,
 * RB_E_SYSTEM, RB_E_TRUNCATED: the chunk is what it was.
 */
int rb_chunk_take_home(rb_chunk *chunk, int fd, rb_error *error);

/*
 * rb_chunk_begin - void what was in a chunk, and let segments be appended. Of its records none may wait.
 *
 * `number` is random, not zero, and was never a chunk's before. Returns: RB_OK, RB_E_ARGUMENT, RB_E_TRUNCATED.
 */
int rb_chunk_begin(rb_chunk *chunk, uint64_t number, const uint8_t boot_id[16]);

/*
 * rb_chunk_take_up - read the head of a chunk that an earlier drain has begun. Nothing can be appended to it.
 *
 * Returns: RB_OK and *head; 1 where the head is damaged, and its first segment, which is sound, has said the number: the
 * rest of *head is not to be believed. RB_E_NOT_A_RING (another magic), RB_E_ABI_NEWER, RB_E_ABI_UNKNOWN,
 * RB_E_FILE_SIZE, RB_E_TRUNCATED.
 */
int rb_chunk_take_up(rb_chunk *chunk, rb_chunk_head *head, rb_error *error);

/*
 * rb_chunk_next - the next segment of a chunk that was taken up. Its records have the slots first_slot and on, and
 * begin `*records_offset` bytes into the file.
 *
 * Returns: 1; 0 when there is none; RB_E_CRC or RB_E_GEOMETRY for one that is published and not sound: go on with
 * rb_chunk_skip. RB_E_TRUNCATED.
 */
int rb_chunk_next(rb_chunk *chunk, rb_segment *segment, uint64_t *records_offset);

/*
 * rb_chunk_skip - go on behind a segment that rb_chunk_next has found unsound, at the next that is sound.
 *
 * *missing: how many slots lie between, whose records nobody can read; of the last segment of a chunk what it says of
 * itself, 0 where that cannot be. Returns: 1; 0 when there is no other; RB_E_ARGUMENT, RB_E_TRUNCATED.
 */
int rb_chunk_skip(rb_chunk *chunk, uint32_t *missing);

/*
 * rb_chunk_account_found - account for a segment that was found: what its words say, and where its records lie. A word
 * that no drain has stored is none, and its record waits.
 *
 * Of `segment` only first_slot, count and slot_bytes are looked at. Returns: how many of its records wait; RB_E_ARGUMENT
 * for slots that the chunk has not, RB_E_TRUNCATED.
 */
int64_t rb_chunk_account_found(rb_chunk *chunk, const rb_segment *segment, uint64_t records_offset);

/*
 * rb_chunk_sources - copy the slots that the records of a moved segment had, `count` of them; `records_offset` is what
 * rb_chunk_next said. Returns: RB_OK, RB_E_ARGUMENT, RB_E_CRC, RB_E_TRUNCATED.
 */
int rb_chunk_sources(rb_chunk *chunk, const rb_segment *segment, uint64_t records_offset, uint32_t *sources);

/*
 * rb_chunk_append - publish a segment.
 *
 * Of `segment` the caller fills what its records are; number, checksums, bytes and first_slot are filled here.
 * *records_offset: as above.
 *
 * Returns: the first slot; RB_E_ARGUMENT when there is no room (rb_chunk_room) or the chunk was not begun here,
 * RB_E_TRUNCATED.
 */
int64_t rb_chunk_append(rb_chunk *chunk, rb_segment *segment, const rb_new_segment *added, uint64_t *records_offset);

/*
 * rb_chunk_is_whole - whether the file has not been cut: its last byte is read, which a cut by a page or more takes away.
 * (By less it does not; that is seen in the size of the file.) Returns: 1; 0, and the chunk is done for.
 */
int rb_chunk_is_whole(rb_chunk *chunk);
/* rb_chunk_room - how many records of a size one more segment may have. */
uint64_t rb_chunk_room(const rb_chunk *chunk, uint32_t slot_bytes, uint32_t is_moved);

/*
 * rb_chunk_settle - store `fate` into the words of those of `count` slots whose records wait: the low 32 bits of each of
 * `places`.
 *
 * Returns: RB_OK; RB_E_ARGUMENT for a slot that the chunk has not: nothing is stored then. RB_E_TRUNCATED.
 */
int rb_chunk_settle(rb_chunk *chunk, const uint64_t *places, uint64_t count, uint32_t fate);

/* rb_chunks_new - no chunks yet; NULL without memory. */
rb_chunks *rb_chunks_new(void);
/* rb_chunks_free - forget them; they are the caller's. NULL is ignored. */
void rb_chunks_free(rb_chunks *chunks);
/* rb_chunks_set - from now on it has these, each under a serial of its own. Returns: RB_OK; RB_E_SYSTEM. */
int rb_chunks_set(rb_chunks *chunks, const uint32_t *serials, rb_chunk *const *all, uint32_t count);
/*
 * rb_chunks_settle - rb_chunk_settle over all chunks: a place has the serial in its upper half. One that no chunk has is
 * passed over; where a file was cut its account alone goes on.
 *
 * Each record that is settled is counted at its owner, who is below `owners`: one less waits. Returns: RB_OK,
 * RB_E_ARGUMENT.
 */
int rb_chunks_settle(const rb_chunks *chunks, const uint64_t *places, uint64_t count, uint32_t fate,
                     rb_held_counts *counts, uint32_t owners);

/*
 * rb_chunk_copy - copy `count` records of slot_bytes bytes, which have these slots: the low 32 bits of each of `places`.
 *
 * Returns: RB_OK; RB_E_ARGUMENT for a slot that the chunk has not; RB_E_TRUNCATED.
 */
int rb_chunk_copy(rb_chunk *chunk, const uint64_t *places, uint64_t count, uint32_t slot_bytes, void *records);
/* rb_chunks_owners - owners[i] becomes that of a record which waits; UINT32_MAX where none does. */
void rb_chunks_owners(const rb_chunks *chunks, const uint64_t *places, uint64_t count, uint32_t *owners);
/*
 * rb_chunks_copy - rb_chunk_copy over all chunks. are_lost[i] becomes 1 where the file was cut, else 0.
 *
 * Returns: how many are lost; RB_E_ARGUMENT for a place that no chunk has.
 */
int64_t rb_chunks_copy(const rb_chunks *chunks, const uint64_t *places, uint64_t count, uint32_t slot_bytes,
                       void *records, uint8_t *are_lost);
/* [/COLD] */

#endif
