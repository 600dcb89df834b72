/*
 * A native producer as a user writes one, valid C11 and valid C++17: it needs the installed ringbuf.h and nothing else.
 * Usage: native_producer RING_DIR COUNT; prints the path of the ring that it leaves behind, closed.
 */
#include <ringbuf.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    static const char layout[] = "{}", resource[] = "{\"service.name\":\"native\"}";
    char path[RB_MAX_PATH_BYTES];
    rb_config config;
    rb_error error;
    rb_record record;
    rb_producer *producer = rb_producer_new();

    if (argc != 3 || producer == NULL)
        return 2;
    memset(&config, 0, sizeof config);
    config.ring_dir = argv[1];
    config.service_name = "native";
    config.layout_json = layout;
    config.layout_bytes = sizeof layout - 1;
    config.resource_json = resource;
    config.resource_bytes = sizeof resource - 1;
    config.slot_bytes = RB_CORE_BYTES;
    config.span_name_count = 1;
    config.lane_count = 1;
    config.capacity_slots = 64;
    config.file_mode = 0600;
    config.root_always = 1;
    if (rb_open(producer, &config, path, &error) != RB_OK) {
        fprintf(stderr, "%s: %s\n", rb_strerror(error.status), error.detail);
        return 1;
    }

    for (int i = 0; i < atoi(argv[2]); i++) {
        memset(&record, 0, sizeof record);
        record.start_unix_nano = 1000u + (uint64_t)i;
        record.end_unix_nano = rb_clock_unix_nano();
        record.kind = 1;
        record.flags = RB_SPAN_SAMPLED | RB_SPAN_HAS_IS_REMOTE;
        rb_new_ids(producer, record.trace_id, record.span_id);
        if (rb_emit(producer, &record) != 1)
            return 1;
    }
    if (rb_close(producer) != RB_OK)
        return 1;
    rb_producer_free(producer);
    puts(path);
    return 0;
}
