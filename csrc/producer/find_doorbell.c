#include "producer/find_doorbell.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "producer/making.h"
#include "producer/producer_state.h"
#include "shared/atomics.h"
#include "shared/point.h"

/* Without a doorbell the drain's timed wait does. Children make their own with their ring. */
uint32_t *rb_map_doorbell(int dir_fd)
{
    struct stat status;
    uint32_t *word = NULL;
    int fd = openat(dir_fd, "doorbell", O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return NULL;
    /* It is added to: a file of ours to which somebody gave this name as its second is left alone. */
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_nlink == 1) {
        RB_POINT(doorbell_found);
        void *map = mmap(NULL, RB_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map != MAP_FAILED) {
            RB_POINT(doorbell_mapping);
            madvise(map, RB_PAGE_BYTES, MADV_DONTFORK);
            word = map;
        }
    }
    close(fd);
    return word;
}

/* The doorbell is mapped afterwards, if there is one. */
static int find_doorbell(rb_producer *producer, const char *ring_dir)
{
    int dir_fd = producer->doorbell == NULL ? open(ring_dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    if (dir_fd >= 0) {
        rb_store_pointer_release(&producer->doorbell, rb_map_doorbell(dir_fd)); /* pairs with ring_doorbell()'s load */
        close(dir_fd);
    }
    return producer->doorbell != NULL ? RB_OK : RB_E_SYSTEM;
}

int rb_find_doorbell(rb_producer *producer, const char *ring_dir)
{
    struct rb_making making;
    int rv = rb_begin_making(producer, &making);
    if (rv == RB_OK)
        rv = find_doorbell(producer, ring_dir);
    rb_end_making(producer, &making);
    return rv;
}
