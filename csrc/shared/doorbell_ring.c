#include <errno.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shared/doorbell_ring.h"
#include "shared/point.h"

void rb_ring_word(uint32_t *doorbell)
{
    int saved_errno = errno;
    RB_POINT(word_unrung);
    syscall(SYS_futex, doorbell, FUTEX_WAKE_OP, 1, 0, doorbell, FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 0));
    errno = saved_errno;
}
