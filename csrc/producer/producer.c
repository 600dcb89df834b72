/*
 * The life of a producer's ring: open it, or another in its place, and close it. All of it is outside the hot path
 * (emit.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "producer/adopt.h"
#include "producer/find_doorbell.h"
#include "producer/making.h"
#include "producer/patience.h"
#include "producer/producer_state.h"
#include "producer/ring_file.h"
#include "shared/atomics.h"
#include "shared/doorbell_ring.h"
#include "shared/error.h"
#include "shared/point.h"

_Static_assert(sizeof(rb_held_lane) == RB_LINE_BYTES, "a private lane fills its lines");
_Static_assert(offsetof(rb_producer, lanes) == 3 * RB_LINE_BYTES, "private state in lines");

static int open_ring(rb_producer *producer, const rb_config *config, struct rb_shape *shape, char *path,
                     rb_error *error)
{
    /* Pairs with rb_set_state()'s release; `life` orders them too. */
    uint32_t state = rb_state_here(producer, rb_load32_acquire(&producer->state));
    if (state == RB_STATE_CLOSED)
        return rb_fail(error, RB_CLOSED, 0, "the producer is closed");
    const char *changed = state == RB_STATE_OPEN ? rb_what_changed(producer, config, shape) : NULL;
    if (changed != NULL)
        return rb_fail(error, RB_E_ARGUMENT, 0, "%s", changed);
    shape->root_threshold = rb_stated_threshold(config, state == RB_STATE_OPEN ? producer : NULL);
    int dir_fd = open(config->ring_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0)
        return rb_fail(error, RB_E_SYSTEM, errno, "opening the ring directory: %m");
    RB_POINT(create_begin);
    uint8_t *map = NULL;
    struct stat found;
    int rv = rb_make_ring(dir_fd, config, shape, &map, &found, path, error);
    if (rv == RB_OK && producer->doorbell == NULL)
        rb_store_pointer_release(&producer->doorbell, rb_map_doorbell(dir_fd)); /* pairs with ring_doorbell()'s load */
    close(dir_fd);
    if (rv != RB_OK)
        return rv;
    RB_POINT(create_unrung);
    if (producer->doorbell != NULL)
        rb_ring_word(producer->doorbell); /* `sleeping` is not set in a ring that the drain has not seen yet */
    RB_POINT(create_rung);
    if (state == RB_STATE_NONE) {
        rb_adopt_ring(producer, config, shape, map);
        RB_POINT(create_done);
    } else {
        rv = rb_replace_ring(producer, config, map, error);
    }
    if (rv != RB_OK) {
        munmap(map, shape->file_bytes);
        unlink(path);
        return rv;
    }
    producer->device = found.st_dev;
    producer->inode = found.st_ino;
    memcpy(producer->path, path, strlen(path) + 1);
    return RB_OK;
}

int rb_open(rb_producer *producer, const rb_config *config, char *path, rb_error *error)
{
    struct rb_shape shape = {0};
    struct rb_making making;
    if (producer == NULL || config == NULL || path == NULL)
        return rb_fail(error, RB_E_ARGUMENT, 0, "a pointer is NULL");
    int rv = rb_shape_of(config, &shape, error);
    if (rv != RB_OK)
        return rv;
    if (rb_begin_making(producer, &making) == RB_OK)
        rv = open_ring(producer, config, &shape, path, error);
    else
        rv = rb_fail(error, RB_BUSY, 0, "another thread opens or closes a producer");
    rb_end_making(producer, &making);
    return rv;
}

int rb_close(rb_producer *producer)
{
    uint64_t end = rb_end_of_patience();
    if (!rb_wipe_in_child(producer) || rb_take_until(&producer->life, end) != RB_OK)
        return RB_BUSY;
    int rv = RB_OK;
    RB_POINT(close_begin);
    /*
     * Before the lanes: who sees it counts as local. It pairs with each emit's acquire, but nothing is handed over: who
     * finds a lane taken and does not see this yet counts in the ring, which rb_stats adds up as well.
     */
    rb_set_state(producer, RB_STATE_CLOSED);
    for (uint32_t i = 0; producer->map != NULL && i < producer->lane_count; i++) {
        RB_POINT(close_lane);
        if (producer->lanes[i].is_over)
            continue;
        /* Kept for good: whoever emits from now on finds it taken. */
        if (rb_take_until(&producer->lanes[i].busy, end) != RB_OK) {
            rv = RB_BUSY; /* its `closed` stays unset: the drain will learn of the end from the lock */
            continue;
        }
        /* Pairs with rb_poll's acquire: all tails of this lane came before, as we hold it now. */
        rb_store32_release(&producer->lanes[i].shared->closed, 1);
        producer->lanes[i].is_over = 1;
    }
    RB_POINT(close_done);
    rb_give_back(&producer->life);
    return rv;
}

void rb_producer_free(rb_producer *producer)
{
    if (producer == NULL)
        return;
    rb_wipe_in_child(producer);
    /* In a forked child both are NULL: nothing of the parent's is unmapped. */
    if (producer->doorbell != NULL)
        munmap(producer->doorbell, RB_PAGE_BYTES);
    if (producer->map != NULL)
        munmap(producer->map, producer->map_bytes);
    rb_unmap_state(producer);
}
