/* The checksum of a ring's header, and of gzip. */
#ifndef RINGBUF_CRC32_H
#define RINGBUF_CRC32_H

#include <stdint.h>

/* Without the inversions at the beginning and the end: bytes that are added to those that made `crc`. */
uint32_t rb_crc32_add(uint32_t crc, const void *data, uint64_t bytes);
uint32_t rb_crc32(const void *data, uint64_t bytes);

#endif
