/* One record into rooms that are too short for it, as if the plan's bound were wrong: no writer relies on it. */
#ifndef SHORT_ROOM_H
#define SHORT_ROOM_H

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "otlp/pieces.h"

typedef int64_t encode_function(const rb_plan *, const void *, uint64_t, void *, uint64_t, uint64_t *, uint64_t *);

/* A span of protobuf is written behind a length of two bytes, and then moved: so much sooner it may be refused. */
#define MOVED_BYTES 8

/* So many for each record, where exactly is another matter for each number of bytes. */
#define ROOMS 8

/* `whole` is what becomes of the record. Either that comes out, or the record is refused: nothing in between. */
static void check_short_rooms(encode_function *encode, const rb_plan *plan, const uint8_t *record, const uint8_t *whole,
                              size_t bytes)
{
    rb_plan shorter = *plan;
    size_t step = 1 + bytes / ROOMS;
    for (size_t room = bytes * 2654435761 % step; room <= bytes + MOVED_BYTES; room += step) {
        uint64_t spans, invalid;
        shorter.protobuf_bound = shorter.json_bound = room + RB_END_SLACK;
        uint8_t *out = malloc(room + RB_END_SLACK); /* of just this size, so that a write beyond it is seen */
        assert(out != NULL);
        int64_t written = encode(&shorter, record, 1, out, room + RB_END_SLACK, &spans, &invalid);
        assert(written >= 0 && spans + invalid == 1 && (written > 0) == (spans == 1));
        if (written > 0)
            assert((size_t)written == bytes && bytes <= room && memcmp(out, whole, bytes) == 0);
        else
            assert(bytes == 0 || room < bytes + MOVED_BYTES);
        free(out);
    }
}

#endif
