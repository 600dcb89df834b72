/*
 * The drain's side of the doorbell (shared/doorbell_ring.c rings it). The word is touched through the kernel only: no SIGBUS here.
 *
 * A doorbell whose file was removed is still rung by those who had mapped it. The one that is made in its place follows
 * it: its value is the sum of both words, and its wait ends with a ring of either.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ringbuf.h"
#include "shared/doorbell_ring.h"
#include "shared/error.h"
#include "shared/point.h"
#include "shared/reserve.h"

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449 /* Linux 5.16 */
#endif

enum { MOST_DOORBELLS = 8 }; /* that are waited on at once: each is a descriptor and a page */
enum { FUTEX_OF_32_BITS = 2 };

struct rb_doorbell {
    int fd;
    uint32_t *word;
    rb_doorbell *before; /* the one that it follows */
};

/* As struct futex_waitv of linux/futex.h, which older headers lack. */
struct awaited {
    uint64_t value;
    uint64_t word;
    uint32_t flags;
    uint32_t reserved;
};

int rb_doorbell_open(const char *path, uint32_t file_mode, rb_doorbell **doorbell, rb_error *error)
{
    struct stat status;
    /* Created once and kept: producers have it mapped, and a new file would never ring again. */
    int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
    if (fd < 0)
        return rb_fail(error, RB_E_SYSTEM, errno, "opening the doorbell: %m");
    RB_POINT(doorbell_empty);
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_nlink != 1) {
        errno = EMLINK; /* its mode is changed: in the group form others could give this name to a file of ours */
        rb_fail(error, RB_E_SYSTEM, errno, "opening the doorbell: %m");
        close(fd);
        return RB_E_SYSTEM;
    }
    /* A full tmpfs must not keep out the drain, which makes room: its timed wait does, as on a truncated doorbell. */
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || fchmod(fd, file_mode) != 0 ||
        ((errno = rb_reserve(fd, RB_PAGE_BYTES)) != 0 && errno != ENOSPC)) {
        rb_fail(error, RB_E_SYSTEM, errno, "preparing the doorbell: %m");
        close(fd);
        return RB_E_SYSTEM;
    }
    RB_POINT(doorbell_unmapped);
    void *map = mmap(NULL, RB_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    rb_doorbell *made = map != MAP_FAILED ? malloc(sizeof *made) : NULL;
    if (made == NULL) {
        rb_fail(error, RB_E_SYSTEM, errno, "mapping the doorbell: %m");
        if (map != MAP_FAILED)
            munmap(map, RB_PAGE_BYTES);
        close(fd);
        return RB_E_SYSTEM;
    }
    RB_POINT(doorbell_mapped);
    made->fd = fd;
    made->word = map;
    made->before = NULL;
    *doorbell = made;
    return RB_OK;
}

int rb_doorbell_fd(const rb_doorbell *doorbell) { return doorbell->fd; }

void rb_doorbell_follow(rb_doorbell *doorbell, rb_doorbell *before)
{
    doorbell->before = before;
    for (int left = MOST_DOORBELLS - 1; left > 0 && doorbell != NULL; left--)
        doorbell = doorbell->before;
    if (doorbell != NULL) {
        rb_doorbell_free(doorbell->before); /* its ring is found by naps, as without a doorbell */
        doorbell->before = NULL;
    }
}

static uint32_t value_of(const rb_doorbell *doorbell)
{
    uint32_t value = 0;
    if (pread(doorbell->fd, &value, sizeof value, 0) != (ssize_t)sizeof value)
        return 0; /* truncated: waits then end by time */
    return value;
}

uint32_t rb_doorbell_value(rb_doorbell *doorbell)
{
    uint32_t sum = 0;
    for (; doorbell != NULL; doorbell = doorbell->before)
        sum += value_of(doorbell);
    return sum;
}

/*
 * Returns as rb_doorbell_wait; or -1, and in *value the first one's word, where the kernel cannot wait for all of them:
 * it is too old, or one is truncated.
 */
static int wait_for_all(const rb_doorbell *doorbell, uint32_t *value, const struct timespec *timeout)
{
    struct awaited awaited[MOST_DOORBELLS];
    struct timespec end;
    uint32_t count = 0;
    uint32_t sum = 0;
    for (; doorbell != NULL; doorbell = doorbell->before) {
        uint32_t now = value_of(doorbell);
        awaited[count++] = (struct awaited){now, (uintptr_t)doorbell->word, FUTEX_OF_32_BITS, 0};
        sum += now;
    }
    if (sum != *value)
        return 1; /* what rings from here on has changed one of the words that the kernel compares */
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += timeout->tv_sec + (end.tv_nsec + timeout->tv_nsec) / 1000000000;
    end.tv_nsec = (end.tv_nsec + timeout->tv_nsec) % 1000000000;
    if (syscall(SYS_futex_waitv, awaited, count, 0, &end, CLOCK_MONOTONIC) >= 0)
        return 1;
    *value = (uint32_t)awaited[0].value;
    if (errno != ETIMEDOUT && errno != EAGAIN && errno != EINTR)
        return -1;
    return errno != ETIMEDOUT;
}

int rb_doorbell_wait(rb_doorbell *doorbell, uint32_t value, uint64_t timeout_nano)
{
    struct timespec timeout = {.tv_sec = (time_t)(timeout_nano / 1000000000u),
                               .tv_nsec = (long)(timeout_nano % 1000000000u)};
    RB_POINT(doorbell_wait);
    if (doorbell->before != NULL) {
        int rv = wait_for_all(doorbell, &value, &timeout);
        if (rv >= 0)
            return rv;
    }
    if (syscall(SYS_futex, doorbell->word, FUTEX_WAIT, value, &timeout, NULL, 0) == 0)
        return 1;
    if (errno != ETIMEDOUT && errno != EAGAIN && errno != EINTR) {
        return nanosleep(&timeout, NULL) != 0; /* a truncated doorbell (EFAULT) must not make the drain spin */
    }
    return errno != ETIMEDOUT;
}

void rb_doorbell_ring(rb_doorbell *doorbell) { rb_ring_word(doorbell->word); }

void rb_doorbell_free(rb_doorbell *doorbell)
{
    while (doorbell != NULL) {
        rb_doorbell *before = doorbell->before;
        munmap(doorbell->word, RB_PAGE_BYTES);
        close(doorbell->fd);
        free(doorbell);
        doorbell = before;
    }
}
