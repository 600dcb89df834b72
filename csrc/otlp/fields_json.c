/*
 * fields_json.c - sound OTLP fields as JSON: what fields.c let through is not checked again.
 *
 * Source: OTLP specification, "JSON Protobuf Encoding". Defaults are left out, but not the chosen one of a oneof.
 */
#include "otlp/fields_json.h"
#include "otlp/json_values.h"
#include "otlp/text.h"
#include "otlp/wire.h"

const uint8_t rb_json_written_list[RB_OTLP_MESSAGES] = {[RB_OTLP_SPAN] = 11,
                                                        [RB_OTLP_ARRAY_VALUE] = 1,
                                                        [RB_OTLP_KEY_VALUE_LIST] = 1,
                                                        [RB_OTLP_EVENT] = 3,
                                                        [RB_OTLP_LINK] = 4};

static uint8_t *put_message(uint8_t *out, uint8_t *end, uint32_t message, const uint8_t *at, const uint8_t *last)
{
    uint8_t *start = out;
    out = rb_json_members_put(out, end, message, at, last);
    if (out > end)
        return out;
    if (out == start)
        *out++ = '{';
    *start = '{'; /* in the place of the first member's comma */
    *out++ = '}';
    return out;
}

static uint8_t *put_signed(uint8_t *out, uint64_t value)
{
    *out++ = '"';
    if (value > INT64_MAX) {
        *out++ = '-';
        value = 0 - value;
    }
    out = rb_put_decimal(out, value);
    *out++ = '"';
    return out;
}

static uint8_t *put_text(uint8_t *out, uint8_t *end, const rb_otlp_field *field, const uint8_t *data, size_t bytes)
{
    *out++ = '"';
    if (field->kind == RB_OTLP_TEXT)
        out = rb_json_text_put(out, end, data, bytes);
    else if (field->kind == RB_OTLP_BYTES)
        out = rb_json_base64_put(out, end, data, bytes);
    else
        out = rb_put_hex_rest(out, end, data, bytes);
    *out++ = '"';
    return out;
}

/* Read the value behind a tag: its bits, or its data and length. Returns what follows. */
static const uint8_t *read_value(const uint8_t *at, const uint8_t *last, uint64_t *bits, const uint8_t **data)
{
    *bits = 0;
    *data = at + 1;
    switch (*at & 7) {
    case 0:
        return rb_read_varint(at + 1, last, bits);
    case 1:
        memcpy(bits, at + 1, 8);
        return at + 9;
    case 5:
        memcpy(bits, at + 1, 4);
        return at + 5;
    default:
        *data = rb_read_varint(at + 1, last, bits);
        return *data + *bits;
    }
}

static uint8_t *put_value(uint8_t *out, uint8_t *end, const rb_otlp_field *field, uint64_t bits, const uint8_t *data)
{
    switch (field->kind) {
    case RB_OTLP_NESTED:
        return put_message(out, end, field->message, data, data + bits);
    case RB_OTLP_BOOL:
        return bits ? rb_put(out, "true", 4) : rb_put(out, "false", 5);
    case RB_OTLP_INT64:
        return put_signed(out, bits);
    case RB_OTLP_DOUBLE:
        return rb_json_double_put(out, data);
    case RB_OTLP_FIXED64:
        *out++ = '"';
        out = rb_put_decimal(out, bits);
        *out++ = '"';
        return out;
    case RB_OTLP_UINT32:
    case RB_OTLP_FIXED32:
        return rb_put_decimal(out, bits);
    default:
        return put_text(out, end, field, data, (size_t)bits);
    }
}

/* The elements of the repeated field at *at, each with a comma before it. */
static uint8_t *put_elements(uint8_t *out, uint8_t *end, uint32_t message, const uint8_t **at, const uint8_t *last)
{
    uint8_t tag = **at;
    while (*at < last && **at == tag && out <= end) {
        uint64_t bits;
        const uint8_t *data;
        *at = read_value(*at, last, &bits, &data);
        *out++ = ',';
        out = put_value(out, end, &rb_otlp_fields[message][tag >> 3], bits, data);
    }
    return out;
}

uint8_t *rb_json_attributes_put(uint8_t *out, uint8_t *end, const uint8_t **at, const uint8_t *last)
{
    return put_elements(out, end, RB_OTLP_SPAN, at, last);
}

static uint8_t *put_empty_list(uint8_t *out, uint32_t message, uint32_t number)
{
    const char *json = rb_otlp_fields[message][number].json;
    *out++ = ',';
    return rb_put(rb_put(out, json, strlen(json)), "[]", 2);
}

uint8_t *rb_json_members_put(uint8_t *out, uint8_t *end, uint32_t message, const uint8_t *at, const uint8_t *last)
{
    uint32_t written = rb_json_written_list[message];
    while (at < last && out <= end) {
        uint32_t number = *at >> 3;
        const rb_otlp_field *field = &rb_otlp_fields[message][number];
        if (written && number >= written) {
            if (number > written)
                out = put_empty_list(out, message, written);
            written = 0;
        }
        uint64_t bits;
        const uint8_t *data, *next = read_value(at, last, &bits, &data);
        if (bits == 0 && !field->is_list && !field->is_written) {
            at = next;
            continue;
        }
        *out++ = ',';
        out = rb_put(out, field->json, strlen(field->json));
        if (field->is_list) {
            uint8_t *list = out;
            out = put_elements(out, end, message, &at, last);
            if (out > end)
                return out;
            *list = '['; /* in the place of the first element's comma */
            *out++ = ']';
        } else {
            out = put_value(out, end, field, bits, data);
            at = next;
        }
    }
    return written && out <= end ? put_empty_list(out, message, written) : out;
}
