/*
 * Calls one hot function CALLS times, for bench/cost/instructions.py to count its instructions: `instructions NAME RING_DIR`.
 * Prints how many operations (spans) that were.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../emit/ring_for_bench.h"
#include "sampling/traces.h"

enum { SLOT_BYTES = 128, CALLS = 4000, RECORDS = 1000, LEASE_BYTES = 16 };
enum { LEASE_AT = RB_CORE_BYTES, BYTES_AT = LEASE_AT + LEASE_BYTES, LABELS_AT = BYTES_AT + 8 };

typedef struct slot {
    rb_record core;
    uint8_t attributes[SLOT_BYTES - RB_CORE_BYTES];
} slot;

static rb_producer *producer;
static slot record, records[RECORDS];

static void check(int is_right, const char *what)
{
    if (!is_right) {
        fprintf(stderr, "instructions: %s\n", what);
        exit(1);
    }
}

static int emit(void)
{
    for (int i = 0; i < CALLS; i++)
        check(rb_emit(producer, &record.core) == 1, "rb_emit");
    return CALLS;
}

static int lane_emit(void)
{
    rb_held_lane *lane = rb_lane_hold(producer);
    check(lane != NULL, "rb_lane_hold");
    for (int i = 0; i < CALLS; i++)
        check(rb_lane_emit(producer, lane, &record.core) == 1, "rb_lane_emit");
    rb_lane_give_back(lane);
    return CALLS;
}

static int span_begin(void)
{
    rb_span span;
    for (int i = 0; i < CALLS; i++)
        check(rb_span_begin(producer, NULL, &span) == RB_OK, "rb_span_begin");
    return CALLS;
}

static int emit_batch(void)
{
    check(rb_emit_batch(producer, &records[0].core, RECORDS) == RECORDS, "rb_emit_batch");
    return RECORDS;
}

static rb_text text(const char *data)
{
    rb_text made = {data, (uint32_t)strlen(data), 0};
    return made;
}

/* The attributes of Phase 219: an id, a number, three labels. */
static rb_plan *make_plan(void)
{
    static rb_text names[1], labels[2];
    static rb_plan_attribute attributes[5];
    static const char *const keys[] = {"grafos.lease.id", "grafos.bytes", "grafos.resource.kind", "grafos.operation",
                                       "grafos.outcome"};
    rb_plan_config config;
    rb_plan *plan;
    rb_error error;
    names[0] = text("grafos.dataplane.fbmu");
    labels[0] = text("memory");
    labels[1] = text("fbmu_read");
    memset(&config, 0, sizeof config);
    for (uint32_t i = 0; i < 5; i++) {
        attributes[i].key = text(keys[i]);
        attributes[i].type = RB_TYPE_LABEL;
        attributes[i].labels = labels;
        attributes[i].label_count = 2;
        attributes[i].offset = LABELS_AT + i;
        attributes[i].size = 1;
    }
    attributes[0].type = RB_TYPE_HEX;
    attributes[0].offset = LEASE_AT;
    attributes[0].size = LEASE_BYTES;
    attributes[1].type = RB_TYPE_U64;
    attributes[1].offset = BYTES_AT;
    attributes[1].size = 8;
    attributes[0].labels = attributes[1].labels = NULL;
    attributes[0].label_count = attributes[1].label_count = 0;
    config.span_names = names;
    config.attributes = attributes;
    config.span_name_count = 1;
    config.attribute_count = 5;
    config.slot_bytes = SLOT_BYTES;
    check(rb_plan_new(&config, &plan, &error) == RB_OK, "rb_plan_new");
    return plan;
}

static int encode(int is_json)
{
    rb_plan *plan = make_plan();
    uint64_t bound = (is_json ? rb_plan_json_bound(plan) : rb_plan_protobuf_bound(plan)) * (RECORDS + 1);
    uint64_t spans = 0, invalid = 0;
    void *out = malloc(bound);
    check(out != NULL, "memory is short");
    int64_t bytes = is_json ? rb_encode_json(plan, records, RECORDS, out, bound, &spans, &invalid)
                            : rb_encode_protobuf(plan, records, RECORDS, out, bound, &spans, &invalid);
    check(bytes > 0 && spans == RECORDS && invalid == 0, "encode");
    free(out);
    rb_plan_free(plan);
    return RECORDS;
}

static int encode_protobuf(void) { return encode(0); }
static int encode_json(void) { return encode(1); }

static uint64_t mixed(uint64_t number)
{
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9u;
    number = (number ^ number >> 27) * 0x94D049BB133111EBu;
    return number ^ number >> 31;
}

/* Spans of many traces and times, with 64 leases, again and again; what is learnt of them is counted, too. */
static int gzip_segment(void)
{
    enum { SEGMENTS = 4, LEASES = 64 };
    rb_plan *plan = make_plan();
    rb_gzip *writer;
    rb_gzip_layout *layout;
    rb_gzip_around around = {{"\x0a\x00", 2, 0}, {"\x0a\x00", 2, 0}, {NULL, 0, 0}, {NULL, 0, 0}};
    uint64_t spans = 0, invalid = 0, time = record.core.start_unix_nano;
    check(rb_gzip_new(&writer, NULL) == RB_OK, "rb_gzip_new");
    check(rb_gzip_layout_new(writer, plan, &layout, NULL) == RB_OK, "rb_gzip_layout_new");
    rb_gzip_begin(writer);
    for (uint64_t segment = 0; segment < SEGMENTS; segment++) {
        for (uint64_t i = 0; i < RECORDS; i++) {
            uint64_t number = RECORDS * segment + i + 1;
            uint64_t ids[] = {mixed(number), mixed(~number), mixed(number << 32), mixed(number % LEASES + 1)};
            memcpy(records[i].core.trace_id, ids, 16);
            memcpy(records[i].core.span_id, ids + 2, 8);
            memcpy(records[i].attributes, ids + 3, 8);
            records[i].core.start_unix_nano = time += 1000 + ids[0] % 100000;
            records[i].core.end_unix_nano = time + ids[1] % 100000;
            records[i].attributes[BYTES_AT - RB_CORE_BYTES + 1] = (uint8_t)(ids[2] % 8);
        }
        check(rb_gzip_segment(writer, layout, &around, records, RECORDS, &spans, &invalid) == RB_OK && spans == RECORDS,
              "rb_gzip_segment");
    }
    rb_gzip_layout_free(layout);
    rb_gzip_free(writer);
    rb_plan_free(plan);
    return SEGMENTS * RECORDS;
}

/* Traces of ten spans, all of which wait. */
static int look_at_traces(void)
{
    static uint64_t masks[RECORDS], stated[RECORDS], drew[RECORDS];
    static uint32_t fates[RECORDS], spans[RECORDS];
    rb_trace_rule rules[2] = {{.keeps_all = 1}, {.keeps_all = 1}};
    rb_traces_config config = {.wait_nano = 1000, .wait_after_root_nano = 1000, .wait_after_entry_nano = 1000};
    config.rules = rules;
    config.rule_count = 2;
    config.trace_room = config.span_room = config.decided_room = config.look_room = 4096;
    rb_traces *table;
    check(rb_traces_new(&config, &table, NULL) == RB_OK, "rb_traces_new");
    rb_look look = {.records = records, .masks = masks, .fates = fates, .stated = stated, .drew = drew, .spans = spans};
    look.count = RECORDS;
    look.slot_bytes = SLOT_BYTES;
    look.origin = (uint32_t)rb_traces_join(table);
    for (int i = 0; i < RECORDS; i++) {
        masks[i] = 2;
        records[i].core.trace_id[15] = (uint8_t)(i / 10);
        records[i].core.parent_span_id[0] = 1;
    }
    check(rb_traces_look(table, &look) == RB_OK && fates[RECORDS - 1] == 0, "rb_traces_look");
    rb_traces_free(table);
    return RECORDS;
}

static const struct hot {
    const char *name;
    int (*run)(void);
} hot[] = {
    {"rb_emit", emit},
    {"rb_lane_emit", lane_emit},
    {"rb_span_begin", span_begin},
    {"rb_emit_batch", emit_batch},
    {"rb_encode_protobuf", encode_protobuf},
    {"rb_encode_json", encode_json},
    {"rb_gzip_segment", gzip_segment},
    {"rb_traces_look", look_at_traces},
};

int main(int argc, char **argv)
{
    char path[RB_MAX_PATH_BYTES];
    check(argc == 3, "usage: instructions NAME RING_DIR");
    record.core.start_unix_nano = 1700000000000000000u;
    record.core.end_unix_nano = 1700000000000001500u;
    record.core.present = 31;
    make_sampled(&record.core);
    memset(record.attributes, 1, LEASE_BYTES);
    for (int i = 0; i < RECORDS; i++)
        records[i] = record;
    producer = open_ring(argv[2], SLOT_BYTES, 8192, path);
    check(producer != NULL, "rb_open");
    for (size_t i = 0; i < sizeof hot / sizeof hot[0]; i++)
        if (strcmp(argv[1], hot[i].name) == 0) {
            printf("%d\n", hot[i].run());
            rb_close(producer);
            rb_producer_free(producer);
            return 0;
        }
    check(0, "no such function");
}
