/*
 * ringbuf_site.h - places that emit spans, for native producers: C11 and C++17, with gcc or clang.
 *
 * Shorthand for the functions of ringbuf.h by which all spans begin and end, and for the assignments between them; it
 * costs what these cost by hand (tests/packaging/test_native_site.py compares the instructions). A span of a layout
 * whose header was written by `ringbuf layout --format=c`:
 *
 *     #include "kv_layout.h"
 *     #include <ringbuf_site.h>
 *
 *     RB_SITE(get_site, KV_NAME_GET, RB_KIND_INTERNAL, KV_PRESENT_BYTES | KV_PRESENT_HIT);
 *
 *     int rv = RB_EMIT(producer, get_site, NULL, kv_record, span, start, end, span.bytes = 512; span.hit = true);
 *
 * or, where the span has children or its attributes become known on the way:
 *
 *     kv_record record;
 *     rb_span span;
 *     RB_BEGIN(producer, get_site, &record, &span, parent);
 *     kv_set_bytes(&record, 512);
 *     int rv = rb_end(producer, &span, &record.core);
 *
 * `parent` is the rb_span of a span that has begun, here or in another process (rb_parent_from_traceparent), or NULL for
 * a root, of which the sampler decides. What RB_EMIT and rb_end return is what rb_emit returns.
 */
#ifndef RINGBUF_SITE_H
#define RINGBUF_SITE_H

#include <ringbuf.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Defines `site`, the constant part of a place's spans, with static storage: span name (its index), kind, and the bits
 * of the attributes that all of them set. At file or block scope.
 */
#define RB_SITE(site, span_name, span_kind, present_bits)                                                              \
    static const rb_record site = {0, 0, {0}, {0}, {0}, (present_bits), (span_name), (span_kind), RB_STATUS_UNSET, 0, 0}

/*
 * Emits a span of a site whose times are known, nanoseconds since 1970: a `record_type` by the name `record`, whose
 * attributes the statements behind the times set. The other arguments are evaluated once, in no order that is promised,
 * and do not see `record`. The ids of a root stay in it: who is to give them to others, to children or to a log, writes
 * it by RB_BEGIN, as RB_EMIT marks it RB_PRESENT_ALONE.
 */
#define RB_EMIT(producer, site, parent, record_type, record, start, end, ...)                                          \
    RB_EMIT_AS_(RB_JOIN_(rb_begun_, __COUNTER__), producer, site, parent, record_type, record, start, end, __VA_ARGS__)

/* Not for use: `begun` is a name that nobody else has, also where one RB_EMIT stands among the statements of another. */
#define RB_JOIN_(name, number) RB_JOIN_AGAIN_(name, number)
#define RB_JOIN_AGAIN_(name, number) name##number
#define RB_EMIT_AS_(begun, producer, site, parent, record_type, record, start, end, ...)                               \
    __extension__({                                                                                                    \
        const rb_begun_ begun = rb_begun_of_((producer), &(site), (parent), (start), (end));                           \
        record_type record;                                                                                            \
        memset(&record, 0, sizeof record);                                                                             \
        record.core = begun.core;                                                                                      \
        __VA_ARGS__;                                                                                                   \
        rb_emit(begun.rb_to_, &record.core);                                                                           \
    })

typedef struct rb_begun_ {
    rb_producer *rb_to_;
    rb_record core;
} rb_begun_;

static inline rb_begun_ rb_begun_of_(rb_producer *producer, const rb_record *site, const rb_span *parent,
                                     uint64_t start_unix_nano, uint64_t end_unix_nano)
{
    rb_span span;
    rb_begun_ begun;
    begun.rb_to_ = producer;
    begun.core = *site;
    begun.core.start_unix_nano = start_unix_nano;
    begun.core.end_unix_nano = end_unix_nano;
    rb_span_begin(producer, parent, &span);
    rb_span_identify(&span, &begun.core);
    if (parent == NULL)
        begun.core.present |= rb_present_alone(producer);
    return begun;
}

/*
 * Begins a span of a site, which starts now: *record, of any layout, is zero but for the site's constants, and *span has
 * what its children need. Each argument is evaluated once. Returns what rb_span_begin does.
 */
#define RB_BEGIN(producer, site, record, span, parent)                                                                 \
    rb_begin((producer), &(site), (record), sizeof *(record), (span), (parent))

/* What RB_BEGIN does: `record` has record_bytes bytes, of which the first are an rb_record. */
static inline int rb_begin(rb_producer *producer, const rb_record *site, void *record, size_t record_bytes,
                           rb_span *span, const rb_span *parent)
{
    memset(record, 0, record_bytes);
    memcpy(record, site, sizeof *site);
    int rv = rb_span_begin(producer, parent, span);
    rb_span_start(span);
    return rv;
}

/* Ends a span now and emits the record that it is the core of, all slot_bytes of it. */
static inline int rb_end(rb_producer *producer, const rb_span *span, rb_record *core)
{
    rb_span_end(span, rb_clock_monotonic_nano(), core);
    return rb_emit(producer, core);
}

#ifdef __cplusplus
}
#endif

#endif
