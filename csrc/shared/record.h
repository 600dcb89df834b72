/*
 * Which cores can be a span's: the one rule, for those who write records and those who read them. It is asked of words,
 * since it comes with each record and the answer is nearly always yes. Records may lie at any address.
 */
#ifndef RINGBUF_RECORD_H
#define RINGBUF_RECORD_H

#include <stddef.h>
#include <string.h>

#include "ringbuf.h"

static inline uint64_t rb_word_at(const uint8_t *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

static inline int rb_has_ids(const uint8_t *record)
{
    uint64_t trace_id =
        rb_word_at(record + offsetof(rb_record, trace_id)) | rb_word_at(record + offsetof(rb_record, trace_id) + 8);
    return (trace_id != 0) & (rb_word_at(record + offsetof(rb_record, span_id)) != 0);
}

static inline int rb_is_core_sound(const uint8_t *record, uint32_t span_name_count)
{
    uint64_t name = rb_word_at(record + offsetof(rb_record, present)) >> 32; /* and kind, status */
    uint64_t reserved = rb_word_at(record + offsetof(rb_record, flags)) >> 32;
    return rb_has_ids(record) & (reserved == 0) & ((name & 0xFFFF) < span_name_count) &
           ((name >> 16 & 0xFF) <= RB_KIND_CONSUMER) & (name >> 24 <= RB_STATUS_ERROR);
}

#endif
