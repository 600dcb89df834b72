/*
 * exemplars.c - one span of each place.
 */
#include "accounting/exemplars.h"

#include <string.h>

int64_t rb_pick_exemplars(const void *records, uint64_t count, uint32_t slot_bytes, uint32_t flags,
                          const int64_t *places, const double *nanos, uint64_t place_count, uint8_t *is_taken,
                          rb_exemplar *exemplars)
{
    if (slot_bytes < RB_CORE_BYTES || slot_bytes > RB_MAX_SLOT_BYTES || (place_count && is_taken == NULL) ||
        (count && (records == NULL || places == NULL || nanos == NULL || exemplars == NULL)))
        return RB_E_ARGUMENT;
    int64_t picked = 0;
    /* From the last to the first: which one is taken is known at once, and most are not looked at further. */
    for (uint64_t i = count; i-- > 0;) {
        uint64_t place = (uint64_t)places[i];
        if (place >= place_count || is_taken[place])
            continue;
        rb_record record; /* a caller's buffer may lie at any address */
        memcpy(&record, (const uint8_t *)records + i * slot_bytes, sizeof record);
        if ((record.flags & flags) != flags)
            continue;
        is_taken[place] = 1;
        rb_exemplar *to = &exemplars[picked++];
        *to = (rb_exemplar){.place = places[i], .end_unix_nano = record.end_unix_nano, .nanos = nanos[i]};
        memcpy(to->trace_id, record.trace_id, sizeof to->trace_id);
        memcpy(to->span_id, record.span_id, sizeof to->span_id);
    }
    return picked;
}

int rb_hold_exemplars(const rb_exemplar *exemplars, uint64_t count, uint64_t now_unix_nano, int64_t seen_nano,
                      int64_t forget_nano, rb_exemplar *held, uint64_t place_count)
{
    if (count && (exemplars == NULL || held == NULL))
        return RB_E_ARGUMENT;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t place = (uint64_t)exemplars[i].place;
        if (place >= place_count)
            continue;
        /* A clock that is ahead, or a forged end: until then no other would take its place. */
        uint64_t end = exemplars[i].end_unix_nano < now_unix_nano ? exemplars[i].end_unix_nano : now_unix_nano;
        if (held[place].end_unix_nano > end && held[place].seen_nano >= forget_nano)
            continue;
        held[place] = exemplars[i];
        held[place].end_unix_nano = end;
        held[place].seen_nano = seen_nano;
    }
    return RB_OK;
}
