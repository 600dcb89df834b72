/*
 * trace_state.h - the `ot` entry of a W3C tracestate gets another threshold. Private.
 */
#ifndef RINGBUF_OTLP_TRACE_STATE_H
#define RINGBUF_OTLP_TRACE_STATE_H

#include "ringbuf.h"

#define RB_MAX_THRESHOLD_BYTES 14
#define RB_THRESHOLD_GROWTH (sizeof "ot=th:," - 1 + RB_MAX_THRESHOLD_BYTES) /* the most that a text grows by */

/* The digits of a threshold behind `th:`; those at the end that are zero are left out. Returns how many. */
size_t rb_threshold_text(uint64_t threshold, char digits[RB_MAX_THRESHOLD_BYTES + 1]);

/*
 * Write the tracestate with another `th`, or with none where `digits` has no byte; all else stays, the `ot` entry first.
 * What is malformed stays as it is, and so does an entry that would be longer than 256 bytes; of more than 32 members
 * the last go. drain/sampling/trace_state.py is the same, readably.
 *
 * `out` has room for `bytes` + RB_THRESHOLD_GROWTH. Returns the bytes written.
 */
size_t rb_trace_state_with(uint8_t *out, const uint8_t *text, size_t bytes, const char *digits, size_t digit_count);

#endif
