/* A gzip member, decompressed by nothing of the writer: slow and plain. Whatever is not as RFC 1951 and 1952 have it
 * ends the process. */
#ifndef GUNZIP_H
#define GUNZIP_H

#include <stddef.h>
#include <stdint.h>

/* Exactly one member that holds at most `room` bytes; returns how many. */
size_t gunzip(const uint8_t *member, size_t bytes, uint8_t *out, size_t room);

#endif
