/*
 * text.h - text as UTF-8 and as the inside of a JSON string; hex digits. Private.
 */
#ifndef RINGBUF_OTLP_TEXT_H
#define RINGBUF_OTLP_TEXT_H

#include "otlp/output.h"

/* How many bytes `text` takes as UTF-8, each ill-formed part replaced by U+FFFD; *valid: whether none is. */
size_t rb_utf8_bytes(const uint8_t *text, size_t bytes, int *valid);
uint8_t *rb_utf8_put(uint8_t *out, uint8_t *end, const uint8_t *text, size_t bytes);
/* The same with JSON's escapes, without quotes: at most 6 * bytes. */
uint8_t *rb_json_text_put(uint8_t *out, uint8_t *end, const uint8_t *text, size_t bytes);
void rb_put_hex16(uint8_t *restrict out, const uint8_t *restrict data);
uint8_t *rb_put_hex_rest(uint8_t *out, uint8_t *end, const uint8_t *data, size_t bytes);

/* Writes up to 30 bytes more than count. 16 bytes are of constant size; any other number asks. */
static inline uint8_t *rb_put_hex(uint8_t *out, uint8_t *end, const uint8_t *data, size_t bytes)
{
    if (__builtin_expect(bytes != 16, 0))
        return rb_put_hex_rest(out, end, data, bytes);
    rb_put_hex16(out, data);
    return out + 32;
}

#endif
