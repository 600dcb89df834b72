/* What the C benchmarks share: a ring, its consumer, and the span that they emit. */
#ifndef RING_FOR_BENCH_H
#define RING_FOR_BENCH_H

#include <ringbuf.h>

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* A ring of one lane; `path` has room for RB_MAX_PATH_BYTES. NULL: it cannot be opened. */
static inline rb_producer *open_ring(const char *directory, uint32_t slot_bytes, uint32_t capacity_slots, char *path)
{
    static const char layout[] = "{}", resource[] = "{\"service.name\":\"bench\"}";
    rb_config config = {.ring_dir = directory,
                        .service_name = "bench",
                        .layout_json = layout,
                        .resource_json = resource,
                        .layout_bytes = sizeof layout - 1,
                        .resource_bytes = sizeof resource - 1,
                        .slot_bytes = slot_bytes,
                        .span_name_count = 1,
                        .lane_count = 1,
                        .capacity_slots = capacity_slots,
                        .file_mode = 0600,
                        .root_always = 1};
    rb_error error;
    rb_producer *producer = rb_producer_new();
    return producer != NULL && rb_open(producer, &config, path, &error) == RB_OK ? producer : NULL;
}

/* NULL: it cannot be attached. */
static inline rb_consumer *attach_consumer(const char *path)
{
    rb_consumer *consumer = NULL;
    rb_error error;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    if (rb_attach(fd, RB_CONSUME, 0, &consumer, &error) != RB_OK)
        consumer = NULL;
    close(fd);
    return consumer;
}

/* All that a record needs but for its times. */
static inline void make_sampled(rb_record *core)
{
    core->kind = 1;
    core->flags = RB_SPAN_SAMPLED | RB_SPAN_HAS_IS_REMOTE;
    memset(core->trace_id, 1, sizeof core->trace_id);
    memset(core->span_id, 1, sizeof core->span_id);
}

#endif
