/*
 * The C doors beside a memcpy of as many bytes, in rounds: `native MODE RING_DIR`. Each line on standard input runs one
 * round and is answered by the nanoseconds of processor time per record. The ring has 8,192 slots of 128 bytes (1 MiB); bursts fit it, and
 * a consumer in this process empties it between them, with the clock stopped. MODE with `_beside_consumer`: a thread
 * takes the records at the same time, and the ring is eight times as large.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "ring_for_bench.h"

enum { SLOT_BYTES = 128, CAPACITY = 8192, BURST = 8000, BURSTS = 200, COPIED_AT_ONCE = 4096 };

typedef struct slot {
    rb_record core;
    uint8_t attributes[SLOT_BYTES - RB_CORE_BYTES];
} slot;

static rb_producer *producer;
static rb_consumer *consumer;
static rb_held_lane *lane;
static slot record, *batch, *memory;
static uint8_t taken[COPIED_AT_ONCE * SLOT_BYTES];
static int has_consumer_thread;
static volatile int is_over;

static void fail(const char *what)
{
    fprintf(stderr, "native: %s\n", what);
    exit(1);
}

/* The processor time of this thread: on a shared machine a clock on the wall counts the neighbours, too. */
static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void take(void)
{
    rb_lane_view view;
    rb_outcome outcome = {.delivered = 0};
    while (rb_poll(consumer, &view) > 0) {
        int64_t copied = rb_copy(consumer, 0, taken, COPIED_AT_ONCE);
        if (copied < 0)
            fail("rb_copy");
        outcome.delivered = (uint64_t)copied;
        if (rb_release(consumer, 0, &outcome) != RB_OK)
            fail("rb_release");
    }
}

static void *take_until_over(void *unused)
{
    while (!is_over)
        take();
    return unused;
}

static void empty(void)
{
    rb_producer_stats stats;
    if (!has_consumer_thread) {
        take();
        return;
    }
    do
        rb_stats(producer, &stats);
    while (stats.pending != 0);
}

/* Keeps the compiler from moving or merging the copies. */
static void barrier(void) { __asm__ volatile("" ::: "memory"); }

static void burst_memcpy(void)
{
    for (uint64_t i = 0; i < BURST; i++) {
        record.core.start_unix_nano = i;
        memcpy(&memory[i & (CAPACITY - 1)], &record, sizeof record);
        barrier();
    }
}

static void burst_batch_memcpy(void)
{
    memcpy(memory, batch, BURST * sizeof record);
    barrier();
}

static void burst_emit(void)
{
    for (uint64_t i = 0; i < BURST; i++) {
        record.core.start_unix_nano = i;
        if (rb_emit(producer, &record.core) != 1)
            fail("rb_emit: not written");
    }
}

static void burst_held(void)
{
    for (uint64_t i = 0; i < BURST; i++) {
        record.core.start_unix_nano = i;
        if (rb_lane_emit(producer, lane, &record.core) != 1)
            fail("rb_lane_emit: not written");
    }
}

static void burst_batch(void)
{
    if (rb_emit_batch(producer, &batch->core, BURST) != BURST)
        fail("rb_emit_batch: not all written");
}

/* Ids and flags from the library, times and attributes from the caller. */
static void burst_begun(void)
{
    for (uint64_t i = 0; i < BURST; i++) {
        rb_span span;
        record.core.start_unix_nano = i;
        rb_span_begin(producer, NULL, &span);
        rb_span_identify(&span, &record.core);
        if (rb_emit(producer, &record.core) != 1)
            fail("rb_emit: not written");
    }
}

/* All that a native span needs: ids, the sampler, its start on both clocks, its end, the record. */
static void burst_clocked(void)
{
    for (uint64_t i = 0; i < BURST; i++) {
        rb_span span;
        rb_span_begin(producer, NULL, &span);
        rb_span_start(&span);
        rb_span_end(&span, rb_clock_monotonic_nano(), &record.core);
        if (rb_emit(producer, &record.core) != 1)
            fail("rb_emit: not written");
    }
}

static const struct mode {
    const char *name;
    void (*burst)(void);
} modes[] = {
    {"memcpy", burst_memcpy},   {"batch_memcpy", burst_batch_memcpy},
    {"emit", burst_emit},       {"held", burst_held},
    {"batch", burst_batch},     {"begun", burst_begun},
    {"clocked", burst_clocked},
};

static void open_both_ends(const char *directory, uint32_t capacity)
{
    char path[RB_MAX_PATH_BYTES];
    if ((producer = open_ring(directory, SLOT_BYTES, capacity, path)) == NULL)
        fail("rb_open");
    if ((consumer = attach_consumer(path)) == NULL)
        fail("rb_attach");
    unlink(path);
}

static void fill_records(void)
{
    memset(&record, 0, sizeof record);
    record.core.end_unix_nano = 2;
    make_sampled(&record.core);
    batch = malloc(BURST * sizeof record);
    memory = mmap(NULL, CAPACITY * sizeof record, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (batch == NULL || memory == MAP_FAILED)
        fail("memory is short");
    for (uint64_t i = 0; i < BURST; i++)
        batch[i] = record;
}

int main(int argc, char **argv)
{
    static const char suffix[] = "_beside_consumer";
    const struct mode *mode = NULL;
    pthread_t thread;
    char line[16];
    if (argc != 3)
        fail("usage: native MODE RING_DIR");
    char *beside = strstr(argv[1], suffix);
    if (beside != NULL)
        *beside = '\0';
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
        if (strcmp(argv[1], modes[i].name) == 0)
            mode = &modes[i];
    if (mode == NULL)
        fail("no such mode");
    open_both_ends(argv[2], beside == NULL ? CAPACITY : 8 * CAPACITY);
    fill_records();
    if (mode->burst == burst_held && (lane = rb_lane_hold(producer)) == NULL)
        fail("rb_lane_hold");
    if (beside != NULL) {
        has_consumer_thread = 1;
        if (pthread_create(&thread, NULL, take_until_over, NULL) != 0)
            fail("pthread_create");
    }
    while (fgets(line, sizeof line, stdin) != NULL) {
        uint64_t nanos = 0;
        for (int i = 0; i < BURSTS; i++) {
            empty();
            uint64_t start = now();
            mode->burst();
            nanos += now() - start;
        }
        printf("%.4f\n", (double)nanos / ((double)BURST * BURSTS));
        fflush(stdout);
    }
    empty();
    if (has_consumer_thread) {
        is_over = 1;
        pthread_join(thread, NULL);
    }
    if (lane != NULL)
        rb_lane_give_back(lane);
    rb_close(producer);
    rb_producer_free(producer);
    rb_consumer_free(consumer);
    return 0;
}
