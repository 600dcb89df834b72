/* The same spans by ringbuf_site.h and by hand, for test_native_site.py, which counts their instructions. */
#include <ringbuf_site.h>

#include "files_layout.h"

RB_SITE(chunk_site, FILES_NAME_CHUNK, RB_KIND_CLIENT, FILES_PRESENT_BYTES | FILES_PRESENT_OFFSET);

__attribute__((noinline)) int emit_by_site(rb_producer *producer, uint64_t start, uint64_t end, uint64_t bytes,
                                           uint64_t offset)
{
    return RB_EMIT(producer, chunk_site, NULL, files_record, chunk, start, end, chunk.bytes = bytes;
                   chunk.offset = offset);
}

__attribute__((noinline)) int emit_by_hand(rb_producer *producer, uint64_t start, uint64_t end, uint64_t bytes,
                                           uint64_t offset)
{
    files_record chunk;
    rb_span span;
    memset(&chunk, 0, sizeof chunk);
    chunk.core.start_unix_nano = start;
    chunk.core.end_unix_nano = end;
    chunk.core.present = FILES_PRESENT_BYTES | FILES_PRESENT_OFFSET;
    chunk.core.name = FILES_NAME_CHUNK;
    chunk.core.kind = RB_KIND_CLIENT;
    rb_span_begin(producer, NULL, &span);
    rb_span_identify(&span, &chunk.core);
    chunk.core.present |= rb_present_alone(producer); /* nobody else is given its ids */
    chunk.bytes = bytes;
    chunk.offset = offset;
    return rb_emit(producer, &chunk.core);
}

__attribute__((noinline)) int span_by_site(rb_producer *producer, const rb_span *parent, uint64_t (*work)(void))
{
    files_record chunk;
    rb_span span;
    RB_BEGIN(producer, chunk_site, &chunk, &span, parent);
    files_set_bytes(&chunk, work());
    return rb_end(producer, &span, &chunk.core);
}

__attribute__((noinline)) int span_by_hand(rb_producer *producer, const rb_span *parent, uint64_t (*work)(void))
{
    files_record chunk;
    rb_span span;
    memset(&chunk, 0, sizeof chunk);
    chunk.core.present = FILES_PRESENT_BYTES | FILES_PRESENT_OFFSET;
    chunk.core.name = FILES_NAME_CHUNK;
    chunk.core.kind = RB_KIND_CLIENT;
    rb_span_begin(producer, parent, &span);
    rb_span_start(&span);
    chunk.bytes = work();
    chunk.core.present |= FILES_PRESENT_BYTES;
    rb_span_end(&span, rb_clock_monotonic_nano(), &chunk.core);
    return rb_emit(producer, &chunk.core);
}

static uint64_t work(void) { return 7; }

/* Usage: site_and_hand RING_DIR; calls each function of above 100 times. */
int main(int argc, char **argv)
{
    enum { COUNT = 100 };
    char path[RB_MAX_PATH_BYTES];
    rb_config config;
    rb_error error;
    rb_span parent;
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
    rb_span_begin(producer, NULL, &parent);
    for (uint64_t i = 0; i < COUNT; i++) {
        written += emit_by_site(producer, i, i, i, i);
        written += emit_by_hand(producer, i, i, i, i);
        written += span_by_site(producer, &parent, work);
        written += span_by_hand(producer, &parent, work);
    }
    return written != 4 * COUNT || rb_close(producer) != RB_OK;
}
