/*
 * A producer that knows its layout from the generated header alone. Usage: native_layout RING_DIR; emits two spans, one
 * with every attribute and one with none, and closes its ring. Valid C11 and C++17.
 */
#include "everything_layout.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    static const char resource[] = "{\"service.name\":\"native-layout\"}", text[] = "grün und blau";
    static const uint8_t id[5] = {0xde, 0xad, 0xbe, 0xef, 0x01};
    char path[RB_MAX_PATH_BYTES];
    rb_config config;
    rb_error error;
    everything_record record;
    rb_producer *producer = rb_producer_new();

    if (argc != 2 || producer == NULL)
        return 2;
    memset(&config, 0, sizeof config);
    everything_config(&config);
    config.ring_dir = argv[1];
    config.service_name = "native-layout";
    config.resource_json = resource;
    config.resource_bytes = sizeof resource - 1;
    config.lane_count = 1;
    config.capacity_slots = 8;
    config.file_mode = 0600;
    config.root_always = 1;
    if (rb_open(producer, &config, path, &error) != RB_OK) {
        fprintf(stderr, "%s\n", error.detail);
        return 1;
    }
    everything_init(&record, EVERYTHING_NAME_SECOND);
    rb_new_ids(producer, record.core.trace_id, record.core.span_id);
    record.core.start_unix_nano = 1000;
    record.core.end_unix_nano = 1001;
    everything_set_flag(&record, true);
    everything_set_i8(&record, INT8_MIN);
    everything_set_i16(&record, INT16_MIN);
    everything_set_i32(&record, INT32_MIN);
    everything_set_i64(&record, INT64_MIN);
    everything_set_u8(&record, UINT8_MAX);
    everything_set_u16(&record, UINT16_MAX);
    everything_set_u32(&record, UINT32_MAX);
    everything_set_u64(&record, INT64_MAX);
    everything_set_ratio(&record, 0.75);
    everything_set_outcome(&record, EVERYTHING_OUTCOME_NOT_FOUND);
    everything_set_lease(&record, id);
    if (everything_set_text(&record, text, 4) != 0)
        return 1;
    if (!everything_set_cut(&record, text, sizeof text - 1)) /* "gr": the third byte would be half an umlaut */
        return 1;
    everything_set_raw(&record, "\0\377", 2);
    if (rb_emit(producer, &record.core) != 1)
        return 1;
    everything_init(&record, EVERYTHING_NAME_FIRST);
    rb_new_ids(producer, record.core.trace_id, record.core.span_id);
    if (rb_emit(producer, &record.core) != 1 || rb_close(producer) != RB_OK)
        return 1;
    rb_producer_free(producer);
    return 0;
}
