/*
 * trace_state.c - which `ot` entry is sound, and how it is written anew.
 *
 * Source: W3C Trace Context, section 3.3; OpenTelemetry specification, "TraceState Handling".
 */
#include "otlp/kept/trace_state.h"
#include "otlp/output.h"

#include <stdio.h>

#define MAX_MEMBERS 32
#define MAX_ENTRY 256    /* bytes of a value */
#define RANDOM_DIGITS 14 /* of `rv`, exactly */

/* A part of a text: up to `end`. */
typedef struct part {
    const uint8_t *at;
    const uint8_t *end;
} part;

static size_t length_of(part text) { return (size_t)(text.end - text.at); }

static int is(part text, const char *word)
{
    return length_of(text) == strlen(word) && memcmp(text.at, word, strlen(word)) == 0;
}

/* Take off `rest` what comes before the next `separator`. Returns 0 when there is no more. */
static int next_part(part *rest, uint8_t separator, part *found)
{
    if (rest->at == NULL)
        return 0;
    const uint8_t *stop = memchr(rest->at, separator, length_of(*rest));
    *found = (part){rest->at, stop != NULL ? stop : rest->end};
    rest->at = stop != NULL ? stop + 1 : NULL;
    return 1;
}

static part stripped(part text)
{
    while (text.at < text.end && (*text.at == ' ' || *text.at == '\t'))
        text.at++;
    while (text.at < text.end && (text.end[-1] == ' ' || text.end[-1] == '\t'))
        text.end--;
    return text;
}

static int is_ot(part member)
{
    member = stripped(member);
    return length_of(member) >= 3 && memcmp(member.at, "ot=", 3) == 0;
}

static int is_digit(uint8_t byte) { return byte >= '0' && byte <= '9'; }
static int is_lower(uint8_t byte) { return byte >= 'a' && byte <= 'z'; }
static int is_upper(uint8_t byte) { return byte >= 'A' && byte <= 'Z'; }

static int are_hex(part text)
{
    for (; text.at < text.end; text.at++)
        if (!is_digit(*text.at) && !(*text.at >= 'a' && *text.at <= 'f') && !(*text.at >= 'A' && *text.at <= 'F'))
            return 0;
    return 1;
}

/* key:value. Returns 0 when it is malformed. */
static int split_pair(part pair, part *key, part *value)
{
    const uint8_t *colon = memchr(pair.at, ':', length_of(pair));
    if (colon == NULL || colon == pair.at || !is_lower(*pair.at))
        return 0;
    *key = (part){pair.at, colon};
    *value = (part){colon + 1, pair.end};
    for (const uint8_t *at = key->at; at < key->end; at++)
        if (!is_lower(*at) && !is_digit(*at))
            return 0;
    for (const uint8_t *at = value->at; at < value->end; at++)
        if (!is_lower(*at) && !is_digit(*at) && !is_upper(*at) && *at != '.' && *at != '_' && *at != '-')
            return 0;
    return 1;
}

/* Whether a key is in the first part of an entry, up to `until`. */
static int is_repeated(part entry, const uint8_t *until, part key)
{
    part pair, other, value;
    entry.end = until;
    while (next_part(&entry, ';', &pair))
        if (split_pair(pair, &other, &value) && length_of(other) == length_of(key) &&
            memcmp(other.at, key.at, length_of(key)) == 0)
            return 1;
    return 0;
}

/* The value of `ot`: all its pairs are sound, each key is there once; *threshold becomes its `th`. */
static int is_sound_entry(part entry, part *threshold)
{
    part rest = entry, pair, key, value;
    *threshold = (part){NULL, NULL};
    if (length_of(entry) > MAX_ENTRY)
        return 0;
    while (next_part(&rest, ';', &pair)) {
        if (!split_pair(pair, &key, &value))
            return 0;
        if (pair.at > entry.at && is_repeated(entry, pair.at - 1, key))
            return 0;
        if (is(key, "th")) {
            if (length_of(value) < 1 || length_of(value) > RB_MAX_THRESHOLD_BYTES || !are_hex(value))
                return 0;
            *threshold = value;
        } else if (is(key, "rv") && (length_of(value) != RANDOM_DIGITS || !are_hex(value)))
            return 0;
    }
    return 1;
}

/* The pairs without `th`, then the new one: the value of `ot`. Returns its bytes. */
static size_t put_entry(uint8_t *out, part entry, const char *digits, size_t digit_count)
{
    uint8_t *start = out;
    part pair, key, value;
    while (entry.at != NULL && next_part(&entry, ';', &pair)) {
        if (!split_pair(pair, &key, &value) || is(key, "th"))
            continue;
        if (out > start)
            *out++ = ';';
        out = rb_put(out, pair.at, length_of(pair));
    }
    if (digit_count != 0) {
        out = rb_put(out, out > start ? ";th:" : "th:", out > start ? 4 : 3);
        out = rb_put(out, digits, digit_count);
    }
    return (size_t)(out - start);
}

static size_t unchanged(uint8_t *out, const uint8_t *text, size_t bytes)
{
    rb_put(out, text, bytes);
    return bytes;
}

size_t rb_trace_state_with(uint8_t *out, const uint8_t *text, size_t bytes, const char *digits, size_t digit_count)
{
    const part all = {text, text + bytes};
    part rest = all, member, entry = {NULL, NULL}, threshold = {NULL, NULL};
    while (entry.at == NULL && next_part(&rest, ',', &member))
        if (is_ot(member)) {
            member = stripped(member);
            entry = (part){member.at + 3, member.end};
        }
    if (entry.at != NULL && !is_sound_entry(entry, &threshold))
        return unchanged(out, text, bytes);
    int is_same = threshold.at == NULL
                      ? digit_count == 0
                      : length_of(threshold) == digit_count && memcmp(threshold.at, digits, digit_count) == 0;
    if (is_same)
        return unchanged(out, text, bytes);
    uint8_t value[MAX_ENTRY + RB_THRESHOLD_GROWTH];
    size_t value_bytes = put_entry(value, entry, digits, digit_count);
    if (value_bytes > MAX_ENTRY)
        return unchanged(out, text, bytes);
    uint8_t *start = out;
    uint32_t members = 0;
    if (value_bytes != 0) {
        out = rb_put(rb_put(out, "ot=", 3), value, value_bytes);
        members++;
    }
    for (rest = all; members < MAX_MEMBERS && next_part(&rest, ',', &member);) {
        if (is_ot(member) || length_of(stripped(member)) == 0)
            continue;
        if (members++ != 0)
            *out++ = ',';
        out = rb_put(out, member.at, length_of(member));
    }
    return (size_t)(out - start);
}

size_t rb_threshold_text(uint64_t threshold, char digits[RB_MAX_THRESHOLD_BYTES + 1])
{
    size_t bytes = (size_t)snprintf(digits, RB_MAX_THRESHOLD_BYTES + 1, "%014llx",
                                    (unsigned long long)threshold & 0xffffffffffffff);
    while (bytes > 1 && digits[bytes - 1] == '0')
        bytes--;
    return bytes;
}
