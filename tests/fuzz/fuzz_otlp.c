/*
 * Fuzz target: the OTLP that a producer wrote itself. The input: one byte for the type (otlp or scope) and the core's
 * status, then the value; with the byte's highest bit the value comes again and again, as often as a slot has room for.
 * What is found sound must come out as well-formed OTLP with everything that it held, the rest as an invalid record.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "otlp_check.h"
#include "ringbuf.h"
#include "short_room.h"

#define VALUE_BYTES(slot_bytes) ((slot_bytes) - RB_CORE_BYTES - 2)
#define SMALL_SLOT_BYTES 1024 /* for most values: memory of 16 KiB and more takes its time */
#define REPEATED 0x80

static rb_plan *small_plan, *large_plan;

static rb_plan *make_plan(uint32_t slot_bytes)
{
    static const rb_text name = {.data = "name", .bytes = 4};
    rb_plan_attribute attribute = {.type = RB_TYPE_OTLP, .offset = RB_CORE_BYTES, .size = VALUE_BYTES(slot_bytes)};
    rb_plan_config config = {
        .span_names = &name,
        .span_name_count = 1,
        .attributes = &attribute,
        .attribute_count = 1,
        .slot_bytes = slot_bytes,
    };
    rb_plan *plan = NULL;
    int status = rb_plan_new(&config, &plan, NULL);
    assert(status == RB_OK);
    return plan;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    small_plan = make_plan(SMALL_SLOT_BYTES);
    large_plan = make_plan(RB_MAX_SLOT_BYTES);
    return 0;
}

static void check_record(const rb_plan *plan, const uint8_t *record, uint64_t expected)
{
    uint64_t spans, invalid, room = rb_plan_protobuf_bound(plan);
    uint8_t *out = malloc(room);
    assert(out != NULL);
    int64_t bytes = rb_encode_protobuf(plan, record, 1, out, room, &spans, &invalid);
    assert(bytes >= 0 && (uint64_t)bytes <= room && spans == expected && spans + invalid == 1);
    struct otlp_counts protobuf = otlp_check_protobuf(out, (size_t)bytes);
    check_short_rooms(rb_encode_protobuf, plan, record, out, (size_t)bytes);
    free(out);
    room = rb_plan_json_bound(plan);
    out = malloc(room);
    assert(out != NULL);
    bytes = rb_encode_json(plan, record, 1, out, room, &spans, &invalid);
    assert(bytes >= 0 && (uint64_t)bytes <= room && spans == expected && spans + invalid == 1);
    struct otlp_counts json = otlp_check_json(out, (size_t)bytes);
    check_short_rooms(rb_encode_json, plan, record, out, (size_t)bytes);
    free(out);
    assert(protobuf.spans == expected && json.spans == expected && protobuf.attributes == json.attributes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes < 1 || bytes - 1 > VALUE_BYTES(RB_MAX_SLOT_BYTES))
        return 0;
    uint32_t how = data[0];
    size_t times = how & REPEATED && bytes > 1 ? VALUE_BYTES(RB_MAX_SLOT_BYTES) / (bytes - 1) : 1;
    uint16_t value_bytes = (uint16_t)(times * (bytes - 1));
    uint8_t *value = malloc(value_bytes ? value_bytes : 1); /* of just this size, so that a read beyond it is seen */
    const rb_plan *plan = value_bytes <= VALUE_BYTES(SMALL_SLOT_BYTES) ? small_plan : large_plan;
    uint8_t *record = malloc(plan->slot_bytes);
    assert(value != NULL && record != NULL);
    for (size_t i = 0; i < times; i++)
        memcpy(value + i * (bytes - 1), data + 1, bytes - 1);
    int is_sound = rb_otlp_is_sound(how & 1 ? RB_TYPE_SCOPE : RB_TYPE_OTLP, value, value_bytes);
    assert(is_sound == 0 || is_sound == 1);
    if ((how & 1) == 0) {
        rb_record core = {.trace_id = {1}, .span_id = {1}, .present = 1, .status = (uint8_t)(how % REPEATED / 2 % 3)};
        memset(record, 0xff, plan->slot_bytes);
        memcpy(record, &core, sizeof core);
        memcpy(record + RB_CORE_BYTES, &value_bytes, 2);
        memcpy(record + RB_CORE_BYTES + 2, value, value_bytes);
        check_record(plan, record, (uint64_t)is_sound);
    }
    free(value);
    free(record);
    return 0;
}
