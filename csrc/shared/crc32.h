/* The checksum of a ring's header. */
#ifndef RINGBUF_CRC32_H
#define RINGBUF_CRC32_H

#include <stdint.h>

uint32_t rb_crc32(const void *data, uint64_t bytes);

#endif
