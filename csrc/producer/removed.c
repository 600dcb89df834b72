/*
 * A ring whose file was removed: no drain will ever find it, and its producer cannot see that. A ring that nobody reads
 * therefore asks for a look at its path, at most once a second; the look itself is not made in the hot call.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "producer/producer_state.h"
#include "shared/atomics.h"

enum { SECOND = 1000000000 };

/* To some milliseconds, for a quarter of the price. */
static uint64_t coarse_nano(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

int rb_is_unread(rb_producer *producer)
{
    if (!rb_has_ring(producer))
        return 0;
    uint64_t before = rb_load_relaxed(&producer->looked_at);
    uint64_t now = coarse_nano(CLOCK_MONOTONIC_COARSE);
    if (now - before < SECOND || !rb_replace(&producer->looked_at, before, now))
        return 0; /* or another thread looks */
    rb_store_relaxed(&producer->next_look, coarse_nano(CLOCK_REALTIME_COARSE) + SECOND);
    uint64_t published = 0;
    uint64_t released = 0;
    for (uint32_t i = 0; i < producer->lane_count; i++) {
        const rb_lane *lane = rb_load_lane_acquire(&producer->lanes[i].shared); /* pairs with bind_lanes() */
        released += rb_load_relaxed(&lane->head); /* sums, and only one more look hangs on them */
        published += rb_load_relaxed(&lane->tail);
    }
    uint64_t published_then = rb_load_relaxed(&producer->seen_published);
    rb_store_relaxed(&producer->seen_published, published);
    /* What was there a second ago and more is there still: nobody reads, or somebody who is far behind. */
    return (int64_t)(published_then - released) > 0;
}

int rb_is_removed(rb_producer *producer)
{
    struct stat found;
    int saved_errno = errno;
    int removed = 0;
    if (!rb_wipe_in_child(producer) || !rb_try_take(&producer->life)) /* a ring is being made, or closed */
        return 0;
    if (rb_has_ring(producer)) {
        if (stat(producer->path, &found) == 0)
            removed = found.st_dev != producer->device || found.st_ino != producer->inode;
        else
            removed = errno == ENOENT || errno == ENOTDIR;
    }
    rb_give_back(&producer->life);
    errno = saved_errno;
    return removed;
}
