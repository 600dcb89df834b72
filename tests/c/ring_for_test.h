/* What the C tests open: a ring in a directory of their own, which each removes at its end. */
#ifndef RING_FOR_TEST_H
#define RING_FOR_TEST_H

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "ringbuf.h"

/* One for the whole program, in RINGBUF_DIR or /dev/shm. */
static inline const char *make_directory(const char *name)
{
    static char directory[RB_MAX_PATH_BYTES / 2];
    const char *place = getenv("RINGBUF_DIR");
    int length = snprintf(directory, sizeof directory, "%s/ringbuf-%s-XXXXXX", place ? place : "/dev/shm", name);
    assert(length > 0 && (size_t)length < sizeof directory);
    assert(mkdtemp(directory) != NULL);
    return directory;
}

/* A ring of one lane, whose records have no attributes: a test changes what it needs otherwise. */
static inline rb_config ring_config(const char *directory, uint32_t capacity_slots)
{
    rb_config config = {.ring_dir = directory,
                        .service_name = "test",
                        .layout_json = "{}",
                        .resource_json = "{}",
                        .layout_bytes = 2,
                        .resource_bytes = 2,
                        .slot_bytes = RB_CORE_BYTES,
                        .span_name_count = 1,
                        .lane_count = 1,
                        .capacity_slots = capacity_slots,
                        .file_mode = 0600,
                        .root_always = 1};
    return config;
}

static inline rb_producer *new_producer(void)
{
    rb_producer *producer = rb_producer_new();
    assert(producer != NULL);
    return producer;
}

/* `path` has room for RB_MAX_PATH_BYTES. */
static inline void open_ring(rb_producer *producer, const rb_config *config, char *path)
{
    rb_error error;
    if (rb_open(producer, config, path, &error) != RB_OK) {
        fprintf(stderr, "rb_open: %s\n", error.detail);
        abort();
    }
}

static inline void remove_ring(rb_producer *producer, const char *path)
{
    assert(rb_close(producer) == RB_OK);
    rb_producer_free(producer);
    assert(unlink(path) == 0);
}

static inline rb_consumer *attach_consumer(const char *path)
{
    rb_consumer *consumer;
    rb_error error;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert(fd >= 0 && rb_attach(fd, RB_CONSUME, 0, &consumer, &error) == RB_OK);
    assert(close(fd) == 0);
    return consumer;
}

#endif
