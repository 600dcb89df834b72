/*
 * json_values.c - base64 and doubles.
 *
 * Source: OTLP specification, "JSON Protobuf Encoding"; RFC 4648, section 4.
 */
#include "otlp/json_values.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define PUT(out, literal) rb_put(out, literal, sizeof(literal) - 1)

uint8_t *rb_json_base64_put(uint8_t *out, uint8_t *end, const uint8_t *data, size_t bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (!rb_fits(out, end, (bytes + 2) / 3 * 4))
        return rb_refuse(end);
    for (; bytes > 0; out += 4) {
        size_t taken = bytes < 3 ? bytes : 3;
        uint32_t bits = (uint32_t)data[0] << 16 | (taken > 1 ? (uint32_t)data[1] << 8 : 0) | (taken > 2 ? data[2] : 0);
        out[0] = (uint8_t)digits[bits >> 18];
        out[1] = (uint8_t)digits[bits >> 12 & 63];
        out[2] = taken > 1 ? (uint8_t)digits[bits >> 6 & 63] : '=';
        out[3] = taken > 2 ? (uint8_t)digits[bits & 63] : '=';
        data += taken;
        bytes -= taken;
    }
    return out;
}

/* The few decimals that most measured values have: digits / 10^decimals, or 0 when `value` has more. */
static int put_short_decimal(uint8_t **out, double value)
{
    double power = 1;
    for (uint32_t decimals = 0; decimals <= 9 && value * power < 1e15; decimals++, power *= 10) {
        uint64_t digits = (uint64_t)(value * power + 0.5);
        /* Both are exact, so that the quotient is the double that a reader makes of these digits. */
        if ((double)digits / power != value)
            continue;
        uint64_t whole = digits / (uint64_t)power, fraction = digits % (uint64_t)power;
        *out = rb_put_decimal(*out, whole);
        *(*out)++ = '.';
        if (decimals == 0)
            *(*out)++ = '0';
        for (uint32_t i = decimals; i > 0; i--, fraction /= 10)
            (*out)[i - 1] = (uint8_t)('0' + fraction % 10);
        *out += decimals;
        return 1;
    }
    return 0;
}

/* Always with a point or an exponent. */
uint8_t *rb_json_double_put(uint8_t *out, const uint8_t *data)
{
    double value;
    memcpy(&value, data, 8);
    if (isnan(value))
        return PUT(out, "\"NaN\"");
    if (isinf(value))
        return value > 0 ? PUT(out, "\"Infinity\"") : PUT(out, "\"-Infinity\"");
    if (signbit(value)) {
        *out++ = '-';
        value = -value;
    }
    if (put_short_decimal(&out, value))
        return out;
    char text[RB_MAX_DOUBLE_BYTES];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    int is_whole = 1;
    for (const char *c = text; *c != '\0'; c++) {
        int is_point = strchr("0123456789e+-", *c) == NULL; /* a comma in some locales, or several bytes */
        if (!is_point || out[-1] != '.')
            *out++ = is_point ? '.' : (uint8_t)*c;
        is_whole &= !is_point && *c != 'e';
    }
    return is_whole ? PUT(out, ".0") : out;
}
