/*
 * The header of a file that anybody may have written: copied by pread, and checked against the file and against itself.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "consumer/header.h"
#include "shared/crc32.h"
#include "shared/error.h"
#include "shared/point.h"

static int read_whole(int fd, void *to, uint64_t bytes, rb_error *error)
{
    for (uint64_t got = 0; got < bytes;) {
        ssize_t n = pread(fd, (uint8_t *)to + got, bytes - got, (off_t)got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return rb_fail(error, RB_E_SYSTEM, errno, "pread: %m");
        if (n == 0)
            return rb_fail(error, RB_E_NOT_A_RING, 0, "the file ends after %llu bytes, within the header",
                           (unsigned long long)got);
        got += (uint64_t)n;
    }
    return RB_OK;
}

static int check_version(const rb_header *header, rb_error *error)
{
    if (memcmp(header->magic, "ringbuf", 8) != 0)
        return rb_fail(error, RB_E_NOT_A_RING, 0, "the file does not begin with the magic \"ringbuf\"");
    if (header->abi_major > RB_ABI_MAJOR)
        return rb_fail(error, RB_E_ABI_NEWER, 0, "format version %u.%u, this reader knows up to %d",
                       (unsigned)header->abi_major, (unsigned)header->abi_minor, RB_ABI_MAJOR);
    if (header->abi_major != RB_ABI_MAJOR)
        return rb_fail(error, RB_E_ABI_UNKNOWN, 0, "format version %u.%u never was", (unsigned)header->abi_major,
                       (unsigned)header->abi_minor);
    if (header->flags != 0)
        return rb_fail(error, RB_E_FLAGS, 0, "unknown ring flags 0x%x", (unsigned)header->flags);
    return RB_OK;
}

/* Each size within its own limits first: the products below then cannot overflow 64 bits. */
static int check_sizes(const rb_header *header, uint64_t actual_bytes, rb_error *error)
{
    uint32_t capacity = header->capacity_slots;
    if (header->header_bytes < RB_PAGE_BYTES || header->header_bytes % RB_PAGE_BYTES != 0 ||
        header->header_bytes > 2 * RB_MAX_JSON_BYTES + RB_PAGE_BYTES)
        return rb_fail(error, RB_E_GEOMETRY, 0, "header_bytes is %u", (unsigned)header->header_bytes);
    if (header->slot_bytes < RB_CORE_BYTES || header->slot_bytes % 64 != 0 || header->slot_bytes > RB_MAX_SLOT_BYTES)
        return rb_fail(error, RB_E_GEOMETRY, 0, "slot_bytes is %u", (unsigned)header->slot_bytes);
    if (header->lane_count < 1 || header->lane_count > RB_MAX_LANES)
        return rb_fail(error, RB_E_GEOMETRY, 0, "lane_count is %u", (unsigned)header->lane_count);
    if (capacity < RB_MIN_CAPACITY_SLOTS || capacity > RB_MAX_CAPACITY_SLOTS || (capacity & (capacity - 1)) != 0)
        return rb_fail(error, RB_E_GEOMETRY, 0, "capacity_slots is %u", (unsigned)capacity);
    if (header->lane_stride_bytes % RB_PAGE_BYTES != 0 ||
        header->lane_stride_bytes < RB_LANE_BYTES + (uint64_t)capacity * header->slot_bytes ||
        header->lane_stride_bytes > (uint64_t)RB_MAX_CAPACITY_SLOTS * RB_MAX_SLOT_BYTES + RB_PAGE_BYTES)
        return rb_fail(error, RB_E_GEOMETRY, 0, "lane_stride_bytes is %llu",
                       (unsigned long long)header->lane_stride_bytes);
    if (header->file_bytes != header->header_bytes + header->lane_count * header->lane_stride_bytes)
        return rb_fail(error, RB_E_GEOMETRY, 0, "file_bytes is %llu, header and lanes have %llu",
                       (unsigned long long)header->file_bytes,
                       (unsigned long long)(header->header_bytes + header->lane_count * header->lane_stride_bytes));
    if (header->file_bytes != actual_bytes)
        return rb_fail(error, RB_E_FILE_SIZE, 0, "the header says %llu bytes, the file has %llu",
                       (unsigned long long)header->file_bytes, (unsigned long long)actual_bytes);
    return RB_OK;
}

static int is_inside(const rb_header *header, uint32_t offset, uint32_t bytes)
{
    return offset >= sizeof *header && offset <= header->header_bytes && bytes <= header->header_bytes - offset;
}

/* What only the whole header can tell: checksum, and where the two documents lie. `copy` is changed and restored. */
static int check_content(rb_header *copy, rb_error *error)
{
    uint32_t expected = copy->crc32;
    copy->crc32 = 0;
    uint32_t actual = rb_crc32(copy, copy->header_bytes);
    copy->crc32 = expected;
    if (actual != expected)
        return rb_fail(error, RB_E_CRC, 0, "the header's CRC-32 is %08x, its field says %08x", (unsigned)actual,
                       (unsigned)expected);
    if (!is_inside(copy, copy->layout_offset, copy->layout_bytes))
        return rb_fail(error, RB_E_JSON_BOUNDS, 0, "the layout (offset %u, %u bytes) lies outside the header",
                       (unsigned)copy->layout_offset, (unsigned)copy->layout_bytes);
    if (!is_inside(copy, copy->resource_offset, copy->resource_bytes))
        return rb_fail(error, RB_E_JSON_BOUNDS, 0, "the resource (offset %u, %u bytes) lies outside the header",
                       (unsigned)copy->resource_offset, (unsigned)copy->resource_bytes);
    return RB_OK;
}

int rb_copy_header(int fd, uint32_t access, uint64_t max_file_bytes, rb_header **copy, rb_error *error)
{
    struct stat status;
    rb_header first;
    if (fstat(fd, &status) != 0)
        return rb_fail(error, RB_E_SYSTEM, errno, "fstat: %m");
    if (!S_ISREG(status.st_mode))
        return rb_fail(error, RB_E_NOT_A_RING, 0, "not a regular file");
    int rv = read_whole(fd, &first, sizeof first, error);
    if (rv == RB_OK)
        rv = check_version(&first, error);
    if (rv == RB_OK)
        rv = check_sizes(&first, (uint64_t)status.st_size, error);
    if (rv != RB_OK)
        return rv;
    if (max_file_bytes != 0 && first.file_bytes > max_file_bytes)
        return rb_fail(error, RB_E_TOO_LARGE, 0, "%llu bytes, the limit is %llu", (unsigned long long)first.file_bytes,
                       (unsigned long long)max_file_bytes);
    RB_POINT(attach_unread);
    /* Reading a hole of a tmpfs file allocates it: it could eat the machine. Copies on disk may have holes. */
    if (access == RB_CONSUME && (uint64_t)status.st_blocks * 512 < first.file_bytes)
        return rb_fail(error, RB_E_SPARSE, 0, "%llu of %llu bytes are allocated",
                       (unsigned long long)status.st_blocks * 512, (unsigned long long)first.file_bytes);
    rb_header *whole = malloc(first.header_bytes);
    if (whole == NULL)
        return rb_fail(error, RB_E_SYSTEM, ENOMEM, "%m");
    rv = read_whole(fd, whole, first.header_bytes, error);
    /* Changed between the two reads: then it is no header, those are immutable. */
    if (rv == RB_OK && memcmp(whole, &first, sizeof first) != 0)
        rv = rb_fail(error, RB_E_CRC, 0, "the header changes while it is read");
    if (rv == RB_OK)
        rv = check_content(whole, error);
    if (rv == RB_OK)
        *copy = whole;
    else
        free(whole);
    return rv;
}
