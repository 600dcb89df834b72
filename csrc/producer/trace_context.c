/*
 * How a span begins and ends, for all doors: ids, the sampler's word for a root and the parent's for a child, a start on
 * the calendar and a duration by a clock that nobody sets. And its W3C traceparent, to and fro.
 */
#include <string.h>

#include "producer/producer_state.h"
#include "shared/atomics.h"
#include "shared/clock.h"
#include "shared/hex.h"

/* Relaxed, as in is_wanted(): a new ring's sampler may come meanwhile. */
static int is_root_sampled(const rb_producer *producer, const uint8_t *trace_id)
{
    if (rb_load32_relaxed(&producer->root_always))
        return 1;
    uint64_t low, threshold = rb_load_relaxed(&producer->root_threshold);
    memcpy(&low, trace_id + 8, 8);
    low = __builtin_bswap64(low);
    if (threshold != 0)
        return (low & (RB_THRESHOLDS - 1)) >= threshold - 1;
    return low < rb_load_relaxed(&producer->root_bound);
}

/*
 * What a child hands on: its own flags, and what its root has said of the threshold it was decided by. Where that is
 * this ring's, too, its record may say so; without a ring nobody knows where it will go.
 */
static uint32_t handed_on(const rb_producer *producer, uint32_t inherited, int has_ring)
{
    uint32_t handed = inherited & ~((uint32_t)RB_SPAN_IS_REMOTE | (uint32_t)RB_PRESENT_ROOT_THRESHOLD);
    uint32_t differs = handed ^ rb_load32_relaxed(&producer->sampler_mark);
    if (has_ring && (differs & ~(uint32_t)RB_SPAN_FLAGS) == 0)
        handed |= rb_load32_relaxed(&producer->present_root);
    return handed;
}

int rb_span_begin(rb_producer *producer, const rb_span *parent, rb_span *span)
{
    /* Without a ring, as in a forked child, no sampler is known: a root is sampled. */
    int rv = rb_state_of(producer) == RB_STATE_NONE ? RB_NO_RING : RB_OK;
    if (parent != NULL) {
        memcpy(span->trace_id, parent->trace_id, 16);
        memcpy(span->parent_span_id, parent->span_id, 8);
        span->flags = parent->child_flags & (uint32_t)RB_SPAN_FLAGS;
        span->child_flags = handed_on(producer, parent->child_flags, rv == RB_OK);
        rb_make_ids(producer, NULL, span->span_id);
    } else {
        memset(span->parent_span_id, 0, 8);
        rb_make_ids(producer, span->trace_id, span->span_id);
        if (rv == RB_NO_RING) /* not RANDOM: of such a root no sampler's threshold is true */
            span->child_flags = span->flags = RB_SPAN_HAS_IS_REMOTE | RB_SPAN_SAMPLED;
        else {
            span->flags = RB_SPAN_HAS_IS_REMOTE | RB_SPAN_RANDOM |
                          (is_root_sampled(producer, span->trace_id) ? RB_SPAN_SAMPLED : 0u);
            span->child_flags = span->flags | rb_load32_relaxed(&producer->sampler_mark);
        }
    }
    return rv;
}

uint32_t rb_present_alone(const rb_producer *producer)
{
    return rb_state_of(producer) == RB_STATE_NONE ? 0 : rb_load32_relaxed(&producer->present_alone);
}

void rb_span_start(rb_span *span) { span->start_unix_nano = rb_clock_both(&span->start_monotonic_nano); }

void rb_span_identify(const rb_span *span, rb_record *record)
{
    memcpy(record->trace_id, span->trace_id, 16);
    memcpy(record->span_id, span->span_id, 8);
    memcpy(record->parent_span_id, span->parent_span_id, 8);
    record->flags = span->flags;
    record->present |= span->child_flags & (uint32_t)RB_PRESENT_ROOT_THRESHOLD;
}

void rb_span_end(const rb_span *span, uint64_t monotonic_nano, rb_record *record)
{
    rb_span_identify(span, record);
    record->start_unix_nano = span->start_unix_nano;
    record->end_unix_nano = span->start_unix_nano + (monotonic_nano - span->start_monotonic_nano);
}

/* ---- W3C trace context ---- */

/* The value of a lower-case hex digit plus one; zero for any other character. */
static const uint8_t hex_value[256] = {
    ['0'] = 1, ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,  ['6'] = 7,  ['7'] = 8,
    ['8'] = 9, ['9'] = 10, ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
};

/* Reads 2 * count digits; returns 0 when one of them is none. */
static int read_hex(const char *text, uint8_t *bytes, unsigned count)
{
    unsigned bad = 0;
    for (unsigned i = 0; i < count; i++) {
        unsigned high = hex_value[(uint8_t)text[2 * i]] - 1u;
        unsigned low = hex_value[(uint8_t)text[2 * i + 1]] - 1u;
        bad |= high | low; /* an unset entry gives UINT_MAX */
        bytes[i] = (uint8_t)(high << 4 | low);
    }
    return bad <= 15;
}

int rb_parent_from_traceparent(const char *text, size_t bytes, rb_span *parent)
{
    uint8_t flags;
    if (bytes != 55 || text[0] != '0' || text[1] != '0' || text[2] != '-' || text[35] != '-' || text[52] != '-' ||
        !read_hex(text + 3, parent->trace_id, 16) || !read_hex(text + 36, parent->span_id, 8) ||
        !read_hex(text + 53, &flags, 1) || rb_is_zero(parent->trace_id, 16) || rb_is_zero(parent->span_id, 8))
        return RB_E_TRACEPARENT;
    parent->child_flags = (flags & (RB_SPAN_SAMPLED | RB_SPAN_RANDOM)) | RB_SPAN_HAS_IS_REMOTE | RB_SPAN_IS_REMOTE;
    return RB_OK;
}

static char *write_hex(char *text, const uint8_t *bytes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        *text++ = rb_hex_digit(bytes[i] >> 4);
        *text++ = rb_hex_digit(bytes[i]);
    }
    return text;
}

void rb_traceparent(const rb_span *span, char header[56])
{
    uint8_t flags = (uint8_t)(span->child_flags & (RB_SPAN_SAMPLED | RB_SPAN_RANDOM));
    memcpy(header, "00-", 3);
    char *at = write_hex(header + 3, span->trace_id, 16);
    *at++ = '-';
    at = write_hex(at, span->span_id, 8);
    *at++ = '-';
    at = write_hex(at, &flags, 1);
    *at = 0;
}
