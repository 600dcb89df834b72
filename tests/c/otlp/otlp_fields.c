/*
 * Records that carry OTLP: sound values, mutated ones and bytes of any kind through the encoder. Under sanitizers nothing
 * is read or written out of bounds; what comes out is well-formed and within its bound; a sound value is never refused.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ringbuf.h"

#define ROUNDS 20000
#define SLOT_BYTES 1024
#define OTLP_AT 64
#define MOST (SLOT_BYTES - OTLP_AT - 2)

static uint64_t state;

static uint64_t random64(void)
{
    state += 0x9e3779b97f4a7c15; /* splitmix64 */
    uint64_t mixed = (state ^ state >> 30) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
    return mixed ^ mixed >> 31;
}

static uint32_t below(uint32_t limit) { return (uint32_t)(random64() % limit); }

typedef struct message {
    uint8_t data[MOST];
    size_t bytes;
} message;

static void put(message *to, const void *data, size_t bytes)
{
    if (to->bytes + bytes <= sizeof to->data) {
        memcpy(to->data + to->bytes, data, bytes);
        to->bytes += bytes;
    }
}

/* Sometimes longer than it must be. */
static void put_varint(message *to, uint64_t value)
{
    uint8_t bytes[10];
    size_t count = 0, padding = below(8) ? 0 : below(3);
    do {
        bytes[count++] = (uint8_t)(value | 0x80);
        value >>= 7;
    } while (value != 0 || (padding-- > 0 && count < 5));
    bytes[count - 1] &= 0x7f;
    put(to, bytes, count);
}

/* A whole field, or nothing where it does not fit. */
static void put_field(message *to, uint32_t number, const message *inner)
{
    if (to->bytes + inner->bytes + 12 > sizeof to->data)
        return;
    uint8_t tag = (uint8_t)(number << 3 | 2);
    put(to, &tag, 1);
    put_varint(to, inner->bytes);
    put(to, inner->data, inner->bytes);
}

static void put_text(message *to, uint32_t number)
{
    static const char *const texts[] = {"", "a", "http.route", "\xc3\xa9", "\xe2\x82\xac", "\x01\x02\x03\x04", "\"\\"};
    message text = {.bytes = 0};
    const char *chosen = texts[below(7)];
    put(&text, chosen, strlen(chosen));
    if (below(3))
        put_field(to, number, &text);
}

static void put_number(message *to, uint32_t number, uint64_t value)
{
    uint8_t tag = (uint8_t)(number << 3);
    if (below(2) && to->bytes + 12 <= sizeof to->data) {
        put(to, &tag, 1);
        put_varint(to, value);
    }
}

static void put_fixed(message *to, uint32_t number, size_t bytes)
{
    uint8_t tag = (uint8_t)(number << 3 | (bytes == 8 ? 1 : 5));
    uint64_t value = below(3) ? random64() : 0;
    if (to->bytes + 9 <= sizeof to->data) {
        put(to, &tag, 1);
        put(to, &value, bytes);
    }
}

static void put_key_values(message *to, uint32_t number, uint32_t depth);

static void put_any_value(message *to, uint32_t number, uint32_t depth)
{
    message value = {.bytes = 0}, list = {.bytes = 0};
    switch (below(depth < 4 ? 8 : 5)) {
    case 0:
        put_text(&value, 1);
        break;
    case 1:
        put_number(&value, 2, below(3));
        break;
    case 2:
        put_number(&value, 3, below(2) ? random64() : below(100));
        break;
    case 3:
        put_fixed(&value, 4, 8);
        break;
    case 4:
        put_text(&value, 7);
        break;
    case 5:
        for (uint32_t i = below(3); i > 0; i--)
            put_any_value(&list, 1, depth + 1);
        put_field(&value, 5, &list);
        break;
    case 6:
        put_key_values(&list, 1, depth + 1);
        put_field(&value, 6, &list);
        break;
    default:
        break;
    }
    put_field(to, number, &value);
}

static void put_key_values(message *to, uint32_t number, uint32_t depth)
{
    for (uint32_t i = below(3); i > 0; i--) {
        message key_value = {.bytes = 0};
        put_text(&key_value, 1);
        if (below(5))
            put_any_value(&key_value, 2, depth);
        put_field(to, number, &key_value);
    }
}

static message random_span(void)
{
    message span = {.bytes = 0};
    put_text(&span, 3);
    put_text(&span, 5);
    put_key_values(&span, 9, 0);
    put_number(&span, 10, below(3));
    uint32_t events = below(4) ? below(4) : below(200); /* those of 6 bytes are what grows the most in JSON */
    for (uint32_t i = events; i > 0; i--) {
        message event = {.bytes = 0}, empty = {.bytes = 0};
        if (events < 4) {
            put_fixed(&event, 1, 8);
            put_text(&event, 2);
            put_key_values(&event, 3, 0);
        } else
            put_field(&event, 3, &empty);
        if (event.bytes + 2 < sizeof event.data)
            put(&event, "\x20\x01", 2);
        put_field(&span, 11, &event);
    }
    put_number(&span, 12, UINT32_MAX);
    for (uint32_t i = below(3); i > 0; i--) {
        message link = {.bytes = 0}, id = {.bytes = 0};
        uint64_t ids[2] = {random64(), 0};
        put(&id, ids, 16);
        put_field(&link, 1, &id);
        id.bytes = 8;
        put_field(&link, 2, &id);
        put_text(&link, 3);
        put_key_values(&link, 4, 0);
        put_number(&link, 5, below(3));
        put_fixed(&link, 6, 4);
        put_field(&span, 13, &link);
    }
    put_number(&span, 14, below(3));
    message status = {.bytes = 0};
    put_text(&status, 2);
    if (below(2))
        put_field(&span, 15, &status);
    return span;
}

static void mutate(message *value)
{
    for (uint32_t i = 1 + below(3); i > 0 && value->bytes > 0; i--)
        value->data[below((uint32_t)value->bytes)] =
            below(2) ? (uint8_t)random64() : (uint8_t)"\0\1\x7f\x80\xff\x0a\x12\x4a"[below(8)];
    if (below(4) == 0)
        value->bytes = below((uint32_t)value->bytes + 1);
}

static uint64_t read_varint(const uint8_t **at, const uint8_t *end)
{
    uint64_t value = 0;
    for (uint32_t shift = 0;; shift += 7) {
        assert(*at < end && shift < 70);
        uint8_t byte = *(*at)++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
}

/* One span, whose fields come in the order of their numbers and fill it. */
static void check_protobuf(const uint8_t *at, const uint8_t *end)
{
    assert(*at++ == 0x12);
    assert(read_varint(&at, end) == (uint64_t)(end - at));
    for (uint64_t last = 0; at < end;) {
        uint64_t tag = read_varint(&at, end);
        uint64_t skip = (tag & 7) == 1 ? 8 : (tag & 7) == 5 ? 4 : read_varint(&at, end);
        assert(tag >> 3 >= last && tag >> 3 <= 16);
        last = tag >> 3;
        if ((tag & 7) == 0)
            continue;
        assert(skip <= (uint64_t)(end - at));
        at += skip;
    }
}

static void check_json(const uint8_t *at, const uint8_t *end)
{
    int depth = 0, in_string = 0;
    for (; at < end; at++) {
        assert(*at >= 0x20);
        assert(in_string || *at != ',' || (at[1] != ',' && at[1] != '}' && at[1] != ']'));
        if (in_string && *at == '\\')
            at++;
        else if (*at == '"')
            in_string = !in_string;
        else if (!in_string && (*at == '{' || *at == '['))
            depth++;
        else if (!in_string && (*at == '}' || *at == ']'))
            assert(--depth >= 0);
    }
    assert(depth == 0 && !in_string);
}

static int encode(const rb_plan *plan, const uint8_t *record, int is_json)
{
    uint64_t bound = is_json ? rb_plan_json_bound(plan) : rb_plan_protobuf_bound(plan), spans, invalid;
    uint8_t *out = malloc(bound);
    assert(out != NULL);
    int64_t bytes = (is_json ? rb_encode_json : rb_encode_protobuf)(plan, record, 1, out, bound, &spans, &invalid);
    assert(bytes >= 0 && (uint64_t)bytes <= bound && spans + invalid == 1 && (bytes == 0) == (spans == 0));
    if (spans && is_json)
        check_json(out, out + bytes);
    else if (spans)
        check_protobuf(out, out + bytes);
    free(out);
    return spans == 1;
}

/* An exact copy, so that a read beyond it is seen. */
static int is_sound(uint32_t type, const message *value)
{
    uint8_t *copy = malloc(value->bytes ? value->bytes : 1);
    assert(copy != NULL);
    memcpy(copy, value->data, value->bytes);
    int sound = rb_otlp_is_sound(type, copy, value->bytes);
    free(copy);
    return sound;
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t)getpid() * 0x9e3779b97f4a7c15;
    state = seed;
    printf("seed %#llx\n", (unsigned long long)seed);
    fflush(stdout);
    rb_text name = {.data = "span", .bytes = 4};
    rb_plan_attribute attribute = {
        .key = {.data = "otlp", .bytes = 4}, .type = RB_TYPE_OTLP, .offset = OTLP_AT, .size = MOST};
    rb_plan_config config = {.span_names = &name,
                             .span_name_count = 1,
                             .attributes = &attribute,
                             .attribute_count = 1,
                             .slot_bytes = SLOT_BYTES};
    rb_plan *plan = NULL;
    rb_error error = {0};
    assert(rb_plan_new(&config, &plan, &error) == RB_OK);
    uint32_t sound_ones = 0, mutants_refused = 0;
    for (int round = 0; round < ROUNDS; round++) {
        message value = random_span();
        int is_mutant = round % 2;
        if (is_mutant)
            mutate(&value);
        int sound = is_sound(RB_TYPE_OTLP, &value);
        assert(sound || is_mutant);
        sound_ones += sound != 0;
        mutants_refused += is_mutant && !sound;
        is_sound(RB_TYPE_SCOPE, &value);
        uint8_t *record = calloc(1, SLOT_BYTES);
        assert(record != NULL);
        rb_record core = {
            .trace_id = {1}, .span_id = {1}, .present = 1, .status = (uint8_t)below(3), .flags = below(2)};
        memcpy(record, &core, sizeof core);
        uint16_t length = (uint16_t)value.bytes;
        memcpy(record + OTLP_AT, &length, 2);
        memcpy(record + OTLP_AT + 2, value.data, value.bytes);
        assert(encode(plan, record, 0) == sound);
        assert(encode(plan, record, 1) == sound);
        free(record);
    }
    assert(sound_ones >= ROUNDS / 2 && mutants_refused > ROUNDS / 20);
    rb_plan_free(plan);
    return 0;
}
