/*
 * Random plans and random records through the encoder: under sanitizers nothing is read or written out of bounds, and
 * whatever the room, the output is the same, whole spans, and within its bound.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ringbuf.h"

#define ROUNDS 3000
#define MAX_RECORDS 40

typedef int64_t encode_function(const rb_plan *, const void *, uint64_t, void *, uint64_t, uint64_t *, uint64_t *);

static uint64_t state;

static uint64_t random64(void)
{
    state += 0x9e3779b97f4a7c15; /* splitmix64 */
    uint64_t mixed = (state ^ state >> 30) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
    return mixed ^ mixed >> 31;
}

static uint32_t below(uint32_t limit) { return (uint32_t)(random64() % limit); }

static void fill(void *data, size_t bytes)
{
    uint8_t *byte = data;
    for (size_t i = 0; i < bytes; i++)
        byte[i] = below(4) ? (uint8_t)random64() : (uint8_t)"\0\1\x7f\x80\xe2\xf0\xff\""[below(8)];
}

/* Heap memory of just this size, so that a read beyond it is seen. */
static rb_text random_text(void)
{
    rb_text text = {.bytes = below(8) ? below(30) : below(300)};
    char *data = malloc(text.bytes ? text.bytes : 1);
    assert(data != NULL);
    fill(data, text.bytes);
    text.data = data;
    return text;
}

static rb_text *random_texts(uint32_t count)
{
    rb_text *texts = calloc(count, sizeof *texts);
    assert(texts != NULL);
    for (uint32_t i = 0; i < count; i++)
        texts[i] = random_text();
    return texts;
}

static void free_texts(const rb_text *texts, uint32_t count)
{
    for (uint32_t i = 0; texts != NULL && i < count; i++)
        free((void *)texts[i].data);
    free((void *)texts);
}

static uint32_t width(uint32_t type)
{
    static const uint32_t widths[] = {1, 1, 2, 4, 8, 1, 2, 4, 8, 8};
    return widths[type];
}

/* Attributes may lie at any offset, over each other too: the plan must only care that they are in the slot. */
static rb_plan_attribute random_attribute(uint32_t slot_bytes)
{
    rb_plan_attribute attribute = {.key = random_text(), .type = below(14)};
    uint32_t room = slot_bytes - RB_CORE_BYTES, bytes;
    if (attribute.type == RB_TYPE_LABEL) {
        attribute.size = bytes = 1 + below(2);
        attribute.label_count = 1 + below(attribute.size == 1 ? 20 : 300);
        attribute.labels = random_texts(attribute.label_count);
    } else if (attribute.type == RB_TYPE_HEX)
        attribute.size = bytes = 1 + below(room);
    else if (attribute.type == RB_TYPE_STR || attribute.type == RB_TYPE_BYTES) {
        attribute.size = below(room - 1);
        bytes = attribute.size + 2;
    } else
        bytes = width(attribute.type);
    attribute.offset = below(3) ? RB_CORE_BYTES + below(room - bytes + 1) : slot_bytes - bytes;
    return attribute;
}

/* A record that is mostly valid in its core; its attributes may hold anything, labels and lengths less often. */
static void random_record(uint8_t *record, const rb_plan_config *config)
{
    rb_record core;
    fill(record, config->slot_bytes);
    memcpy(&core, record, sizeof core);
    if (below(20))
        core.reserved = 0;
    if (below(20)) {
        core.trace_id[5] |= 1;
        core.span_id[7] |= 1;
    }
    if (below(20))
        core.name = (uint16_t)below(config->span_name_count);
    if (below(20))
        core.kind = (uint8_t)below(6);
    if (below(20))
        core.status = (uint8_t)below(3);
    if (below(2))
        memset(core.parent_span_id, 0, 8);
    if (below(2))
        core.present &= (uint32_t)random64();
    memcpy(record, &core, sizeof core);
    if (below(4) == 0) /* text that grows the most: each byte is escaped, or replaced */
        memset(record + sizeof core, below(2) ? 0x01 : 0xff, config->slot_bytes - sizeof core);
    for (uint32_t i = 0; i < config->attribute_count; i++) {
        const rb_plan_attribute *attribute = &config->attributes[i];
        uint16_t small = 0;
        if (attribute->type == RB_TYPE_LABEL)
            small = (uint16_t)below(attribute->label_count);
        else if (attribute->type == RB_TYPE_STR || attribute->type == RB_TYPE_BYTES)
            small = (uint16_t)(below(2) ? below(attribute->size + 1) : attribute->size);
        else
            continue;
        if (below(20))
            memcpy(record + attribute->offset, &small, attribute->type == RB_TYPE_LABEL ? attribute->size : 2);
    }
}

static uint64_t read_varint(const uint8_t **at, const uint8_t *end)
{
    uint64_t value = 0;
    for (uint32_t shift = 0;; shift += 7) {
        assert(*at < end && shift < 64);
        uint8_t byte = *(*at)++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
}

static uint64_t count_protobuf_spans(const uint8_t *at, const uint8_t *end)
{
    uint64_t spans = 0;
    for (; at < end; spans++) {
        assert(*at++ == 0x12);
        uint64_t bytes = read_varint(&at, end);
        assert(bytes <= (uint64_t)(end - at));
        for (const uint8_t *field_end = at + bytes; at < field_end;) {
            uint64_t tag = read_varint(&at, field_end);
            uint64_t skip = (tag & 7) == 1 ? 8 : (tag & 7) == 5 ? 4 : read_varint(&at, field_end);
            if ((tag & 7) == 0)
                continue;
            assert(skip <= (uint64_t)(field_end - at));
            at += skip;
        }
    }
    return spans;
}

static uint64_t count_json_spans(const uint8_t *at, const uint8_t *end)
{
    uint64_t spans = 0;
    int depth = 0, in_string = 0;
    for (; at < end; at++) {
        assert(*at >= 0x20);
        if (in_string && *at == '\\')
            at++;
        else if (*at == '"')
            in_string = !in_string;
        else if (!in_string && (*at == '{' || *at == '['))
            spans += depth++ == 0;
        else if (!in_string && (*at == '}' || *at == ']'))
            assert(--depth >= 0);
    }
    assert(depth == 0 && !in_string);
    return spans;
}

/* Encode in pieces of random room, each in memory of just that size; returns the whole output. */
static uint8_t *encode_in_pieces(encode_function *encode, const rb_plan *plan, uint64_t bound, const uint8_t *records,
                                 uint64_t count, uint32_t slot_bytes, uint64_t most_room, size_t *out_bytes)
{
    uint8_t *whole = malloc(count * bound + count + 1);
    size_t used = 0;
    uint64_t spans, invalid;
    assert(whole != NULL);
    for (uint64_t taken = 0; taken < count; taken += spans + invalid) {
        uint64_t room = bound + random64() % (most_room + 1);
        uint8_t *out = malloc(room);
        assert(out != NULL);
        int64_t bytes = encode(plan, records + taken * slot_bytes, count - taken, out, room, &spans, &invalid);
        assert(bytes >= 0 && (uint64_t)bytes <= room && (uint64_t)bytes <= spans * bound);
        assert(spans + invalid >= 1 && spans + invalid <= count - taken);
        assert((bytes == 0) == (spans == 0));
        if (encode == rb_encode_json && used && bytes)
            whole[used++] = ',';
        memcpy(whole + used, out, (size_t)bytes);
        used += (size_t)bytes;
        free(out);
    }
    *out_bytes = used;
    return whole;
}

static void check(encode_function *encode, const rb_plan *plan, uint64_t bound, const uint8_t *records, uint64_t count,
                  uint32_t slot_bytes)
{
    size_t at_once_bytes, in_pieces_bytes;
    uint8_t *at_once = encode_in_pieces(encode, plan, bound, records, count, slot_bytes, 0, &at_once_bytes);
    uint8_t *in_pieces = encode_in_pieces(encode, plan, bound, records, count, slot_bytes, 5 * bound, &in_pieces_bytes);
    assert(at_once_bytes == in_pieces_bytes && memcmp(at_once, in_pieces, at_once_bytes) == 0);
    uint64_t room = bound * (count + 1), spans, invalid;
    uint8_t *out = malloc(room);
    assert(out != NULL);
    int64_t bytes = encode(plan, records, count, out, room, &spans, &invalid);
    assert(spans + invalid == count && (size_t)bytes == at_once_bytes && memcmp(out, at_once, at_once_bytes) == 0);
    if (encode == rb_encode_json)
        assert(count_json_spans(out, out + bytes) == spans);
    else
        assert(count_protobuf_spans(out, out + bytes) == spans);
    free(out);
    free(at_once);
    free(in_pieces);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t)getpid() * 0x9e3779b97f4a7c15;
    state = seed;
    printf("seed %#llx\n", (unsigned long long)seed);
    fflush(stdout);
    for (int round = 0; round < ROUNDS; round++) {
        rb_plan_config config = {.span_name_count = 1 + below(4), .attribute_count = below(RB_MAX_ATTRIBUTES + 1)};
        config.slot_bytes = 64 * (2 + below(below(20) ? 6 : 200));
        config.attribute_count = below(4) ? config.attribute_count % 7 : config.attribute_count;
        config.span_names = random_texts(config.span_name_count);
        rb_plan_attribute attributes[RB_MAX_ATTRIBUTES];
        for (uint32_t i = 0; i < config.attribute_count; i++)
            attributes[i] = random_attribute(config.slot_bytes);
        config.attributes = attributes;
        rb_plan *plan = NULL;
        rb_error error = {0};
        int status = rb_plan_new(&config, &plan, &error);
        if (status != RB_OK)
            printf("%s\n", error.detail);
        assert(status == RB_OK);

        uint32_t count = below(MAX_RECORDS);
        uint8_t *memory = malloc((size_t)count * config.slot_bytes + 1), *records = memory + 1; /* at an odd address */
        assert(memory != NULL);
        for (uint32_t i = 0; i < count; i++)
            random_record(records + (size_t)i * config.slot_bytes, &config);
        for (uint32_t i = 0; i < config.attribute_count; i++) {
            free((void *)attributes[i].key.data);
            free_texts(attributes[i].labels, attributes[i].label_count);
        }
        free_texts(config.span_names, config.span_name_count);
        check(rb_encode_protobuf, plan, rb_plan_protobuf_bound(plan), records, count, config.slot_bytes);
        check(rb_encode_json, plan, rb_plan_json_bound(plan), records, count, config.slot_bytes);
        free(memory);
        rb_plan_free(plan);
    }
    return 0;
}
