/* What makes room in a file, for both sides. */
#ifndef RINGBUF_RESERVE_H
#define RINGBUF_RESERVE_H

#include <stdint.h>

/* Gives a file `bytes` bytes that are there. 0, or an errno: ENOSPC, or EFBIG over RLIMIT_FSIZE, without SIGXFSZ. */
int rb_reserve(int fd, uint64_t bytes);

#endif
