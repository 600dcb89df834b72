/*
 * Fuzz target: any encode plan, and any records through it. The input is a stream of numbers and bytes from which first
 * the plan's configuration is read, then the records; see read_config. Whatever they are, the output keeps to its
 * bound, is the same whatever the room, and is well-formed OTLP with as many spans and attributes as protobuf as JSON;
 * and a layout that can be written straight to gzip gives back the same protobuf.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "gunzip.h"
#include "otlp_check.h"
#include "ringbuf.h"
#include "short_room.h"

#define MAX_NAMES 300
#define MAX_RECORDS 24
#define GZIP_TIMES 5
#define MAX_PLAN_BYTES (1 << 20) /* larger ones take milliseconds and find nothing that smaller ones do not */

/* What is left of the input; reads beyond its end are zeros. */
struct input {
    const uint8_t *at;
    size_t left;
};

static uint32_t take(struct input *input, uint32_t bytes)
{
    uint32_t value = 0;
    for (uint32_t i = 0; i < bytes && input->left > 0; i++, input->left--)
        value |= (uint32_t)*input->at++ << 8 * i;
    return value;
}

/* Heap memory of just this size, so that a read beyond it is seen. */
static rb_text take_text(struct input *input)
{
    uint32_t bytes = take(input, 1);
    bytes = bytes == 255 ? take(input, 2) : bytes;
    bytes = bytes < input->left ? bytes : (uint32_t)input->left;
    char *data = malloc(bytes ? bytes : 1);
    assert(data != NULL);
    memcpy(data, input->at, bytes);
    input->at += bytes;
    input->left -= bytes;
    return (rb_text){.data = data, .bytes = bytes};
}

static rb_text *take_texts(struct input *input, uint32_t count)
{
    rb_text *texts = calloc(count ? count : 1, sizeof *texts);
    assert(texts != NULL);
    for (uint32_t i = 0; i < count; i++)
        texts[i] = take_text(input);
    return texts;
}

static void free_texts(const rb_text *texts, uint32_t count)
{
    for (uint32_t i = 0; texts != NULL && i < count; i++)
        free((void *)texts[i].data);
    free((void *)texts);
}

static uint32_t value_bytes(const rb_plan_attribute *attribute)
{
    static const uint32_t widths[] = {1, 1, 2, 4, 8, 1, 2, 4, 8, 8};
    if (attribute->type < sizeof widths / sizeof *widths)
        return widths[attribute->type];
    return attribute->type >= RB_TYPE_STR ? 2 + attribute->size : attribute->size;
}

/* The first byte says which of offset and size are left as they come, sound or not. */
static rb_plan_attribute take_attribute(struct input *input, uint32_t slot_bytes)
{
    uint32_t how = take(input, 1), room = slot_bytes > RB_CORE_BYTES ? slot_bytes - RB_CORE_BYTES : 1;
    rb_plan_attribute attribute = {.type = how % 18, .offset = take(input, 2), .size = take(input, 2)};
    attribute.key = take_text(input);
    if (attribute.type == RB_TYPE_LABEL) {
        attribute.label_count = take(input, 1);
        attribute.label_count = attribute.label_count == 255 ? MAX_NAMES : attribute.label_count % 8;
        attribute.labels = take_texts(input, attribute.label_count);
    }
    if (how < 240) {
        if (attribute.type == RB_TYPE_LABEL)
            attribute.size = 1 + attribute.size % 2;
        else if (attribute.type >= RB_TYPE_STR)
            attribute.size = room > 2 ? attribute.size % (room - 1) : 0;
        else
            attribute.size = 1 + attribute.size % room;
        uint32_t bytes = value_bytes(&attribute);
        attribute.offset = bytes <= room ? RB_CORE_BYTES + attribute.offset % (room - bytes + 1) : attribute.offset;
    }
    return attribute;
}

static void read_config(struct input *input, rb_plan_config *config, rb_plan_attribute *attributes)
{
    uint32_t slots = take(input, 1), names = take(input, 1);
    config->slot_bytes = slots == 255 ? take(input, 4) : slots == 254 ? RB_MAX_SLOT_BYTES : 64 * (1 + slots % 16);
    config->span_name_count = names == 255 ? 0 : names == 254 ? MAX_NAMES : 1 + names % 4;
    config->span_names = take_texts(input, config->span_name_count);
    config->attribute_count = take(input, 1) % (RB_MAX_ATTRIBUTES + 2);
    for (uint32_t i = 0; i < config->attribute_count; i++)
        attributes[i] = take_attribute(input, config->slot_bytes);
    config->attributes = attributes;
}

/* What a plan may not be made of, in other words than rb_plan_new's. */
static int is_sound(const rb_plan_config *config)
{
    uint32_t otlp = 0;
    int sound = config->slot_bytes >= 64 && config->slot_bytes <= 16384 && config->slot_bytes % 64 == 0;
    sound &= config->span_name_count >= 1 && config->attribute_count <= 32;
    for (uint32_t i = 0; sound && i < config->attribute_count; i++) {
        const rb_plan_attribute *attribute = &config->attributes[i];
        uint32_t type = attribute->type, size = attribute->size;
        otlp += type == RB_TYPE_OTLP;
        sound = type <= RB_TYPE_SCOPE && otlp <= 1 && (type != RB_TYPE_LABEL || size == 1 || size == 2) &&
                (type != RB_TYPE_HEX || size > 0) && attribute->offset >= 64 &&
                (uint64_t)attribute->offset + value_bytes(attribute) <= config->slot_bytes;
    }
    return sound;
}

/*
 * A record's first bytes are of the input, all others the filler, or with the highest bit of `how` the last up to 16 of
 * them again and again. An even `how` asks for a sound core.
 */
static void take_record(struct input *input, uint8_t *record, const rb_plan_config *config)
{
    uint32_t how = take(input, 1), filler = take(input, 1);
    size_t bytes = input->left < config->slot_bytes ? input->left : config->slot_bytes, period = 1 + filler % 16;
    memset(record, (int)filler, config->slot_bytes);
    memcpy(record, input->at, bytes);
    for (size_t i = bytes; how & 0x80 && bytes >= period && i < config->slot_bytes; i++)
        record[i] = record[i - period];
    input->at += bytes;
    input->left -= bytes;
    rb_record core;
    memcpy(&core, record, sizeof core);
    if (how % 2 == 0) {
        core.trace_id[3] |= 1;
        core.span_id[3] |= 1;
        core.reserved = 0;
        core.name = (uint16_t)(core.name % config->span_name_count);
        core.kind %= 6;
        core.status %= 3;
    }
    memcpy(record, &core, sizeof core);
    for (uint32_t i = 0; how % 4 == 0 && i < config->attribute_count; i++) {
        const rb_plan_attribute *attribute = &config->attributes[i];
        uint8_t *value = record + attribute->offset;
        uint32_t number = (uint32_t)(value[0] | (value_bytes(attribute) > 1 ? value[1] << 8 : 0));
        if (attribute->type == RB_TYPE_LABEL && attribute->label_count > 0)
            number %= attribute->label_count;
        else if (attribute->type >= RB_TYPE_STR)
            number %= attribute->size + 1;
        else
            continue;
        value[0] = (uint8_t)number;
        if (value_bytes(attribute) > 1)
            value[1] = (uint8_t)(number >> 8);
    }
}

/*
 * All records at once, and one by one with no more room than the bound: the same bytes, which are returned. The first
 * one with less room, too.
 */
static uint8_t *encode_twice(encode_function *encode, const rb_plan *plan, uint64_t bound, const uint8_t *records,
                             uint64_t count, uint32_t slot_bytes, uint64_t *spans, size_t *bytes)
{
    uint64_t invalid, room = bound * (count + 1);
    uint8_t *whole = malloc(room);
    assert(whole != NULL);
    int64_t written = encode(plan, records, count, whole, room, spans, &invalid);
    assert(written >= 0 && *spans + invalid == count && (written == 0) == (*spans == 0));
    *bytes = (size_t)written;
    size_t at = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t one_span, one_invalid;
        uint8_t *record = malloc(slot_bytes), *out = malloc(bound);
        assert(record != NULL && out != NULL);
        memcpy(record, records + i * slot_bytes, slot_bytes);
        int64_t part = encode(plan, record, 1, out, bound, &one_span, &one_invalid);
        assert(part >= 0 && (uint64_t)part <= bound && one_span + one_invalid == 1 && (part > 0) == (one_span == 1));
        if (encode == rb_encode_json && part > 0 && at > 0)
            assert(whole[at++] == ',');
        assert((size_t)part <= *bytes - at && memcmp(whole + at, out, (size_t)part) == 0);
        at += (size_t)part;
        if (i == 0)
            check_short_rooms(encode, plan, record, out, (size_t)part);
        free(record);
        free(out);
    }
    assert(at == *bytes);
    return whole;
}

/* rb_find_spans finds the spans that are encoded; where a scope is not sound, which is not encoded, it is stricter. */
static void check_spans(const rb_plan *plan, const uint8_t *records, uint64_t count, uint64_t encoded)
{
    uint8_t are_spans[MAX_RECORDS];
    uint64_t found = 0;
    int has_scope = 0;
    int64_t returned = rb_find_spans(plan, records, count, are_spans);
    for (uint64_t i = 0; i < count; i++)
        found += are_spans[i];
    for (uint32_t i = 0; i < RB_MAX_ATTRIBUTES; i++)
        has_scope |= plan->ops[i].type == RB_TYPE_SCOPE;
    assert(returned == (int64_t)found && (has_scope ? found <= encoded : found == encoded));
}

/* rb_protobuf_bytes counts what is encoded, to the byte; of layouts with text it says nothing. */
static void check_size(const rb_plan *plan, const uint8_t *records, uint64_t count, uint64_t encoded, size_t bytes)
{
    int has_text = 0;
    for (uint32_t i = 0; i < RB_MAX_ATTRIBUTES; i++) {
        uint32_t type = plan->ops[i].type;
        has_text |= type == RB_TYPE_STR || type == RB_TYPE_BYTES || type == RB_TYPE_OTLP || type == RB_TYPE_SCOPE;
    }
    uint64_t spans = 0, invalid = 0;
    int64_t counted = rb_protobuf_bytes(plan, records, count, &spans, &invalid);
    assert(has_text ? counted == RB_E_ARGUMENT
                    : counted == (int64_t)bytes && spans == encoded && spans + invalid == count);
}

/* The same spans straight to gzip, again and again: so that they are met again, and there are enough for a code. */
static void check_gzip(const rb_plan *plan, const uint8_t *records, uint64_t count, uint32_t slot_bytes, uint64_t spans,
                       const uint8_t *protobuf, size_t protobuf_bytes)
{
    rb_error error;
    rb_gzip *gzip = NULL;
    rb_gzip_layout *layout = NULL;
    const rb_gzip_around around = {{"\x0a\x00", 2, 0}, {"\x0a\x00", 2, 0}, {"\x1a\x00", 2, 0}, {"\x1a\x00", 2, 0}};
    if (!rb_gzip_is_supported())
        return;
    assert(rb_gzip_new(&gzip, &error) == RB_OK);
    int made = rb_gzip_layout_new(gzip, plan, &layout, &error);
    assert((made == RB_OK) == (layout != NULL) && (made == RB_OK || error.status == made));
    if (made != RB_OK) {
        rb_gzip_free(gzip);
        return;
    }
    uint8_t *again = malloc(count * slot_bytes * GZIP_TIMES + 1);
    size_t room = 2 * (protobuf_bytes * GZIP_TIMES + 64);
    uint8_t *plain = malloc(room);
    assert(again != NULL && plain != NULL);
    for (uint64_t i = 0; i < GZIP_TIMES; i++)
        memcpy(again + i * count * slot_bytes, records, count * slot_bytes);
    for (int member = 0; member < 2; member++) {
        uint64_t found, invalid, bytes, plain_bytes;
        const uint8_t *data;
        rb_gzip_begin(gzip);
        for (int segment = 0; segment < 2; segment++) {
            assert(rb_gzip_segment(gzip, layout, &around, again, count * GZIP_TIMES, &found, &invalid) == RB_OK);
            assert(found == spans * GZIP_TIMES && found + invalid == count * GZIP_TIMES);
        }
        assert(rb_gzip_finish(gzip, &data, &bytes, &plain_bytes) == RB_OK);
        assert(gunzip(data, bytes, plain, room) == plain_bytes && (plain_bytes == 0) == (spans == 0));
        for (size_t segment = 0; segment < (spans ? 2u : 0u); segment++) {
            size_t end = plain_bytes / 2 * (segment + 1) - 4; /* both are alike; schema_url twice behind the spans */
            assert(end >= protobuf_bytes * GZIP_TIMES);
            for (size_t i = 0; i < GZIP_TIMES; i++)
                assert(memcmp(plain + end - (i + 1) * protobuf_bytes, protobuf, protobuf_bytes) == 0);
        }
    }
    rb_gzip_layout_free(layout);
    rb_gzip_free(gzip);
    free(again);
    free(plain);
}

static void check_records(const rb_plan *plan, const uint8_t *records, uint64_t count, uint32_t slot_bytes)
{
    uint64_t protobuf_spans, json_spans;
    size_t protobuf_bytes, json_bytes;
    uint8_t *protobuf = encode_twice(rb_encode_protobuf, plan, rb_plan_protobuf_bound(plan), records, count, slot_bytes,
                                     &protobuf_spans, &protobuf_bytes);
    uint8_t *json = encode_twice(rb_encode_json, plan, rb_plan_json_bound(plan), records, count, slot_bytes,
                                 &json_spans, &json_bytes);
    struct otlp_counts in_protobuf = otlp_check_protobuf(protobuf, protobuf_bytes);
    struct otlp_counts in_json = otlp_check_json(json, json_bytes);
    assert(in_protobuf.spans == protobuf_spans && in_json.spans == json_spans && protobuf_spans == json_spans);
    assert(in_protobuf.attributes == in_json.attributes);
    check_spans(plan, records, count, protobuf_spans);
    check_size(plan, records, count, protobuf_spans, protobuf_bytes);
    check_gzip(plan, records, count, slot_bytes, protobuf_spans, protobuf, protobuf_bytes);
    free(protobuf);
    free(json);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct input input = {data, bytes};
    rb_plan_config config = {0};
    rb_plan_attribute attributes[RB_MAX_ATTRIBUTES + 1] = {0};
    read_config(&input, &config, attributes);

    rb_plan *plan = NULL;
    rb_error error = {0};
    int status = rb_plan_new(&config, &plan, &error);
    assert((status == RB_OK) == (plan != NULL) && (status == RB_OK || error.status == status));
    assert(status == RB_E_TOO_LARGE || (status == RB_OK) == is_sound(&config));
    uint8_t *records = NULL;
    uint32_t count = 0;
    if (plan != NULL && rb_plan_json_bound(plan) <= MAX_PLAN_BYTES) {
        records = malloc(MAX_RECORDS * (size_t)config.slot_bytes + 1);
        assert(records != NULL);
        for (; count < MAX_RECORDS && input.left > 0; count++)
            take_record(&input, records + 1 + count * (size_t)config.slot_bytes, &config); /* at an odd address */
    }
    for (uint32_t i = 0; i < config.attribute_count; i++) { /* the plan has copied what it needs */
        free((void *)attributes[i].key.data);
        free_texts(attributes[i].labels, attributes[i].label_count);
    }
    free_texts(config.span_names, config.span_name_count);
    if (records != NULL)
        check_records(plan, records + 1, count, config.slot_bytes);
    free(records);
    rb_plan_free(plan);
    return 0;
}
