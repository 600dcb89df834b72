/*
 * A ring that takes another's place goes by its own config: its sampler's settings are taken over, and what cannot
 * change while threads write is refused by name.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ring_for_test.h"

enum { CAPACITY = 8 };

static const char *directory;
static char path[RB_MAX_PATH_BYTES];

static int emit(rb_producer *producer, uint16_t name, uint32_t flags)
{
    rb_record record;
    memset(&record, 0, sizeof record);
    record.trace_id[0] = record.span_id[0] = 1;
    record.name = name;
    record.flags = flags;
    return rb_emit(producer, &record);
}

static uint32_t root_flags(rb_producer *producer)
{
    rb_span span;
    assert(rb_span_begin(producer, NULL, &span) == RB_OK);
    return span.flags & RB_SPAN_SAMPLED;
}

static uint64_t stated_threshold(void)
{
    rb_header header;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert(fd >= 0 && pread(fd, &header, sizeof header, 0) == (ssize_t)sizeof header && close(fd) == 0);
    return header.root_threshold;
}

static void replace(rb_producer *producer, const rb_config *config)
{
    assert(unlink(path) == 0);
    open_ring(producer, config, path);
}

static void take_over_the_sampler(void)
{
    rb_config config = ring_config(directory, CAPACITY);
    rb_producer *producer = new_producer();
    open_ring(producer, &config, path);
    assert(root_flags(producer) == RB_SPAN_SAMPLED && emit(producer, 0, 0) == 0);
    assert(stated_threshold() == 1);

    config.root_always = 0; /* and root_bound is 0: never */
    replace(producer, &config);
    assert(root_flags(producer) == 0 && emit(producer, 0, 0) == 0);

    config.emit_unsampled = 1;
    replace(producer, &config);
    assert(root_flags(producer) == 0 && emit(producer, 0, 0) == 1);

    config.root_bound = UINT64_MAX;
    config.emit_unsampled = 0;
    replace(producer, &config);
    assert(root_flags(producer) == RB_SPAN_SAMPLED && emit(producer, 0, 0) == 0);

    /* Roots that began under the sampler before are yet to be written: the first ring of another one states nothing. */
    config.root_threshold = RB_THRESHOLDS;
    replace(producer, &config);
    assert(stated_threshold() == 0 && root_flags(producer) == 0);
    replace(producer, &config);
    assert(stated_threshold() == RB_THRESHOLDS);
    config.root_threshold = 1;
    replace(producer, &config);
    assert(stated_threshold() == 0 && root_flags(producer) == RB_SPAN_SAMPLED);
    config.root_threshold = RB_THRESHOLDS + 1;
    rb_error error;
    char unused[RB_MAX_PATH_BYTES];
    assert(rb_open(producer, &config, unused, &error) == RB_E_ARGUMENT &&
           strncmp(error.detail, "root_threshold", 14) == 0);
    remove_ring(producer, path);
}

static void refused(rb_producer *producer, const rb_config *config, const char *name)
{
    char unused[RB_MAX_PATH_BYTES];
    rb_error error;
    assert(rb_open(producer, config, unused, &error) == RB_E_ARGUMENT);
    if (strncmp(error.detail, name, strlen(name)) != 0) {
        fprintf(stderr, "%s: %s\n", name, error.detail);
        abort();
    }
    /* The producer is as it was. */
    assert(access(path, F_OK) == 0 && emit(producer, 1, RB_SPAN_SAMPLED) == 1);
    assert(emit(producer, 2, RB_SPAN_SAMPLED) == RB_E_RECORD);
}

static void refuse_by_name(void)
{
    static char large[RB_PAGE_BYTES];
    rb_config config = ring_config(directory, CAPACITY);
    rb_producer *producer = new_producer();
    config.span_name_count = 2;
    open_ring(producer, &config, path);

    rb_config names = config, layout = config, slots = config, lanes = config, capacity = config, resource = config;
    names.span_name_count = 3;
    refused(producer, &names, "span_name_count");
    layout.layout_json = "[]";
    refused(producer, &layout, "layout_json");
    slots.slot_bytes = 2 * RB_CORE_BYTES;
    refused(producer, &slots, "slot_bytes");
    lanes.lane_count = 2;
    refused(producer, &lanes, "lane_count");
    capacity.capacity_slots = 2 * CAPACITY;
    refused(producer, &capacity, "capacity_slots");
    memset(large, ' ', sizeof large);
    resource.resource_json = large;
    resource.resource_bytes = sizeof large;
    refused(producer, &resource, "the size of layout_json and resource_json");
    remove_ring(producer, path);
}

int main(void)
{
    directory = make_directory("replace_settings");
    take_over_the_sampler();
    refuse_by_name();
    assert(rmdir(directory) == 0);
    return 0;
}
