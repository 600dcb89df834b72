/*
 * ringbuf_site.h - places that emit spans, for native producers: C11 and C++17, with gcc or clang.
 *
 * Nothing is compiled into the library for it: the compiler makes of each macro and function here what it makes of the
 * same assignments by hand (tests/packaging/test_native_site.py compares the instructions). A span of a layout whose
 * header was written by `ringbuf layout --format=c`:
 *
 *     #include "kv_layout.h"
 *     #include <ringbuf_site.h>
 *
 *     RB_SITE(get_site, KV_NAME_GET, RB_KIND_INTERNAL, KV_PRESENT_BYTES | KV_PRESENT_HIT);
 *
 *     int rv = RB_EMIT(producer, get_site, kv_record, span, start, end, span.bytes = 512; span.hit = true);
 *
 * or, where the span has children or its attributes become known on the way:
 *
 *     kv_record span;
 *     RB_BEGIN(producer, get_site, &span, parent);        a pointer to the parent's rb_record, or NULL
 *     kv_set_bytes(&span, 512);
 *     int rv = rb_end(producer, &span.core);
 *
 * What RB_EMIT and rb_end return is what rb_emit returns.
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
    static const rb_record site = {0,                                                                                  \
                                   0,                                                                                  \
                                   {0},                                                                                \
                                   {0},                                                                                \
                                   {0},                                                                                \
                                   (present_bits),                                                                     \
                                   (span_name),                                                                        \
                                   (span_kind),                                                                        \
                                   RB_STATUS_UNSET,                                                                    \
                                   RB_SPAN_SAMPLED | RB_SPAN_HAS_IS_REMOTE,                                            \
                                   0}

/*
 * Emits a root span of a site: a `record_type` by the name `span`, whose attributes the statements behind the times
 * set. A child is made one by such a statement: rb_child_of(&span.core, parent). Times are nanoseconds since 1970.
 */
#define RB_EMIT(producer, site, record_type, span, start, end, ...)                                                    \
    __extension__({                                                                                                    \
        rb_producer *const rb_emit_to_ = (producer);                                                                   \
        record_type span;                                                                                              \
        memset(&span, 0, sizeof span);                                                                                 \
        span.core = (site);                                                                                            \
        span.core.start_unix_nano = (start);                                                                           \
        span.core.end_unix_nano = (end);                                                                               \
        rb_new_ids(rb_emit_to_, span.core.trace_id, span.core.span_id);                                                \
        __VA_ARGS__;                                                                                                   \
        rb_emit(rb_emit_to_, &span.core);                                                                              \
    })

/*
 * Begins a span of a site in *span, a record of any layout: everything zero but the site's constants, new ids, and the
 * start, which is now. `parent` is the rb_record of a span that has begun, or NULL.
 */
#define RB_BEGIN(producer, site, span, parent)                                                                         \
    (memset((span), 0, sizeof *(span)), rb_begin((producer), &(site), &(span)->core, (parent)))

/* Makes a span a child: same trace, its parent's id, and sampled exactly if the parent is. */
static inline void rb_child_of(rb_record *span, const rb_record *parent)
{
    memcpy(span->trace_id, parent->trace_id, sizeof span->trace_id);
    memcpy(span->parent_span_id, parent->span_id, sizeof span->parent_span_id);
    span->flags = (parent->flags & (RB_SPAN_SAMPLED | RB_SPAN_RANDOM)) | RB_SPAN_HAS_IS_REMOTE;
}

/* What RB_BEGIN does to the core. */
static inline void rb_begin(rb_producer *producer, const rb_record *site, rb_record *span, const rb_record *parent)
{
    *span = *site;
    rb_new_ids(producer, span->trace_id, span->span_id);
    if (parent != NULL)
        rb_child_of(span, parent);
    span->start_unix_nano = rb_clock_unix_nano();
}

/*
 * Makes a span that has begun the child of the span in another process that a W3C `traceparent` header names. Returns
 * RB_OK, or RB_E_TRACEPARENT for what is not the plain form of one: then the span stays what it is.
 */
static inline int rb_child_of_remote(rb_record *span, const char *traceparent)
{
    rb_span parent;
    int rv = rb_parent_from_traceparent(traceparent, strlen(traceparent), &parent);
    if (rv == RB_OK) {
        memcpy(span->trace_id, parent.trace_id, sizeof span->trace_id);
        memcpy(span->parent_span_id, parent.span_id, sizeof span->parent_span_id);
        span->flags = parent.child_flags;
    }
    return rv;
}

/* Writes the `traceparent` header that makes other processes' spans children of this one, with a zero behind it. */
static inline void rb_traceparent(const rb_record *span, char header[56])
{
    static const char digits[] = "0123456789abcdef";
    char *out = header;
    memcpy(out, "00-", 3);
    out += 3;
    for (size_t i = 0; i < sizeof span->trace_id; i++) {
        *out++ = digits[span->trace_id[i] >> 4];
        *out++ = digits[span->trace_id[i] & 15];
    }
    *out++ = '-';
    for (size_t i = 0; i < sizeof span->span_id; i++) {
        *out++ = digits[span->span_id[i] >> 4];
        *out++ = digits[span->span_id[i] & 15];
    }
    memcpy(out, "-00", 4);
    out[2] = digits[span->flags & (RB_SPAN_SAMPLED | RB_SPAN_RANDOM)];
}

/* Ends a span now and emits the record that it is the core of, all slot_bytes of it. */
static inline int rb_end(rb_producer *producer, rb_record *span)
{
    span->end_unix_nano = rb_clock_unix_nano();
    return rb_emit(producer, span);
}

#ifdef __cplusplus
}
#endif

#endif
