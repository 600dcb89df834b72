/*
 * A kernel that does not know, or a filter that does not allow, what a producer asks of madvise: rings are made all the
 * same, and a child still finds no ring, other ids and counts of its own. One program for each thing that is refused,
 * since emulators do not have the other.
 */
#ifndef REFUSED_ADVICE_H
#define REFUSED_ADVICE_H

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ring_for_test.h"

enum { CAPACITY = 64, SPANS = 3, PATIENCE_SECONDS = 30 };
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static int no_populating, not_wiped;
static unsigned refusals;
static rb_config config;
static rb_producer *producer;
static uint8_t trace_id[16], span_id[8];
static uint64_t mark;

/* In place of libc's. */
int madvise(void *at, size_t bytes, int advice)
{
    int refused = advice == MADV_WIPEONFORK ? not_wiped : advice == MADV_POPULATE_WRITE ? no_populating : 0;
    if (refused == 0)
        return (int)syscall(SYS_madvise, at, bytes, advice);
    refusals++;
    errno = refused;
    return -1;
}

static int emit(void)
{
    rb_record record;
    memset(&record, 0, sizeof record);
    record.trace_id[0] = record.span_id[0] = 1;
    record.flags = RB_SPAN_SAMPLED;
    return rb_emit(producer, &record);
}

static int emit_batch(void)
{
    rb_record records[2];
    memset(records, 0, sizeof records);
    for (unsigned i = 0; i < 2; i++) {
        records[i].trace_id[0] = records[i].span_id[0] = 1;
        records[i].flags = RB_SPAN_SAMPLED;
    }
    return (int)rb_emit_batch(producer, records, 2);
}

/* The child's exit status. */
static int be_child(void)
{
    char path[RB_MAX_PATH_BYTES];
    rb_error error;
    rb_producer_stats stats;
    rb_span span;
    uint8_t new_trace_id[16], new_span_id[8];
    if (emit() != RB_NO_RING || emit_batch() != RB_NO_RING || rb_lane_hold(producer) != NULL)
        return 1;
    if (rb_is_set_aside(producer) || rb_lacks_doorbell(producer))
        return 2;
    if (rb_process_mark(producer) == mark)
        return 3;
    rb_new_ids(producer, new_trace_id, new_span_id);
    if (memcmp(trace_id, new_trace_id, 16) == 0 || memcmp(span_id, new_span_id, 8) == 0)
        return 4;
    if (rb_span_begin(producer, NULL, &span) != RB_NO_RING)
        return 5;
    rb_count_local(producer, 1);
    if (rb_stats(producer, &stats) != RB_OK || stats.published != 0 || stats.local != 1 || stats.is_open)
        return 6;
    if (rb_open(producer, &config, path, &error) != RB_OK)
        return 7;
    for (unsigned i = 0; i < SPANS; i++)
        if (emit() != 1)
            return 8;
    if (rb_stats(producer, &stats) != RB_OK || stats.published != SPANS || rb_close(producer) != RB_OK)
        return 9;
    if (emit() != 0)
        return 10;
    rb_producer_free(producer);
    return unlink(path) == 0 ? 0 : 11;
}

static void free_only(void) { rb_producer_free(producer); }

static void wait_for(pid_t pid)
{
    int status;
    assert(pid > 0 && waitpid(pid, &status, 0) == pid);
    if (status != 0) {
        fprintf(stderr, "a child ended with status %x\n", (unsigned)status);
        abort();
    }
}

static void fork_children(void)
{
    /* As the first of what it does, each child would have another's ids. */
    rb_new_ids(producer, trace_id, span_id);
    mark = rb_process_mark(producer);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(PATIENCE_SECONDS);
        _exit(be_child());
    }
    wait_for(pid);
    pid = fork();
    if (pid == 0) {
        free_only();
        _exit(0);
    }
    wait_for(pid);
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__) /* whose locks do not survive it */
    pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        alarm(PATIENCE_SECONDS);
        _exit(be_child());
    }
    wait_for(pid);
#endif
}

/* What is left out and what is dropped is counted here, too. */
static void count_losses(void)
{
    rb_producer_stats stats;
    assert(rb_dropped(producer) == 0);
    while (emit() & 1)
        ;
    assert(rb_dropped(producer) == 1);
    rb_count_invalid_values(producer, 2);
    rb_count_truncated(producer, 3);
    assert(rb_stats(producer, &stats) == RB_OK);
    assert(stats.full == 1 && stats.invalid_values == 2 && stats.truncated == 3);
}

static void live(void)
{
    char path[RB_MAX_PATH_BYTES];
    rb_producer_stats stats;
    producer = new_producer();
    assert(emit() == RB_NO_RING);
    open_ring(producer, &config, path);
    for (unsigned i = 0; i < SPANS; i++)
        assert(emit() == 1);
    fork_children();
    /* No child has touched what is ours. */
    assert(emit() == 1);
    assert(rb_stats(producer, &stats) == RB_OK);
    assert(stats.published == SPANS + 1 && stats.pending == SPANS + 1 && stats.local == 0 && stats.is_open);
    assert(rb_process_mark(producer) == mark);
    count_losses();
    remove_ring(producer, path);
}

/* Live with each answer that a kernel or a filter gives to what it does not have. */
static inline void live_without(const char *name, bool wiping, bool populating)
{
    static const int answers[] = {EINVAL, EPERM, ENOSYS};
    config = ring_config(make_directory(name), CAPACITY);
    for (unsigned i = 0; i < sizeof answers / sizeof *answers; i++) {
        refusals = 0;
        not_wiped = wiping ? answers[i] : 0;
        no_populating = populating ? answers[i] : 0;
        live();
        assert(refusals >= (unsigned)wiping + (unsigned)populating);
    }
    assert(rmdir(config.ring_dir) == 0);
}

#endif
