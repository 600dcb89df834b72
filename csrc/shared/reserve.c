/* The growth of a file: all of its memory now, so that a full file system is an error here and no SIGBUS later. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "shared/reserve.h"

int rb_reserve(int fd, uint64_t bytes)
{
    static const struct timespec at_once;
    sigset_t exceeded, before, pending;
    int rv;
    sigemptyset(&exceeded);
    sigaddset(&exceeded, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &exceeded, &before);
    sigpending(&pending);
    while ((rv = posix_fallocate(fd, 0, (off_t)bytes)) == EINTR)
        ; /* the process was stopped, or frozen, and goes on */
    /* Beyond RLIMIT_FSIZE the kernel also sends this thread a signal that would end the process: it is ours to take. */
    if (rv == EFBIG && !sigismember(&pending, SIGXFSZ))
        while (sigtimedwait(&exceeded, NULL, &at_once) < 0 && errno == EINTR)
            ;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rv;
}
