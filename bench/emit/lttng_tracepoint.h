/* The provider of lttng.c: one event with 96 bytes of payload. LTTng reads this file several times, as it wants it. */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER ringbuf_bench

#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "lttng_tracepoint.h"

#if !defined(RINGBUF_BENCH_LTTNG_TRACEPOINT_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define RINGBUF_BENCH_LTTNG_TRACEPOINT_H

#include <lttng/tracepoint.h>
#include <stdint.h>

// clang-format off
LTTNG_UST_TRACEPOINT_EVENT(
    ringbuf_bench,
    span,
    LTTNG_UST_TP_ARGS(const uint8_t *, payload),
    LTTNG_UST_TP_FIELDS(lttng_ust_field_array(uint8_t, payload, payload, 96))
)
// clang-format on

#endif

#include <lttng/tracepoint-event.h>
