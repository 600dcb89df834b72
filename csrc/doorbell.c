/* The drain's side of the doorbell (emit.c rings it). The word is touched through the kernel only: no SIGBUS here. */
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

#include "point.h"
#include "producer_state.h"
#include "ringbuf.h"

struct rb_doorbell {
    int fd;
    uint32_t *word;
};

static int fail(rb_error *error, const char *what)
{
    if (error != NULL) {
        error->status = RB_E_SYSTEM;
        error->os_errno = errno;
        snprintf(error->detail, sizeof error->detail, "%s: %m", what);
    }
    return RB_E_SYSTEM;
}

/* As posix_fallocate, whose value is the error; a signal that comes in its midst only makes it begin again. */
static int reserve(int fd)
{
    int rv;
    while ((rv = posix_fallocate(fd, 0, RB_PAGE_BYTES)) == EINTR)
        ;
    return rv;
}

int rb_doorbell_open(const char *path, uint32_t file_mode, rb_doorbell **doorbell, rb_error *error)
{
    struct stat status;
    /* Created once and kept: producers have it mapped, and a new file would never ring again. */
    int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
    if (fd < 0)
        return fail(error, "opening the doorbell");
    RB_POINT(doorbell_empty);
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_nlink != 1) {
        errno = EMLINK; /* its mode is changed: in the group form others could give this name to a file of ours */
        fail(error, "opening the doorbell");
        close(fd);
        return RB_E_SYSTEM;
    }
    /* A full tmpfs must not keep out the drain, which makes room: its timed wait does, as on a truncated doorbell. */
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || fchmod(fd, file_mode) != 0 ||
        ((errno = reserve(fd)) != 0 && errno != ENOSPC)) {
        fail(error, "preparing the doorbell");
        close(fd);
        return RB_E_SYSTEM;
    }
    RB_POINT(doorbell_unmapped);
    void *map = mmap(NULL, RB_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    rb_doorbell *made = map != MAP_FAILED ? malloc(sizeof *made) : NULL;
    if (made == NULL) {
        fail(error, "mapping the doorbell");
        if (map != MAP_FAILED)
            munmap(map, RB_PAGE_BYTES);
        close(fd);
        return RB_E_SYSTEM;
    }
    RB_POINT(doorbell_mapped);
    made->fd = fd;
    made->word = map;
    *doorbell = made;
    return RB_OK;
}

uint32_t rb_doorbell_value(rb_doorbell *doorbell)
{
    uint32_t value = 0;
    if (pread(doorbell->fd, &value, sizeof value, 0) != (ssize_t)sizeof value)
        return 0; /* truncated: waits then end by time */
    return value;
}

int rb_doorbell_wait(rb_doorbell *doorbell, uint32_t value, uint64_t timeout_nano)
{
    struct timespec timeout = {.tv_sec = (time_t)(timeout_nano / 1000000000u),
                               .tv_nsec = (long)(timeout_nano % 1000000000u)};
    RB_POINT(doorbell_wait);
    if (syscall(SYS_futex, doorbell->word, FUTEX_WAIT, value, &timeout, NULL, 0) == 0)
        return 1;
    if (errno != ETIMEDOUT && errno != EAGAIN && errno != EINTR) {
        nanosleep(&timeout, NULL); /* a truncated doorbell (EFAULT) must not make the drain spin */
        return 0;
    }
    return errno != ETIMEDOUT;
}

/* As ring_doorbell() in emit.c: the word changes too, so that a wait which has not yet begun ends as well. */
void rb_ring_word(uint32_t *doorbell)
{
    int saved_errno = errno;
    RB_POINT(word_unrung);
    syscall(SYS_futex, doorbell, FUTEX_WAKE_OP, 1, 0, doorbell, FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 0));
    errno = saved_errno;
}

void rb_doorbell_ring(rb_doorbell *doorbell) { rb_ring_word(doorbell->word); }

void rb_doorbell_free(rb_doorbell *doorbell)
{
    if (doorbell == NULL)
        return;
    munmap(doorbell->word, RB_PAGE_BYTES);
    close(doorbell->fd);
    free(doorbell);
}
