/*
 * A ring is to take another's place and the kernel does not move it, and has perhaps unmapped its target already: the
 * producer goes on in the new ring all the same, at another address, and nothing that was counted is lost.
 */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ring_for_test.h"

enum { CAPACITY = 8, LANES = 2, SPANS = 5 };
enum trouble { NOT_MOVED, UNMAPPED, NOT_EVEN_SHOWN_TWICE, TROUBLES };

static enum trouble trouble;
static unsigned refusals;
static void *target;
static size_t target_bytes;

/* In place of libc's. */
void *mremap(void *old, size_t old_bytes, size_t new_bytes, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    void *where = flags & MREMAP_FIXED ? va_arg(more, void *) : NULL;
    va_end(more);
    if (!(flags & MREMAP_FIXED) && trouble != NOT_EVEN_SHOWN_TWICE)
        return (void *)syscall(SYS_mremap, old, old_bytes, new_bytes, flags, NULL);
    if (flags & MREMAP_FIXED) {
        target = where;
        target_bytes = new_bytes;
        if (trouble == UNMAPPED)
            assert(munmap(where, new_bytes) == 0);
    }
    refusals++;
    errno = trouble == UNMAPPED ? ENOMEM : EPERM;
    return MAP_FAILED;
}

/* 1 written, 0 full. */
static int emit(rb_producer *producer)
{
    rb_record record;
    memset(&record, 0, sizeof record);
    record.trace_id[0] = record.span_id[0] = 1;
    record.flags = RB_SPAN_SAMPLED;
    int rv = rb_emit(producer, &record);
    assert(rv == 0 || rv == 1);
    return rv;
}

static void replace_under(enum trouble this)
{
    char first[RB_MAX_PATH_BYTES], second[RB_MAX_PATH_BYTES];
    rb_producer_stats stats;
    rb_lane_view views[LANES];
    rb_config config = ring_config(make_directory("replace_refused"), CAPACITY);
    rb_producer *producer = new_producer();
    config.lane_count = LANES;
    trouble = this;
    refusals = 0;
    open_ring(producer, &config, first);
    for (unsigned i = 0; i < LANES * CAPACITY + 1; i++)
        emit(producer);
    rb_count_truncated(producer, 3);
    open_ring(producer, &config, second);
    assert(refusals > 0 && target_bytes > 0);

    /* Whoever is about to count at the old address finds memory there. */
    *(volatile uint8_t *)target = 1;
    *((volatile uint8_t *)target + target_bytes - 1) = 1;

    for (unsigned i = 0; i < SPANS; i++)
        assert(emit(producer) == 1);
    rb_count_truncated(producer, 1);
    assert(!rb_is_set_aside(producer));
    assert(rb_stats(producer, &stats) == RB_OK);
    assert(stats.published == LANES * CAPACITY + SPANS && stats.full == 1 && stats.truncated == 4);
    assert(stats.pending == SPANS);

    /* The old ring is dead, and the new one is whole. */
    int fd = open(first, O_RDWR | O_CLOEXEC);
    assert(fd >= 0 && rb_producer_alive(fd) == 0 && close(fd) == 0);
    fd = open(second, O_RDWR | O_CLOEXEC);
    assert(fd >= 0 && rb_producer_alive(fd) == 1 && close(fd) == 0);
    rb_consumer *consumer = attach_consumer(second);
    assert(rb_poll(consumer, views) == SPANS);
    rb_consumer_free(consumer);
    assert(unlink(first) == 0);
    remove_ring(producer, second);
    assert(rmdir(config.ring_dir) == 0);
}

int main(void)
{
    for (enum trouble each = NOT_MOVED; each < TROUBLES; each++)
        replace_under(each);
    return 0;
}
