/* Preloaded by test_fork.py: a kernel as gVisor's, which neither wipes on fork nor populates pages when asked. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

int madvise(void *at, size_t bytes, int advice)
{
    if (advice != MADV_WIPEONFORK && advice != MADV_POPULATE_WRITE)
        return (int)syscall(SYS_madvise, at, bytes, advice);
    errno = EINVAL;
    return -1;
}
