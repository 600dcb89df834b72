/*
 * Usage: traceparent RING_DIR HEADER: a span under the one that the header names, where it names one. Prints the header
 * that it would send along. Valid C11 and C++17.
 */
#include "files_layout.h"
#include <ringbuf_site.h>

#include <stdio.h>

RB_SITE(site, FILES_NAME_COPY, RB_KIND_SERVER, 0);

int main(int argc, char **argv)
{
    char path[RB_MAX_PATH_BYTES], header[56];
    rb_config config;
    rb_error error;
    files_record record;
    rb_span span, parent;
    rb_producer *producer = rb_producer_new();
    if (argc != 3 || producer == NULL)
        return 2;
    memset(&config, 0, sizeof config);
    files_config(&config);
    config.ring_dir = argv[1];
    config.service_name = "traceparent";
    config.resource_json = "{}";
    config.resource_bytes = 2;
    config.lane_count = 1;
    config.capacity_slots = 4;
    config.file_mode = 0600;
    config.root_always = 1;
    if (rb_open(producer, &config, path, &error) != RB_OK)
        return 1;
    int rv = rb_parent_from_traceparent(argv[2], strlen(argv[2]), &parent);
    RB_BEGIN(producer, site, &record, &span, rv == RB_OK ? &parent : NULL);
    rb_traceparent(&span, header);
    printf("%d %s\n", rv, header);
    return (rb_end(producer, &span, &record.core) & 1) != (int)(span.flags & RB_SPAN_SAMPLED) ||
           rb_close(producer) != RB_OK;
}
