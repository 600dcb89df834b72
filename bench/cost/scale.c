/*
 * How cost grows: with the size of ring and slot, with the number of rings, with the number of producers. Compiled and
 * run by scale.py. Prints one line of numbers.
 *
 *   scale burst RING_DIR SLOT_BYTES CAPACITY RINGS    emit a burst over all rings in turn, take it, over and over:
 *                                                     emit, take and scan of idle rings, in ns of processor time
 *   scale many RING_DIR SLOT_BYTES CAPACITY PRODUCERS processes that emit until their ring is full, beside one consumer:
 *                                                     published and dropped a second, ns a call, ns a record taken
 *   scale clocks ...                                  ns of CLOCK_REALTIME, CLOCK_MONOTONIC and the bare TSC
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../emit/ring_for_bench.h"

enum { MOST = 256, BURST = 8192, AT_ONCE = 1024, LONGEST = 2 };

static rb_producer *producers[MOST];
static rb_consumer *consumers[MOST];
static uint8_t *record, *taken;
static uint32_t slot_bytes, capacity;

static void fail(const char *what)
{
    fprintf(stderr, "scale: %s\n", what);
    exit(1);
}

static uint64_t clock_of(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void make_ring(const char *directory, int number, char *path)
{
    producers[number] = open_ring(directory, slot_bytes, capacity, path);
    if (producers[number] == NULL)
        fail("rb_open");
}

static void attach(const char *path, int number)
{
    consumers[number] = attach_consumer(path);
    if (consumers[number] == NULL)
        fail("rb_attach");
}

/* Takes what there is in a ring; returns how many records. */
static uint64_t take(rb_consumer *consumer)
{
    rb_lane_view view;
    rb_outcome outcome = {.delivered = 0};
    uint64_t all = 0;
    if (rb_poll(consumer, &view) < 0)
        fail("rb_poll");
    int64_t copied;
    while ((copied = rb_copy(consumer, 0, taken, AT_ONCE)) > 0) {
        outcome.delivered = (uint64_t)copied;
        if (rb_release(consumer, 0, &outcome) != RB_OK)
            fail("rb_release");
        all += (uint64_t)copied;
    }
    return all;
}

static uint64_t take_news(uint32_t rings)
{
    static uint32_t news[MOST];
    uint32_t found = rb_scan(consumers, rings, news);
    uint64_t all = 0;
    for (uint32_t i = 0; i < found; i++)
        all += take(consumers[news[i]]);
    return all;
}

/* ---- burst ---- */

static void burst(const char *directory, uint32_t rings)
{
    char path[RB_MAX_PATH_BYTES];
    uint32_t each = BURST < capacity * rings ? BURST : capacity * rings;
    uint64_t laps = (2 * (uint64_t)capacity * rings + 200 * BURST) / each;
    uint64_t emit_nano = 0, take_nano = 0, emitted = 0, took = 0;
    for (uint32_t i = 0; i < rings; i++) {
        make_ring(directory, (int)i, path);
        attach(path, (int)i);
        unlink(path);
    }
    for (uint64_t lap = 0; lap < laps; lap++) {
        uint64_t begin = clock_of(CLOCK_THREAD_CPUTIME_ID);
        for (uint32_t i = 0; i < each; i++)
            if (rb_emit(producers[i % rings], (const rb_record *)record) != 1)
                fail("rb_emit: not written");
        uint64_t middle = clock_of(CLOCK_THREAD_CPUTIME_ID);
        uint64_t got = take_news(rings);
        uint64_t end = clock_of(CLOCK_THREAD_CPUTIME_ID);
        if (lap * each < (uint64_t)capacity * rings)
            continue; /* the first lap finds no page */
        emit_nano += middle - begin;
        take_nano += end - middle;
        emitted += each;
        took += got;
    }
    uint64_t begin = clock_of(CLOCK_THREAD_CPUTIME_ID);
    for (int i = 0; i < 1000; i++)
        take_news(rings);
    uint64_t scan_nano = clock_of(CLOCK_THREAD_CPUTIME_ID) - begin;
    printf("%.3f %.3f %.3f\n", (double)emit_nano / (double)emitted, (double)take_nano / (double)took,
           (double)scan_nano / 1000 / rings);
}

/* ---- many producers ---- */

struct shared {
    volatile uint32_t ready, go, over;
    struct {
        uint64_t published, dropped, nano;
        char path[RB_MAX_PATH_BYTES];
    } of[MOST];
};

static void produce(struct shared *shared, const char *directory, int number)
{
    uint64_t counts[2] = {0, 0}, nano = 0;
    make_ring(directory, number, shared->of[number].path);
    __atomic_add_fetch(&shared->ready, 1, __ATOMIC_SEQ_CST);
    while (!shared->go)
        usleep(1000);
    uint64_t begin = clock_of(CLOCK_THREAD_CPUTIME_ID);
    while (!shared->over) {
        /* A full ring is left alone for a moment: who hammers it measures its own contention. */
        int written = rb_emit(producers[number], (const rb_record *)record) & 1;
        counts[written]++;
        if (!written) {
            nano += clock_of(CLOCK_THREAD_CPUTIME_ID) - begin;
            usleep(100);
            begin = clock_of(CLOCK_THREAD_CPUTIME_ID);
        }
    }
    shared->of[number].nano = nano + clock_of(CLOCK_THREAD_CPUTIME_ID) - begin;
    shared->of[number].published = counts[1];
    shared->of[number].dropped = counts[0];
    _exit(0);
}

static void many(const char *directory, uint32_t count)
{
    struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        fail("memory is short");
    for (uint32_t i = 0; i < count; i++)
        if (fork() == 0)
            produce(shared, directory, (int)i);
    while (shared->ready < count)
        usleep(1000);
    for (uint32_t i = 0; i < count; i++)
        attach(shared->of[i].path, (int)i);
    uint64_t took = 0;
    uint64_t begin = clock_of(CLOCK_MONOTONIC), mine = clock_of(CLOCK_THREAD_CPUTIME_ID), now = begin;
    shared->go = 1;
    while (now - begin < LONGEST * UINT64_C(1000000000)) {
        took += take_news(count);
        now = clock_of(CLOCK_MONOTONIC);
    }
    mine = clock_of(CLOCK_THREAD_CPUTIME_ID) - mine;
    shared->over = 1;
    while (wait(NULL) > 0)
        ;
    uint64_t published = 0, dropped = 0, nano = 0;
    for (uint32_t i = 0; i < count; i++) {
        published += shared->of[i].published;
        dropped += shared->of[i].dropped;
        nano += shared->of[i].nano;
        unlink(shared->of[i].path);
    }
    double seconds = (double)(now - begin) / 1e9;
    printf("%.0f %.0f %.3f %.3f\n", (double)published / seconds, (double)dropped / seconds,
           (double)nano / (double)(published + dropped), (double)mine / (double)took);
}

/* ---- clocks ---- */

static uint64_t bare_tsc(void)
{
#ifdef __x86_64__
    return __builtin_ia32_rdtsc();
#else
    return 0;
#endif
}

static double each(uint64_t (*read)(void))
{
    enum { READINGS = 2000000 };
    volatile uint64_t sum = 0;
    uint64_t begin = clock_of(CLOCK_THREAD_CPUTIME_ID);
    for (int i = 0; i < READINGS; i++)
        sum += read();
    return (double)(clock_of(CLOCK_THREAD_CPUTIME_ID) - begin) / READINGS;
}

int main(int argc, char **argv)
{
    if (argc != 6)
        fail("usage: scale burst|many RING_DIR SLOT_BYTES CAPACITY RINGS");
    slot_bytes = (uint32_t)atoi(argv[3]);
    capacity = (uint32_t)atoi(argv[4]);
    uint32_t count = (uint32_t)atoi(argv[5]);
    record = aligned_alloc(64, slot_bytes);
    taken = malloc((size_t)AT_ONCE * slot_bytes);
    if (count < 1 || count > MOST || record == NULL || taken == NULL)
        fail("usage: at most 256 rings");
    memset(record, 0, slot_bytes);
    make_sampled((rb_record *)record);
    if (strcmp(argv[1], "clocks") == 0)
        printf("%.3f %.3f %.3f\n", each(rb_clock_unix_nano), each(rb_clock_monotonic_nano), each(bare_tsc));
    else if (strcmp(argv[1], "burst") == 0)
        burst(argv[2], count);
    else
        many(argv[2], count);
    return 0;
}
