/*
 * The life of a producer's ring: make it, let it take the place of an older one, close it. All of it is outside the hot
 * path (emit.c); the order of the steps in make_ring() is what keeps half-made files and inherited locks impossible.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "producer/producer_state.h"
#include "shared/atomics.h"
#include "shared/crc32.h"
#include "shared/doorbell_ring.h"
#include "shared/error.h"
#include "shared/point.h"
#include "shared/reserve.h"

_Static_assert(sizeof(rb_header) == 128, "header");
_Static_assert(offsetof(rb_header, crc32) == 60, "header.crc32");
_Static_assert(offsetof(rb_header, layout_offset) == 104, "header.layout_offset");
_Static_assert(sizeof(rb_lane) == 384 && RB_LANE_BYTES == 384, "lane");
_Static_assert(offsetof(rb_lane, full) == 128, "lane.full");
_Static_assert(offsetof(rb_lane, head) == 256, "lane.head");
_Static_assert(offsetof(rb_lane, consumer_state) == 304, "lane.consumer_state");
_Static_assert(sizeof(rb_record) == 64 && RB_CORE_BYTES == 64, "record");
_Static_assert(offsetof(rb_record, trace_id) == 16, "record.trace_id");
_Static_assert(offsetof(rb_record, span_id) == 32, "record.span_id");
_Static_assert(offsetof(rb_record, parent_span_id) == 40, "record.parent_span_id");
_Static_assert(offsetof(rb_record, present) == 48, "record.present");
_Static_assert(offsetof(rb_record, name) == 52, "record.name");
_Static_assert(offsetof(rb_record, flags) == 56, "record.flags");
_Static_assert(sizeof(rb_held_lane) == RB_LINE_BYTES, "a private lane fills its lines");
_Static_assert(offsetof(rb_producer, lanes) == 3 * RB_LINE_BYTES, "private state in lines");

static const uint8_t magic[8] = {'r', 'i', 'n', 'g', 'b', 'u', 'f', 0};

enum { PATIENCE_NANO = 1000000000 };

/*
 * Who makes a ring or maps a doorbell: the process in the upper half, the thread in the lower; 0: nobody. fork takes it
 * too, as a child forked between mmap and MADV_DONTFORK would inherit the mapping, and with it the lock that says that
 * the producer lives. A child, whatever forked it, finds another process's number here and takes the word as free. (That
 * of a raw clone, which asks nobody, may keep the lock of a ring that was being made just then, until it ends.)
 */
static uint64_t maker;

static uint64_t own_mark(void) { return (uint64_t)getpid() << 32 | (uint32_t)syscall(SYS_gettid); }

/* On little-endian machines, as all here are, the thread's half of the word. */
static uint32_t *maker_thread(void) { return (uint32_t *)(void *)&maker; }

static void wait_for(uint64_t seen, uint64_t nanoseconds)
{
    struct timespec left = {.tv_nsec = (long)(nanoseconds < PATIENCE_NANO ? nanoseconds : PATIENCE_NANO - 1)};
    syscall(SYS_futex, maker_thread(), FUTEX_WAIT_PRIVATE, (uint32_t)seen, &left, NULL, 0);
}

/*
 * 1: taken; 0: it is this thread's already, a fork handler's that runs after ours and whose ring is whole before the
 * fork; RB_BUSY after a second: such a handler waits for us, or the file system hangs.
 */
static int take_making(void)
{
    uint64_t mine = own_mark();
    uint64_t give_up = rb_clock_monotonic_nano() + PATIENCE_NANO;
    for (;;) {
        uint64_t seen = rb_load_relaxed(&maker);
        if (seen == mine)
            return 0;
        if (seen == 0 || seen >> 32 != mine >> 32) {
            if (rb_take_word(&maker, seen, mine))
                return 1;
            continue;
        }
        uint64_t now = rb_clock_monotonic_nano();
        if (now >= give_up)
            return RB_BUSY;
        wait_for(seen, give_up - now);
    }
}

static void free_making(void)
{
    rb_store_release(&maker, 0); /* pairs with rb_take_word() */
    syscall(SYS_futex, maker_thread(), FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

/* fork goes on after a second without the word, as a raw clone does: it may be a handler of its own that has it. */
static void before_fork(void)
{
    int saved_errno = errno;
    take_making();
    errno = saved_errno;
}

static void after_fork(void)
{
    int saved_errno = errno;
    if (rb_load_relaxed(&maker) == own_mark())
        free_making();
    errno = saved_errno;
}

/* When the library is loaded, since a raw clone beside a pthread_once would leave that under way for ever. */
static __attribute__((constructor)) void guard_forks(void) { pthread_atfork(before_fork, after_fork, NULL); }

struct disturbances {
    sigset_t signals;
    int cancellation;
};

/*
 * While a ring is made nothing may come between: a handler that forks would wait for its own thread, signals that keep
 * coming would keep posix_fallocate from its end (those that an instruction itself raises come all the same), and a
 * thread that is cancelled at one of the system calls would keep what it has taken for ever.
 */
static void hold_disturbances(struct disturbances *before)
{
    static const int raised[] = {SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS};
    sigset_t held;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before->cancellation);
    sigfillset(&held);
    for (size_t i = 0; i < sizeof raised / sizeof *raised; i++)
        sigdelset(&held, raised[i]);
    pthread_sigmask(SIG_BLOCK, &held, &before->signals);
}

static void free_disturbances(const struct disturbances *before)
{
    pthread_sigmask(SIG_SETMASK, &before->signals, NULL);
    pthread_setcancelstate(before->cancellation, NULL);
}

/* ---- private state ---- */

static uint64_t round_up(uint64_t bytes, uint64_t to) { return (bytes + to - 1) / to * to; }

/* When whoever waits for a flag gives up: emits and openings end in milliseconds. One end for all flags of a call. */
static uint64_t end_of_patience(void) { return rb_clock_monotonic_nano() + PATIENCE_NANO; }

/* Takes a flag, which is tried once even at the end. */
static int take_until(uint32_t *flag, uint64_t end)
{
    while (!rb_try_take(flag)) {
        if (rb_clock_monotonic_nano() > end)
            return RB_BUSY;
        sched_yield();
    }
    return RB_OK;
}

/* ---- the file ---- */

/* Geometry of the ring that `config` asks for. */
struct shape {
    uint32_t header_bytes;
    uint64_t lane_stride_bytes;
    uint64_t file_bytes;
};

static int shape_of(const rb_config *config, struct shape *shape, rb_error *error)
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
    shape->header_bytes =
        (uint32_t)round_up(sizeof(rb_header) + (uint64_t)config->layout_bytes + config->resource_bytes, RB_PAGE_BYTES);
    shape->lane_stride_bytes = round_up(RB_LANE_BYTES + (uint64_t)capacity * config->slot_bytes, RB_PAGE_BYTES);
    shape->file_bytes = shape->header_bytes + config->lane_count * shape->lane_stride_bytes;
    return RB_OK;
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

static void fill_header(uint8_t *map, const rb_config *config, const struct shape *shape)
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

/* From a nameless file to a whole, locked, named ring. `fd` stays the caller's. */
static int fill_file(int dir_fd, int fd, const rb_config *config, const struct shape *shape, uint8_t **map,
                     struct stat *found, char *path, rb_error *error)
{
    if (fchmod(fd, config->file_mode) != 0) /* the umask shall not decide */
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

static int make_ring(int dir_fd, const rb_config *config, const struct shape *shape, uint8_t **map, struct stat *found,
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

/* Without a doorbell the drain's timed wait does. Children make their own with their ring. */
static uint32_t *map_doorbell(int dir_fd)
{
    struct stat status;
    uint32_t *word = NULL;
    int fd = openat(dir_fd, "doorbell", O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return NULL;
    /* It is added to: a file of ours to which somebody gave this name as its second is left alone. */
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_nlink == 1) {
        RB_POINT(doorbell_found);
        void *map = mmap(NULL, RB_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map != MAP_FAILED) {
            RB_POINT(doorbell_mapping);
            madvise(map, RB_PAGE_BYTES, MADV_DONTFORK);
            word = map;
        }
    }
    close(fd);
    return word;
}

/* ---- open, close ---- */

/* The lanes of the ring that is mapped at `map`, of the shape that the producer has. */
static void add_lane_counts(const rb_producer *producer, const uint8_t *map, rb_producer_stats *sum)
{
    for (uint32_t i = 0; i < producer->lane_count; i++) {
        const rb_lane *lane =
            (const rb_lane *)(const void *)(map + producer->header_bytes + i * producer->lane_stride_bytes);
        sum->published += rb_load_relaxed(&lane->tail) - producer->first_position;
        sum->full += rb_load_relaxed(&lane->full);
        sum->contended += rb_load_relaxed(&lane->contended);
        sum->unsampled += rb_load_relaxed(&lane->unsampled);
        sum->truncated += rb_load_relaxed(&lane->truncated);
        sum->invalid_values += rb_load_relaxed(&lane->invalid_values);
    }
}

/* All lanes begin at the ring's first position, at `map`. Nobody else holds one. */
static void bind_lanes(rb_producer *producer, uint64_t first_position, uint8_t *map)
{
    producer->first_position = first_position;
    producer->map = map;
    rb_store_relaxed(&producer->seen_published, producer->lane_count * first_position);
    for (uint32_t i = 0; i < producer->lane_count; i++) {
        rb_held_lane *lane = &producer->lanes[i];
        uint8_t *at = map + producer->header_bytes + i * producer->lane_stride_bytes;
        lane->tail = first_position;
        lane->head = first_position;
        lane->slots = at + RB_LANE_BYTES;
        /* Pairs with counters_of(): who does not hold the lane counts there. */
        rb_store_lane_release(&lane->shared, (rb_lane *)(void *)at);
    }
}

/* What a ring's config says of sampling, which may change with each ring. */
static void take_sampler(rb_producer *producer, const rb_config *config)
{
    rb_store32_relaxed(&producer->emit_unsampled, config->emit_unsampled);
    rb_store32_relaxed(&producer->root_always, config->root_always);
    rb_store_relaxed(&producer->root_bound, config->root_bound);
}

static void give_lanes_back(rb_producer *producer, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        rb_give_back(&producer->lanes[i].busy);
}

/* All lanes, so that no emit is under way; on failure those taken are given back. */
static int take_all_lanes(rb_producer *producer)
{
    uint64_t end = end_of_patience();
    for (uint32_t i = 0; i < producer->lane_count; i++) {
        if (take_until(&producer->lanes[i].busy, end) != RB_OK) {
            give_lanes_back(producer, i);
            return RB_BUSY;
        }
    }
    return RB_OK;
}

/*
 * Where the new ring cannot be moved over the old one: the kernel may have unmapped that already. The lanes go to where
 * the new one is. A thread that found no lane and is about to count may still do so at the old address, where nothing
 * is lost but that count: there shall be memory, which is never given back.
 */
static uint8_t *leave_behind(uint8_t *old, uint64_t bytes, uint8_t *map)
{
    mmap(old, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    return map;
}

/*
 * Move the new ring over the old one's address: pointers that other threads hold stay valid, and a stray count lands in
 * the new ring. The old ring's last mapping goes, and with it its lock: the drain finds it dead and drains it.
 */
static int replace_ring(rb_producer *producer, const rb_config *config, uint8_t *map, rb_error *error)
{
    uint64_t bytes = producer->map_bytes;
    if (take_all_lanes(producer) != RB_OK)
        return rb_fail(error, RB_BUSY, 0, "a lane stays held");
    RB_POINT(replace_begin);
    /* Threads that find no lane count meanwhile: a second mapping of the old ring shows the last of it. */
    uint8_t *old = mremap(producer->map, 0, bytes, MREMAP_MAYMOVE);
    RB_POINT(replace_shown_twice);
    if (old == MAP_FAILED)
        add_lane_counts(producer, producer->map, &producer->retired);
    uint8_t *moved = mremap(map, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, producer->map);
    if (moved == MAP_FAILED)
        moved = leave_behind(producer->map, bytes, map);
    RB_POINT(replace_moved);
    if (old != MAP_FAILED) {
        add_lane_counts(producer, old, &producer->retired);
        munmap(old, bytes);
    }
    RB_POINT(replace_unlocked);
    take_sampler(producer, config);
    bind_lanes(producer, config->first_position, moved);
    give_lanes_back(producer, producer->lane_count);
    RB_POINT(replace_done);
    return RB_OK;
}

/* Pairs with the acquire load of each emit. */
static void set_state(rb_producer *producer, uint32_t state)
{
    rb_store32_release(&producer->state, producer->process == 0 ? state : state + RB_STATE_UNWIPED);
}

static void adopt_ring(rb_producer *producer, const rb_config *config, const struct shape *shape, uint8_t *map)
{
    producer->lane_count = config->lane_count;
    producer->slot_bytes = config->slot_bytes;
    producer->capacity_slots = config->capacity_slots;
    producer->quarter_shift = (uint32_t)__builtin_ctz(config->capacity_slots) - 2;
    producer->span_name_count = config->span_name_count;
    producer->layout_crc32 = rb_crc32(config->layout_json, config->layout_bytes);
    producer->header_bytes = shape->header_bytes;
    producer->lane_stride_bytes = shape->lane_stride_bytes;
    producer->map_bytes = shape->file_bytes;
    take_sampler(producer, config);
    bind_lanes(producer, config->first_position, map);
    RB_POINT(create_bound);
    set_state(producer, RB_STATE_OPEN);
}

#define NOT_AS_BEFORE " is another than that of the ring that this one replaces"

/*
 * What a ring that takes another's place may not change, NULL when it changes nothing: it is moved over the old one, and
 * threads are writing records of the old layout, whose names and attributes go by number.
 */
static const char *what_changed(const rb_producer *producer, const rb_config *config, const struct shape *shape)
{
    if (producer->lane_count != config->lane_count)
        return "lane_count" NOT_AS_BEFORE;
    if (producer->capacity_slots != config->capacity_slots)
        return "capacity_slots" NOT_AS_BEFORE;
    if (producer->slot_bytes != config->slot_bytes)
        return "slot_bytes" NOT_AS_BEFORE;
    if (producer->span_name_count != config->span_name_count)
        return "span_name_count" NOT_AS_BEFORE;
    if (producer->layout_crc32 != rb_crc32(config->layout_json, config->layout_bytes))
        return "layout_json" NOT_AS_BEFORE;
    if (producer->map_bytes != shape->file_bytes)
        return "the size of layout_json and resource_json" NOT_AS_BEFORE;
    return NULL;
}

static int open_ring(rb_producer *producer, const rb_config *config, const struct shape *shape, char *path,
                     rb_error *error)
{
    /* Pairs with set_state()'s release; `life` orders them too. */
    uint32_t state = rb_state_here(producer, rb_load32_acquire(&producer->state));
    if (state == RB_STATE_CLOSED)
        return rb_fail(error, RB_CLOSED, 0, "the producer is closed");
    const char *changed = state == RB_STATE_OPEN ? what_changed(producer, config, shape) : NULL;
    if (changed != NULL)
        return rb_fail(error, RB_E_ARGUMENT, 0, "%s", changed);
    int dir_fd = open(config->ring_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0)
        return rb_fail(error, RB_E_SYSTEM, errno, "opening the ring directory: %m");
    RB_POINT(create_begin);
    uint8_t *map = NULL;
    struct stat found;
    int rv = make_ring(dir_fd, config, shape, &map, &found, path, error);
    if (rv == RB_OK && producer->doorbell == NULL)
        rb_store_pointer_release(&producer->doorbell, map_doorbell(dir_fd)); /* pairs with ring_doorbell()'s load */
    close(dir_fd);
    if (rv != RB_OK)
        return rv;
    RB_POINT(create_unrung);
    if (producer->doorbell != NULL)
        rb_ring_word(producer->doorbell); /* `sleeping` is not set in a ring that the drain has not seen yet */
    RB_POINT(create_rung);
    if (state == RB_STATE_NONE) {
        adopt_ring(producer, config, shape, map);
        RB_POINT(create_done);
    } else {
        rv = replace_ring(producer, config, map, error);
    }
    if (rv != RB_OK) {
        munmap(map, shape->file_bytes);
        unlink(path);
        return rv;
    }
    producer->device = found.st_dev;
    producer->inode = found.st_ino;
    memcpy(producer->path, path, strlen(path) + 1);
    return RB_OK;
}

int64_t rb_ring_bytes(const rb_config *config)
{
    struct shape shape = {0};
    int rv = shape_of(config, &shape, NULL);
    return rv == RB_OK ? (int64_t)shape.file_bytes : rv;
}

/* The producer's life flag and the word of those who make. As take_making(). */
static int begin_making(rb_producer *producer)
{
    rb_wipe_in_child(producer);
    if (!rb_try_take(&producer->life))
        return RB_BUSY;
    int taken = take_making();
    if (taken < 0)
        rb_give_back(&producer->life);
    return taken;
}

static void end_making(rb_producer *producer, int taken)
{
    if (taken > 0)
        free_making();
    if (taken >= 0)
        rb_give_back(&producer->life);
}

int rb_open(rb_producer *producer, const rb_config *config, char *path, rb_error *error)
{
    struct shape shape = {0};
    struct disturbances before;
    if (producer == NULL || config == NULL || path == NULL)
        return rb_fail(error, RB_E_ARGUMENT, 0, "a pointer is NULL");
    int rv = shape_of(config, &shape, error);
    if (rv != RB_OK)
        return rv;
    hold_disturbances(&before);
    int taken = begin_making(producer);
    if (taken >= 0)
        rv = open_ring(producer, config, &shape, path, error);
    else
        rv = rb_fail(error, RB_BUSY, 0, "another thread opens or closes a producer");
    end_making(producer, taken);
    free_disturbances(&before);
    return rv;
}

/* The doorbell is mapped afterwards, if there is one. */
static int find_doorbell(rb_producer *producer, const char *ring_dir)
{
    int dir_fd = producer->doorbell == NULL ? open(ring_dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    if (dir_fd >= 0) {
        rb_store_pointer_release(&producer->doorbell, map_doorbell(dir_fd)); /* pairs with ring_doorbell()'s load */
        close(dir_fd);
    }
    return producer->doorbell != NULL ? RB_OK : RB_E_SYSTEM;
}

int rb_find_doorbell(rb_producer *producer, const char *ring_dir)
{
    struct disturbances before;
    hold_disturbances(&before);
    int taken = begin_making(producer);
    int rv = taken >= 0 ? find_doorbell(producer, ring_dir) : RB_BUSY;
    end_making(producer, taken);
    free_disturbances(&before);
    return rv;
}

int rb_close(rb_producer *producer)
{
    uint64_t end = end_of_patience();
    rb_wipe_in_child(producer);
    if (take_until(&producer->life, end) != RB_OK)
        return RB_BUSY;
    int rv = RB_OK;
    RB_POINT(close_begin);
    /*
     * Before the lanes: who sees it counts as local. It pairs with each emit's acquire, but nothing is handed over: who
     * finds a lane taken and does not see this yet counts in the ring, which rb_stats adds up as well.
     */
    set_state(producer, RB_STATE_CLOSED);
    for (uint32_t i = 0; producer->map != NULL && i < producer->lane_count; i++) {
        RB_POINT(close_lane);
        if (producer->lanes[i].is_over)
            continue;
        /* Kept for good: whoever emits from now on finds it taken. */
        if (take_until(&producer->lanes[i].busy, end) != RB_OK) {
            rv = RB_BUSY; /* its `closed` stays unset: the drain will learn of the end from the lock */
            continue;
        }
        /* Pairs with rb_poll's acquire: all tails of this lane came before, as we hold it now. */
        rb_store32_release(&producer->lanes[i].shared->closed, 1);
        producer->lanes[i].is_over = 1;
    }
    RB_POINT(close_done);
    rb_give_back(&producer->life);
    return rv;
}

void rb_producer_free(rb_producer *producer)
{
    if (producer == NULL)
        return;
    rb_wipe_in_child(producer);
    /* In a forked child both are NULL: nothing of the parent's is unmapped. */
    if (producer->doorbell != NULL)
        munmap(producer->doorbell, RB_PAGE_BYTES);
    if (producer->map != NULL)
        munmap(producer->map, producer->map_bytes);
    rb_unmap_state(producer);
}

int rb_stats(rb_producer *producer, rb_producer_stats *stats)
{
    rb_wipe_in_child(producer);
    if (take_until(&producer->life, end_of_patience()) != RB_OK)
        return RB_BUSY;
    *stats = producer->retired;
    stats->local = rb_load_relaxed(&producer->local);
    if (producer->map != NULL) {
        uint32_t state = rb_load32_acquire(&producer->state); /* under `life`, as its stores are */
        stats->is_open = rb_state_here(producer, state) == RB_STATE_OPEN;
        stats->capacity_slots = (uint64_t)producer->capacity_slots * producer->lane_count;
        stats->consumer_state = rb_load32_relaxed(&producer->lanes[0].shared->consumer_state);
        add_lane_counts(producer, producer->map, stats);
        for (uint32_t i = 0; i < producer->lane_count; i++) {
            const rb_lane *lane = producer->lanes[i].shared;
            /* head first: a tail loaded before it could lie behind it. */
            uint64_t head = rb_load_acquire(&lane->head);          /* pairs with rb_release's store */
            stats->pending += rb_load_acquire(&lane->tail) - head; /* pairs with publish() */
        }
    }
    rb_give_back(&producer->life);
    return RB_OK;
}
