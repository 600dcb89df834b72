/* Source: opentelemetry-proto, trace.proto and common.proto; protobuf, "Encoding"; RFC 8259; RFC 3629. */
#include "otlp_check.h"

#include <assert.h>
#include <string.h>

struct part {
    const uint8_t *at;
    const uint8_t *end;
};

/* ---- text ---- */

/* Takes one character, whose first byte is 0x80 or above. */
static void check_utf8_character(struct part *text)
{
    size_t left = (size_t)(text->end - text->at);
    uint32_t lead = text->at[0], length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    uint32_t code = lead & (length == 4 ? 0x07 : length == 3 ? 0x0F : 0x1F);
    assert(lead >= 0xC0 && lead < 0xF8 && left >= length);
    for (uint32_t i = 1; i < length; i++) {
        assert((text->at[i] & 0xC0) == 0x80);
        code = code << 6 | (text->at[i] & 0x3F);
    }
    assert(code >= (length == 4 ? 0x10000u : length == 3 ? 0x800u : 0x80u));
    assert(code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF));
    text->at += length;
}

static void check_utf8(struct part text)
{
    while (text.at < text.end)
        if (*text.at < 0x80)
            text.at++;
        else
            check_utf8_character(&text);
}

/* ---- protobuf ---- */

static uint64_t take_varint(struct part *from)
{
    uint64_t value = 0;
    for (uint32_t shift = 0;; shift += 7) {
        assert(from->at < from->end && shift < 64);
        uint8_t byte = *from->at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
}

static struct part take_bytes(struct part *from, uint64_t bytes)
{
    assert(bytes <= (uint64_t)(from->end - from->at));
    struct part taken = {from->at, from->at + bytes};
    from->at += bytes;
    return taken;
}

static struct part take_part(struct part *from) { return take_bytes(from, take_varint(from)); }

/* ---- messages ---- */

enum kind { NONE, TEXT, BYTES, ID, VARINT, FIXED32, FIXED64, MESSAGE };

enum message { SPAN, KEY_VALUE, ANY_VALUE, ARRAY_VALUE, KEY_VALUE_LIST, EVENT, LINK, STATUS };

struct field {
    uint8_t kind;
    uint8_t of; /* ID: bytes; MESSAGE: enum message */
    uint8_t is_repeated;
};

static const struct field fields[][17] = {
    [SPAN] = {[1] = {ID, 16, 0},
              [2] = {ID, 8, 0},
              [3] = {TEXT, 0, 0},
              [4] = {ID, 8, 0},
              [5] = {TEXT, 0, 0},
              [6] = {VARINT, 0, 0},
              [7] = {FIXED64, 0, 0},
              [8] = {FIXED64, 0, 0},
              [9] = {MESSAGE, KEY_VALUE, 1},
              [10] = {VARINT, 0, 0},
              [11] = {MESSAGE, EVENT, 1},
              [12] = {VARINT, 0, 0},
              [13] = {MESSAGE, LINK, 1},
              [14] = {VARINT, 0, 0},
              [15] = {MESSAGE, STATUS, 0},
              [16] = {FIXED32, 0, 0}},
    [KEY_VALUE] = {[1] = {TEXT, 0, 0}, [2] = {MESSAGE, ANY_VALUE, 0}},
    [ANY_VALUE] = {[1] = {TEXT, 0, 0},
                   [2] = {VARINT, 0, 0},
                   [3] = {VARINT, 0, 0},
                   [4] = {FIXED64, 0, 0},
                   [5] = {MESSAGE, ARRAY_VALUE, 0},
                   [6] = {MESSAGE, KEY_VALUE_LIST, 0},
                   [7] = {BYTES, 0, 0}},
    [ARRAY_VALUE] = {[1] = {MESSAGE, ANY_VALUE, 1}},
    [KEY_VALUE_LIST] = {[1] = {MESSAGE, KEY_VALUE, 1}},
    [EVENT] = {[1] = {FIXED64, 0, 0}, [2] = {TEXT, 0, 0}, [3] = {MESSAGE, KEY_VALUE, 1}, [4] = {VARINT, 0, 0}},
    [LINK] = {[1] = {ID, 16, 0},
              [2] = {ID, 8, 0},
              [3] = {TEXT, 0, 0},
              [4] = {MESSAGE, KEY_VALUE, 1},
              [5] = {VARINT, 0, 0},
              [6] = {FIXED32, 0, 0}},
    [STATUS] = {[2] = {TEXT, 0, 0}, [3] = {VARINT, 0, 0}},
};

static int is_zero(struct part part)
{
    while (part.at < part.end)
        if (*part.at++ != 0)
            return 0;
    return 1;
}

/*
 * Fields in the order of their numbers, none that is not known, none twice that is not repeated. Returns how often field
 * 9 was there: a span's attributes. A core's field of a span is not there with its default.
 */
static uint64_t check_message(struct part message, enum message type, uint32_t depth)
{
    static const uint32_t wire_types[] = {[TEXT] = 2,    [BYTES] = 2,   [ID] = 2,     [VARINT] = 0,
                                          [FIXED32] = 5, [FIXED64] = 1, [MESSAGE] = 2};
    uint64_t last = 0, seen = 0, ninths = 0;
    assert(depth < 100);
    while (message.at < message.end) {
        uint64_t tag = take_varint(&message), number = tag >> 3, value = 1;
        assert(number < 17 && fields[type][number].kind != NONE);
        const struct field *field = &fields[type][number];
        assert((tag & 7) == wire_types[field->kind] && (number > last || (number == last && field->is_repeated)));
        assert(type != ANY_VALUE || last == 0); /* a oneof */
        last = number;
        seen |= (uint64_t)1 << number;
        ninths += number == 9;
        struct part part = {0};
        if (field->kind == VARINT)
            value = take_varint(&message);
        else if (field->kind == FIXED32 || field->kind == FIXED64)
            part = take_bytes(&message, field->kind == FIXED32 ? 4 : 8);
        else
            part = take_part(&message);
        if (type == SPAN && number <= 8)
            assert(field->kind == TEXT     ? number == 5 || part.at < part.end
                   : field->kind == VARINT ? value >= 1 && value <= 5
                                           : !is_zero(part));
        assert(type != STATUS || number != 3 || value == 1 || value == 2);
        assert(field->kind != ID || part.end - part.at == field->of);
        if (field->kind == TEXT)
            check_utf8(part);
        else if (field->kind == MESSAGE)
            check_message(part, (enum message)field->of, depth + 1);
    }
    assert(type != SPAN || (seen & 0x6) == 0x6); /* trace_id and span_id */
    return ninths;
}

struct otlp_counts otlp_check_protobuf(const uint8_t *data, size_t bytes)
{
    struct otlp_counts counts = {0};
    struct part spans = {data, data + bytes};
    for (; spans.at < spans.end; counts.spans++) {
        assert(take_varint(&spans) == (2 << 3 | 2));
        counts.attributes += check_message(take_part(&spans), SPAN, 0);
    }
    return counts;
}

/* ---- JSON ---- */

static uint8_t next_of(struct part *json)
{
    assert(json->at < json->end);
    return *json->at++;
}

static int is_next(struct part *json, uint8_t byte)
{
    int is = json->at < json->end && *json->at == byte;
    json->at += is;
    return is;
}

static void check_string(struct part *json)
{
    assert(next_of(json) == '"');
    for (uint8_t byte; (byte = next_of(json)) != '"';) {
        assert(byte >= 0x20);
        if (byte == '\\') {
            uint8_t escaped = next_of(json);
            assert(escaped != 0 && strchr("\"\\/bfnrtu", escaped) != NULL);
            for (int i = 0; escaped == 'u' && i < 4; i++) {
                uint8_t digit = next_of(json);
                assert(digit != 0 && strchr("0123456789abcdefABCDEF", digit) != NULL);
            }
        } else if (byte >= 0x80) {
            json->at--;
            check_utf8_character(json);
        }
    }
}

static uint32_t skip_digits(struct part *json)
{
    uint32_t digits = 0;
    for (; json->at < json->end && *json->at >= '0' && *json->at <= '9'; json->at++)
        digits++;
    return digits;
}

static void check_number(struct part *json)
{
    is_next(json, '-');
    if (!is_next(json, '0'))
        assert(skip_digits(json) > 0);
    if (is_next(json, '.'))
        assert(skip_digits(json) > 0);
    if (is_next(json, 'e') || is_next(json, 'E')) {
        if (!is_next(json, '-'))
            is_next(json, '+');
        assert(skip_digits(json) > 0);
    }
}

static int is_text(struct part text, const char *wanted)
{
    return (size_t)(text.end - text.at) == strlen(wanted) && memcmp(text.at, wanted, strlen(wanted)) == 0;
}

/* Any value; returns how many elements it has, if it is an array. Those of a span's attributes are added to `counts`. */
static uint64_t check_value(struct part *json, uint32_t depth, struct otlp_counts *counts)
{
    assert(depth < 200 && json->at < json->end);
    uint64_t elements = 0;
    uint8_t first = *json->at;
    if (first == '"') {
        check_string(json);
    } else if (first == '{' || first == '[') {
        uint8_t last = first == '{' ? '}' : ']';
        json->at++;
        for (; !is_next(json, last); elements++) {
            assert(elements == 0 || next_of(json) == ',');
            struct part name = *json;
            if (first == '{') {
                check_string(json);
                name.end = json->at;
                assert(next_of(json) == ':');
            }
            uint64_t inner = check_value(json, depth + 1, counts);
            if (depth == 0 && is_text(name, "\"attributes\""))
                counts->attributes += inner;
        }
    } else if (first == 't' || first == 'f') {
        for (const char *word = first == 't' ? "true" : "false"; *word != '\0'; word++)
            assert(next_of(json) == (uint8_t)*word);
    } else
        check_number(json);
    return first == '[' ? elements : 0;
}

struct otlp_counts otlp_check_json(const uint8_t *data, size_t bytes)
{
    struct otlp_counts counts = {0};
    struct part json = {data, data + bytes};
    while (json.at < json.end) {
        assert(counts.spans == 0 || next_of(&json) == ',');
        assert(json.at < json.end && *json.at == '{');
        check_value(&json, 0, &counts);
        counts.spans++;
    }
    return counts;
}
