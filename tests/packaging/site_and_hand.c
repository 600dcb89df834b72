/* The same spans by ringbuf_site.h and by hand, for test_native_site.py, which counts their instructions. */
#include <ringbuf_site.h>

#include "files_layout.h"

RB_SITE(chunk_site, FILES_NAME_CHUNK, RB_KIND_CLIENT, FILES_PRESENT_BYTES | FILES_PRESENT_OFFSET);

__attribute__((noinline)) int emit_by_site(rb_producer *producer, uint64_t start, uint64_t end, uint64_t bytes,
                                           uint64_t offset)
{
    return RB_EMIT(producer, chunk_site, files_record, span, start, end, span.bytes = bytes; span.offset = offset);
}

__attribute__((noinline)) int emit_by_hand(rb_producer *producer, uint64_t start, uint64_t end, uint64_t bytes,
                                           uint64_t offset)
{
    files_record span;
    memset(&span, 0, sizeof span);
    span.core.start_unix_nano = start;
    span.core.end_unix_nano = end;
    span.core.present = FILES_PRESENT_BYTES | FILES_PRESENT_OFFSET;
    span.core.name = FILES_NAME_CHUNK;
    span.core.kind = RB_KIND_CLIENT;
    span.core.flags = RB_SPAN_SAMPLED | RB_SPAN_HAS_IS_REMOTE;
    rb_new_ids(producer, span.core.trace_id, span.core.span_id);
    span.bytes = bytes;
    span.offset = offset;
    return rb_emit(producer, &span.core);
}

__attribute__((noinline)) int span_by_site(rb_producer *producer, const rb_record *parent, uint64_t (*work)(void))
{
    files_record span;
    RB_BEGIN(producer, chunk_site, &span, parent);
    files_set_bytes(&span, work());
    return rb_end(producer, &span.core);
}

__attribute__((noinline)) int span_by_hand(rb_producer *producer, const rb_record *parent, uint64_t (*work)(void))
{
    files_record span;
    memset(&span, 0, sizeof span);
    span.core.present = FILES_PRESENT_BYTES | FILES_PRESENT_OFFSET;
    span.core.name = FILES_NAME_CHUNK;
    span.core.kind = RB_KIND_CLIENT;
    span.core.flags = RB_SPAN_SAMPLED | RB_SPAN_HAS_IS_REMOTE;
    rb_new_ids(producer, span.core.trace_id, span.core.span_id);
    if (parent != NULL) {
        memcpy(span.core.trace_id, parent->trace_id, 16);
        memcpy(span.core.parent_span_id, parent->span_id, 8);
        span.core.flags = (parent->flags & (RB_SPAN_SAMPLED | RB_SPAN_RANDOM)) | RB_SPAN_HAS_IS_REMOTE;
    }
    span.core.start_unix_nano = rb_clock_unix_nano();
    span.bytes = work();
    span.core.present |= FILES_PRESENT_BYTES;
    span.core.end_unix_nano = rb_clock_unix_nano();
    return rb_emit(producer, &span.core);
}

static uint64_t work(void) { return 7; }

/* Usage: site_and_hand RING_DIR; calls each function of above 100 times. */
int main(int argc, char **argv)
{
    enum { COUNT = 100 };
    char path[RB_MAX_PATH_BYTES];
    rb_config config;
    rb_error error;
    rb_record parent = chunk_site;
    rb_producer *producer = rb_producer_new();
    int written = 0;
    if (argc != 2 || producer == NULL)
        return 2;
    memset(&config, 0, sizeof config);
    files_config(&config);
    config.ring_dir = argv[1];
    config.service_name = "site";
    config.resource_json = "{}";
    config.resource_bytes = 2;
    config.lane_count = 1;
    config.capacity_slots = 1024;
    config.file_mode = 0600;
    config.root_always = 1;
    if (rb_open(producer, &config, path, &error) != RB_OK)
        return 1;
    rb_new_ids(producer, parent.trace_id, parent.span_id);
    for (uint64_t i = 0; i < COUNT; i++) {
        written += emit_by_site(producer, i, i, i, i);
        written += emit_by_hand(producer, i, i, i, i);
        written += span_by_site(producer, &parent, work);
        written += span_by_hand(producer, &parent, work);
    }
    return written != 4 * COUNT || rb_close(producer) != RB_OK;
}
