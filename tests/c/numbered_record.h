/* A record whose every word tells which one it is, so that a torn one is seen. Its includer defines SLOT_BYTES. */
#ifndef NUMBERED_RECORD_H
#define NUMBERED_RECORD_H

#include <string.h>

#include "ringbuf.h"

typedef struct {
    rb_record core;
    uint64_t source; /* who emitted it */
    uint64_t number;
    uint64_t check[(SLOT_BYTES - RB_CORE_BYTES) / 8 - 2];
} record;

static inline record make_record(uint64_t source, uint64_t number)
{
    record made;
    memset(&made, 0, sizeof made);
    made.core.flags = RB_SPAN_SAMPLED;
    made.core.start_unix_nano = number;
    memcpy(made.core.trace_id, &number, 8);
    memcpy(made.core.trace_id + 8, &source, 8);
    made.core.trace_id[15] = 1; /* neither id is zero */
    memcpy(made.core.span_id, &number, 8);
    made.core.span_id[7] = (uint8_t)(source + 1);
    made.source = source;
    made.number = number;
    for (unsigned i = 0; i < sizeof made.check / sizeof *made.check; i++)
        made.check[i] = (number + 1) * (source + 2 * i + 3);
    return made;
}

static inline int is_record(const record *got, uint64_t source, uint64_t number)
{
    record expected = make_record(source, number);
    return memcmp(&expected, got, sizeof expected) == 0;
}

#endif
