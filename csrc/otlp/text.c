/*
 * text.c - text of unknown origin as UTF-8, and as the inside of a JSON string; hex digits.
 *
 * Source: Unicode, "U+FFFD Substitution of Maximal Subparts", as Python's bytes.decode("utf-8", "replace") does;
 * RFC 8259, section 7.
 */
#include "otlp/text.h"
#include "shared/hex.h"

#define REPLACEMENT "\xEF\xBF\xBD"

static size_t ascii_prefix(const uint8_t *text, size_t bytes)
{
    size_t i = 0;
    for (uint64_t eight; bytes - i >= 8; i += 8) {
        memcpy(&eight, text + i, 8);
        if (eight & 0x8080808080808080)
            break;
    }
    while (i < bytes && text[i] < 0x80)
        i++;
    return i;
}

/* The length of the character at `text`, or of the ill-formed bytes that one U+FFFD stands for. */
static size_t character_bytes(const uint8_t *text, size_t bytes, int *valid)
{
    uint8_t lead = text[0], low = 0x80, high = 0xBF;
    size_t length;
    *valid = 0;
    if (lead < 0x80)
        length = 1;
    else if (lead >= 0xC2 && lead <= 0xDF)
        length = 2;
    else if (lead >= 0xE0 && lead <= 0xEF) {
        length = 3;
        low = lead == 0xE0 ? 0xA0 : low;   /* overlong */
        high = lead == 0xED ? 0x9F : high; /* surrogates */
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        length = 4;
        low = lead == 0xF0 ? 0x90 : low;   /* overlong */
        high = lead == 0xF4 ? 0x8F : high; /* above U+10FFFF */
    } else
        return 1;
    for (size_t i = 1; i < length; i++) {
        if (i == bytes || text[i] < low || text[i] > high)
            return i;
        low = 0x80;
        high = 0xBF;
    }
    *valid = 1;
    return length;
}

size_t rb_utf8_bytes(const uint8_t *text, size_t bytes, int *valid)
{
    size_t at = ascii_prefix(text, bytes), total = at;
    *valid = 1;
    while (at < bytes) {
        int one_valid;
        size_t step = character_bytes(text + at, bytes - at, &one_valid);
        at += step;
        total += one_valid ? step : sizeof REPLACEMENT - 1;
        *valid &= one_valid;
    }
    return total;
}

uint8_t *rb_utf8_put(uint8_t *out, uint8_t *end, const uint8_t *text, size_t bytes)
{
    size_t at = ascii_prefix(text, bytes);
    if (at)
        out = rb_put_if_fits(out, end, text, at);
    while (at < bytes && out <= end) {
        int valid;
        size_t step = character_bytes(text + at, bytes - at, &valid);
        out = valid ? rb_put(out, text + at, step) : rb_put(out, REPLACEMENT, sizeof REPLACEMENT - 1);
        at += step;
    }
    return out;
}

static int is_plain(uint8_t byte) { return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\'; }

static uint8_t *put_escape(uint8_t *out, uint8_t byte)
{
    static const char letters[] = "btn\0fr"; /* of 8 to 13; 11 has none */
    out[0] = '\\';
    if (byte == '"' || byte == '\\')
        out[1] = byte;
    else if (byte >= 8 && byte <= 13 && byte != 11)
        out[1] = (uint8_t)letters[byte - 8];
    else {
        out = rb_put(out, "\\u00", 4);
        out[0] = byte < 0x10 ? '0' : '1';
        out[1] = (uint8_t)rb_hex_digit(byte);
    }
    return out + 2;
}

uint8_t *rb_json_text_put(uint8_t *out, uint8_t *end, const uint8_t *text, size_t bytes)
{
    for (size_t at = 0; at < bytes && out <= end;) {
        size_t plain = at;
        while (plain < bytes && is_plain(text[plain]))
            plain++;
        if (plain > at) {
            out = rb_put_if_fits(out, end, text + at, plain - at);
            at = plain;
        } else if (text[at] < 0x80)
            out = put_escape(out, text[at++]);
        else {
            int valid;
            size_t step = character_bytes(text + at, bytes - at, &valid);
            out = valid ? rb_put(out, text + at, step) : rb_put(out, REPLACEMENT, sizeof REPLACEMENT - 1);
            at += step;
        }
    }
    return out;
}

/* A function of its own: once inlined, compilers no longer know that the two do not overlap, and do it byte by byte. */
__attribute__((noinline)) void rb_put_hex16(uint8_t *restrict out, const uint8_t *restrict data)
{
    uint8_t high[16], low[16];
    for (int i = 0; i < 16; i++) {
        high[i] = data[i] >> 4;
        low[i] = data[i] & 15;
    }
    for (int i = 0; i < 16; i++) {
        high[i] = (uint8_t)(high[i] + '0' + (high[i] > 9 ? 'a' - '0' - 10 : 0));
        low[i] = (uint8_t)(low[i] + '0' + (low[i] > 9 ? 'a' - '0' - 10 : 0));
    }
    for (int i = 0; i < 16; i++) {
        out[2 * i] = high[i];
        out[2 * i + 1] = low[i];
    }
}

uint8_t *rb_put_hex_rest(uint8_t *out, uint8_t *end, const uint8_t *data, size_t bytes)
{
    if (!rb_fits(out, end, 2 * bytes))
        return rb_refuse(end);
    for (; bytes >= 16; bytes -= 16, data += 16, out += 32)
        rb_put_hex16(out, data);
    uint8_t rest[16] = {0};
    memcpy(rest, data, bytes);
    rb_put_hex16(out, rest);
    return out + 2 * bytes;
}
