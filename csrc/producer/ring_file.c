/*
 * From nothing to a whole ring under its name. The order of the steps in fill_file() is what keeps half-made files and
 * inherited locks impossible.
 */
#include "producer/ring_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "shared/crc32.h"
#include "shared/error.h"
#include "shared/point.h"
#include "shared/reserve.h"

_Static_assert(sizeof(rb_header) == 128, "header");
_Static_assert(offsetof(rb_header, crc32) == 60, "header.crc32");
_Static_assert(offsetof(rb_header, layout_offset) == 104, "header.layout_offset");
_Static_assert(offsetof(rb_header, root_threshold) == 120, "header.root_threshold");
_Static_assert(sizeof(rb_lane) == 384 && RB_LANE_BYTES == 384, "lane");
_Static_assert(offsetof(rb_lane, full) == 128, "lane.full");
_Static_assert(offsetof(rb_lane, head) == 256, "lane.head");
_Static_assert(offsetof(rb_lane, consumer_state) == 304, "lane.consumer_state");
_Static_assert(offsetof(rb_lane, told_full) == 312, "lane.told_full");
_Static_assert(sizeof(rb_record) == 64 && RB_CORE_BYTES == 64, "record");
_Static_assert(offsetof(rb_record, trace_id) == 16, "record.trace_id");
_Static_assert(offsetof(rb_record, span_id) == 32, "record.span_id");
_Static_assert(offsetof(rb_record, parent_span_id) == 40, "record.parent_span_id");
_Static_assert(offsetof(rb_record, present) == 48, "record.present");
_Static_assert(offsetof(rb_record, name) == 52, "record.name");
_Static_assert(offsetof(rb_record, flags) == 56, "record.flags");

static const uint8_t magic[8] = {'r', 'i', 'n', 'g', 'b', 'u', 'f', 0};

static uint64_t round_up(uint64_t bytes, uint64_t to) { return (bytes + to - 1) / to * to; }

int rb_shape_of(const rb_config *config, struct rb_shape *shape, rb_error *error)
{
    uint32_t capacity = config->capacity_slots;
    if (config->ring_dir == NULL || config->service_name == NULL || config->layout_json == NULL ||
        config->resource_json == NULL)
        return rb_fail(error, RB_E_ARGUMENT, 0, "a string is NULL");
    if (capacity < RB_MIN_CAPACITY_SLOTS || capacity > RB_MAX_CAPACITY_SLOTS || (capacity & (capacity - 1)) != 0)
        return rb_fail(error, RB_E_ARGUMENT, 0, "capacity_slots is not a power of two between 4 and 16777216");
    if (config->slot_bytes < RB_CORE_BYTES || config->slot_bytes > RB_MAX_SLOT_BYTES || config->slot_bytes % 64 != 0)
        return rb_fail(error, RB_E_ARGUMENT, 0, "slot_bytes is not a multiple of 64 between 64 and 16384");
    if (config->lane_count < 1 || config->lane_count > RB_MAX_LANES)
        return rb_fail(error, RB_E_ARGUMENT, 0, "lane_count is not between 1 and 64");
    if (config->span_name_count < 1 || config->span_name_count > UINT16_MAX)
        return rb_fail(error, RB_E_ARGUMENT, 0, "span_name_count is not between 1 and 65535");
    if (config->layout_bytes > RB_MAX_JSON_BYTES || config->resource_bytes > RB_MAX_JSON_BYTES)
        return rb_fail(error, RB_E_ARGUMENT, 0, "layout or resource has more than 262144 bytes");
    if (config->present_bits & ~((uint32_t)RB_PRESENT_ALONE | (uint32_t)RB_PRESENT_ROOT_THRESHOLD))
        return rb_fail(error, RB_E_ARGUMENT, 0, "present_bits has other bits than the two RB_PRESENT_...");
    if (config->root_threshold > RB_THRESHOLDS)
        return rb_fail(error, RB_E_ARGUMENT, 0, "root_threshold is above 72057594037927936, 1 + the highest threshold");
    shape->header_bytes =
        (uint32_t)round_up(sizeof(rb_header) + (uint64_t)config->layout_bytes + config->resource_bytes, RB_PAGE_BYTES);
    shape->lane_stride_bytes = round_up(RB_LANE_BYTES + (uint64_t)capacity * config->slot_bytes, RB_PAGE_BYTES);
    shape->file_bytes = shape->header_bytes + config->lane_count * shape->lane_stride_bytes;
    return RB_OK;
}

int64_t rb_ring_bytes(const rb_config *config)
{
    struct rb_shape shape = {0};
    int rv = rb_shape_of(config, &shape, NULL);
    return rv == RB_OK ? (int64_t)shape.file_bytes : rv;
}

static void read_boot_id(uint8_t boot_id[16])
{
    char text[64] = "";
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return; /* stays zero: unknown */
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    unsigned digits = 0;
    for (ssize_t i = 0; i < got && digits < 32; i++) {
        char c = text[i];
        unsigned value = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                                                : 16;
        if (value < 16) {
            boot_id[digits / 2] = (uint8_t)((unsigned)boot_id[digits / 2] << 4 | value);
            digits++;
        }
    }
}

static void fill_header(uint8_t *map, const rb_config *config, const struct rb_shape *shape)
{
    rb_header *header = (rb_header *)(void *)map;
    memcpy(header->magic, magic, sizeof magic);
    header->abi_major = RB_ABI_MAJOR;
    header->abi_minor = RB_ABI_MINOR;
    header->header_bytes = shape->header_bytes;
    header->slot_bytes = config->slot_bytes;
    header->lane_count = config->lane_count;
    header->capacity_slots = config->capacity_slots;
    header->lane_stride_bytes = shape->lane_stride_bytes;
    header->file_bytes = shape->file_bytes;
    header->first_position = config->first_position;
    header->pid = (uint32_t)getpid();
    read_boot_id(header->boot_id);
    header->clock_monotonic_nano = rb_clock_monotonic_nano();
    header->clock_realtime_nano = rb_clock_unix_nano();
    header->created_unix_nano = header->clock_realtime_nano;
    header->layout_offset = sizeof(rb_header);
    header->layout_bytes = config->layout_bytes;
    header->resource_offset = header->layout_offset + config->layout_bytes;
    header->resource_bytes = config->resource_bytes;
    header->root_threshold = shape->root_threshold;
    memcpy(map + header->layout_offset, config->layout_json, config->layout_bytes);
    memcpy(map + header->resource_offset, config->resource_json, config->resource_bytes);
    RB_POINT(create_unsummed);
    header->crc32 = rb_crc32(map, shape->header_bytes);
    /* Plain, as all here: nobody else has the file before link_file(), and the kernel orders linkat before open. */
    for (uint32_t i = 0; i < config->lane_count; i++) {
        rb_lane *lane = (rb_lane *)(void *)(map + shape->header_bytes + i * shape->lane_stride_bytes);
        lane->tail = config->first_position;
        lane->head = config->first_position;
    }
}

/* "<service, percent-encoded, at most 64 bytes>-<pid>-<8 hex>.ring": for people; tools read the header. */
static int file_name(char name[128], const char *service_name)
{
    static const char hex[] = "0123456789ABCDEF";
    uint32_t random;
    size_t used = 0;
    for (const char *c = service_name; *c != 0; c++) {
        int plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || *c == '_' ||
                    *c == '~' || (*c == '.' && used > 0); /* no hidden files */
        if (used + (plain ? 1 : 3) > 64)
            break;
        if (plain) {
            name[used++] = *c;
        } else {
            name[used++] = '%';
            name[used++] = hex[(uint8_t)*c >> 4];
            name[used++] = hex[(uint8_t)*c & 15];
        }
    }
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        return RB_E_SYSTEM;
    snprintf(name + used, 128 - used, "-%u-%08x.ring", (unsigned)getpid(), random);
    return RB_OK;
}

/* flock for the drain (any PID namespace, no PID reuse), an OFD lock for observers, who may only ask (F_OFD_GETLK). */
static int lock_file(int fd)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        return -1;
    RB_POINT(create_half_locked);
    return fcntl(fd, F_OFD_SETLK, &whole);
}

/* fallocate'd pages still fault on first touch: 33 ns a record in the first lap instead of 1.5. */
static int prefault(uint8_t *map, uint64_t bytes)
{
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
    RB_POINT(create_unforkable);
    if (madvise(map, bytes, MADV_POPULATE_WRITE) == 0)
        return 0;
    if (errno == ENOMEM || errno == EFAULT || errno == EHWPOISON)
        return -1;
    for (uint64_t at = 0; at < bytes; at += RB_PAGE_BYTES) /* not known (Linux before 5.14), or not allowed */
        *(volatile uint8_t *)(map + at) = 0;
    return 0;
}

static int link_file(int dir_fd, int fd, const rb_config *config, char *path, rb_error *error)
{
    char name[128];
    char source[32];
    snprintf(source, sizeof source, "/proc/self/fd/%d", fd);
    for (int tries = 0;; tries++) {
        if (file_name(name, config->service_name) != RB_OK)
            return rb_fail(error, RB_E_SYSTEM, errno, "getrandom: %m");
        if ((size_t)snprintf(path, RB_MAX_PATH_BYTES, "%s/%s", config->ring_dir, name) >= RB_MAX_PATH_BYTES)
            return rb_fail(error, RB_E_ARGUMENT, 0, "the ring directory's path is too long");
        RB_POINT(create_unlinked);
        if (linkat(AT_FDCWD, source, dir_fd, name, AT_SYMLINK_FOLLOW) == 0)
            return RB_OK;
        if (errno != EEXIST || tries == 3)
            return rb_fail(error, RB_E_SYSTEM, errno, "linkat through /proc/self/fd: %m");
    }
}

/* In a setgid and sticky directory a drain of its group reads rings: the group form. */
static mode_t mode_of(int dir_fd, const rb_config *config)
{
    struct stat dir;
    if (config->file_mode != 0)
        return config->file_mode;
    return fstat(dir_fd, &dir) == 0 && (dir.st_mode & S_ISGID) && (dir.st_mode & S_ISVTX) ? 0660 : 0600;
}

/* From a nameless file to a whole, locked, named ring. `fd` stays the caller's. */
static int fill_file(int dir_fd, int fd, const rb_config *config, const struct rb_shape *shape, uint8_t **map,
                     struct stat *found, char *path, rb_error *error)
{
    if (fchmod(fd, mode_of(dir_fd, config)) != 0) /* the umask shall not decide */
        return rb_fail(error, RB_E_SYSTEM, errno, "fchmod: %m");
    if (fstat(fd, found) != 0)
        return rb_fail(error, RB_E_SYSTEM, errno, "fstat: %m");
    RB_POINT(create_unlocked);
    if (lock_file(fd) != 0)
        return rb_fail(error, RB_E_SYSTEM, errno, "locking the ring: %m");
    RB_POINT(create_locked);
    int rv = rb_reserve(fd, shape->file_bytes);
    if (rv != 0)
        return rb_fail(error, RB_E_SYSTEM, rv, "reserving the ring's memory (posix_fallocate): %m");
    RB_POINT(create_reserved);
    uint8_t *mapped = mmap(NULL, shape->file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED)
        return rb_fail(error, RB_E_SYSTEM, errno, "mmap: %m");
    RB_POINT(create_mapped);
    if (madvise(mapped, shape->file_bytes, MADV_DONTFORK) != 0 || prefault(mapped, shape->file_bytes) != 0) {
        rv = rb_fail(error, RB_E_SYSTEM, errno, "madvise: %m");
    } else {
        RB_POINT(create_prefaulted);
        fill_header(mapped, config, shape);
        rv = link_file(dir_fd, fd, config, path, error);
        RB_POINT(create_linked);
    }
    if (rv == RB_OK)
        *map = mapped;
    else
        munmap(mapped, shape->file_bytes);
    return rv;
}

int rb_make_ring(int dir_fd, const rb_config *config, const struct rb_shape *shape, uint8_t **map, struct stat *found,
                 char *path, rb_error *error)
{
    int fd = openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600); /* a killed creator leaves nothing */
    if (fd < 0)
        return rb_fail(error, RB_E_SYSTEM, errno, "opening a new file in the ring directory (O_TMPFILE): %m");
    RB_POINT(create_opened);
    int rv = fill_file(dir_fd, fd, config, shape, map, found, path, error);
    close(fd); /* the mapping keeps the locks; a descriptor would hand them to children */
    RB_POINT(create_closed);
    return rv;
}
