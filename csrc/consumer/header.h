/* The header of a ring, as one who attaches to it has it. */
#ifndef RINGBUF_CONSUMER_HEADER_H
#define RINGBUF_CONSUMER_HEADER_H

#include "ringbuf.h"

/*
 * Makes a private copy of a file's header that agrees with the file and with itself, for `access` (enum rb_access).
 * 0 as `max_file_bytes` allows any size. RB_OK, and *copy is the caller's to free; else an enum rb_status, and why.
 */
int rb_copy_header(int fd, uint32_t access, uint64_t max_file_bytes, rb_header **copy, rb_error *error);

#endif
