/*
 * A producer as both examples need it, in C11 and C++17: open, emit with what a door asks for done, close. A program of
 * one's own will do the same in its own way; nothing here is hidden in the library.
 */
#ifndef TRACER_H
#define TRACER_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files_layout.h"
#include <ringbuf_site.h>

typedef struct tracer {
    rb_producer *producer;
    rb_config config;
    char ring_dir[RB_MAX_PATH_BYTES];
    char path[RB_MAX_PATH_BYTES]; /* of the present ring */
} tracer;

/* $RINGBUF_DIR, else /dev/shm/ringbuf-<uid>, where a drain looks by default. Returns 0, or -1 with a word on stderr. */
static inline int tracer_open(tracer *t, const char *service, const char *resource_json)
{
    rb_error error;
    const char *dir = getenv("RINGBUF_DIR");
    memset(t, 0, sizeof *t);
    if (dir != NULL)
        snprintf(t->ring_dir, sizeof t->ring_dir, "%s", dir);
    else
        snprintf(t->ring_dir, sizeof t->ring_dir, "/dev/shm/ringbuf-%lu", (unsigned long)getuid());
    if (mkdir(t->ring_dir, 0700) != 0 && errno != EEXIST) {
        perror(t->ring_dir);
        return -1;
    }
    files_config(&t->config); /* layout_json, layout_bytes, slot_bytes, span_name_count */
    t->config.ring_dir = t->ring_dir;
    t->config.service_name = service;
    t->config.resource_json = resource_json;
    t->config.resource_bytes = (uint32_t)strlen(resource_json);
    t->config.lane_count = 4; /* threads that emit at the same instant */
    t->config.capacity_slots = 8192;
    t->config.root_always = 1;
    t->producer = rb_producer_new();
    if (t->producer == NULL || rb_open(t->producer, &t->config, t->path, &error) != RB_OK) {
        fprintf(stderr, "no ring: %s\n", t->producer == NULL ? strerror(errno) : error.detail);
        return -1;
    }
    return 0;
}

/*
 * Outside the hot path: what a door's result asks for. RB_NO_RING comes in a forked child, which opens a ring of its
 * own (one thread at a time: another that tries gets RB_BUSY, and its next span comes here again).
 */
static inline int tracer_settle(tracer *t, int result)
{
    rb_error error;
    int is_over = result > 1 && (rb_is_set_aside(t->producer) || rb_is_removed(t->producer));
    if (result == RB_NO_RING || is_over)
        rb_open(t->producer, &t->config, t->path, &error);
    else if (result > 1)
        rb_find_doorbell(t->producer, t->ring_dir);
    if (result == RB_NO_RING)
        rb_count_local(t->producer, 1); /* this span; the next finds the ring */
    return result > 0 && (result & 1);
}

static inline int tracer_end(tracer *t, const rb_span *span, files_record *record)
{
    int result = rb_end(t->producer, span, &record->core);
    return result == 1 || (result != 0 && tracer_settle(t, result));
}

static inline void tracer_path(tracer *t, files_record *record, const char *path)
{
    if (files_set_path(record, path, strlen(path)))
        rb_count_truncated(t->producer, 1);
}

static inline enum files_outcome tracer_outcome(int os_errno)
{
    if (os_errno == 0)
        return FILES_OUTCOME_OK;
    return os_errno == ENOENT   ? FILES_OUTCOME_NOT_FOUND
           : os_errno == EACCES ? FILES_OUTCOME_DENIED
                                : FILES_OUTCOME_ERROR;
}

/* Says what became of the spans, and ends the ring: the drain removes the file once it has taken what is left. */
static inline void tracer_close(tracer *t)
{
    rb_producer_stats stats;
    if (rb_stats(t->producer, &stats) == RB_OK)
        fprintf(stderr, "%llu spans written, %llu dropped, %llu values cut, ring %s\n",
                (unsigned long long)stats.published, (unsigned long long)(stats.full + stats.contended + stats.local),
                (unsigned long long)stats.truncated, t->path);
    if (rb_close(t->producer) == RB_OK)
        rb_producer_free(t->producer);
}

#endif
