/*
 * json_values.h - base64 and doubles, as protobuf's JSON has them. Private.
 */
#ifndef RINGBUF_OTLP_JSON_VALUES_H
#define RINGBUF_OTLP_JSON_VALUES_H

#include "otlp/output.h"

uint8_t *rb_json_base64_put(uint8_t *out, uint8_t *end, const uint8_t *data, size_t bytes);
/* The least digits that a reader turns into the same double: a write of at most RB_MAX_DOUBLE_BYTES. */
#define RB_MAX_DOUBLE_BYTES 32
uint8_t *rb_json_double_put(uint8_t *out, const uint8_t *data);

#endif
