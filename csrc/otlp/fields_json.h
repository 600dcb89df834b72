/*
 * fields_json.h - OTLP that a producer wrote itself, as JSON. Private.
 */
#ifndef RINGBUF_OTLP_FIELDS_JSON_H
#define RINGBUF_OTLP_FIELDS_JSON_H

#include "otlp/fields.h"

/*
 * The list of a message that is written also when it has no elements, 0 for none: receivers refuse a whole request for
 * an array without `values`, or a span without `events`. Span.attributes, the other such list, are the span's writer's.
 */
extern const uint8_t rb_json_written_list[RB_OTLP_MESSAGES];

/*
 * Sound fields, up to `last`, as JSON. Members: each with a comma before it. Attributes: the elements of
 * Span.attributes, each with a comma before it, from *at on, which is moved behind them.
 */
uint8_t *rb_json_members_put(uint8_t *out, uint8_t *end, uint32_t message, const uint8_t *at, const uint8_t *last);
uint8_t *rb_json_attributes_put(uint8_t *out, uint8_t *end, const uint8_t **at, const uint8_t *last);

#endif
