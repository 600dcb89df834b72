/*
 * A signal handler emits while the code that it interrupted emits too: with one lane its span is contended, with two it
 * goes to the other; nothing hangs, nothing is torn, and every attempt is counted.
 */
#include <assert.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "atomics.h"
#include "ringbuf.h"

enum { CAPACITY = 1024, SLOT_BYTES = 1024, WANTED = 300 };

typedef struct {
    rb_record core;
    uint64_t words[(SLOT_BYTES - sizeof(rb_record)) / 8];
} record;

static rb_producer *producer;
static record of_handler;
static uint64_t handled, written_by_handler;

static void on_alarm(int signal_number)
{
    (void)signal_number;
    int rv = rb_emit(producer, &of_handler.core);
    assert(rv == 0 || rv == 1);
    handled++;
    written_by_handler += (uint64_t)rv;
}

static record make_record(uint64_t number)
{
    record made;
    memset(&made, 0, sizeof made);
    made.core.trace_id[0] = made.core.span_id[0] = 1;
    made.core.flags = RB_SPAN_SAMPLED;
    for (size_t i = 0; i < sizeof made.words / sizeof *made.words; i++)
        made.words[i] = number;
    return made;
}

static void drain(rb_consumer *consumer, uint32_t lanes, uint64_t *total)
{
    static record records[CAPACITY];
    for (uint32_t lane = 0; lane < lanes; lane++) {
        int64_t count = rb_copy(consumer, lane, records, CAPACITY);
        assert(count >= 0);
        for (int64_t i = 0; i < count; i++) {
            record expected = make_record(records[i].words[0]);
            assert(memcmp(&expected, &records[i], sizeof expected) == 0);
        }
        rb_outcome outcome = {.delivered = (uint64_t)count};
        assert(rb_release(consumer, lane, &outcome) == RB_OK);
        *total += (uint64_t)count;
    }
}

static void run(const char *directory, uint32_t lanes)
{
    char path[RB_MAX_PATH_BYTES];
    rb_error error;
    rb_consumer *consumer;
    rb_producer_stats stats;
    uint64_t total = 0, attempts = 0;
    rb_config config = {.ring_dir = directory,
                        .service_name = "signals",
                        .layout_json = "{}",
                        .resource_json = "{}",
                        .layout_bytes = 2,
                        .resource_bytes = 2,
                        .slot_bytes = SLOT_BYTES,
                        .span_name_count = 1,
                        .lane_count = lanes,
                        .capacity_slots = CAPACITY,
                        .file_mode = 0600,
                        .root_always = 1};
    producer = rb_producer_new();
    assert(producer != NULL && rb_open(producer, &config, path, &error) == RB_OK);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert(fd >= 0 && rb_attach(fd, RB_CONSUME, 0, &consumer, &error) == RB_OK);
    assert(close(fd) == 0);
    of_handler = make_record(UINT64_MAX);
    handled = written_by_handler = 0;
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct itimerval often = {.it_interval = {.tv_usec = 50}, .it_value = {.tv_usec = 50}};
    struct itimerval never = {.it_interval = {.tv_usec = 0}, .it_value = {.tv_usec = 0}};
    assert(sigaction(SIGALRM, &action, NULL) == 0);
    assert(setitimer(ITIMER_REAL, &often, NULL) == 0);
    do {
        record mine = make_record(attempts);
        int rv = rb_emit(producer, &mine.core);
        assert(rv == 0 || rv == 1);
        if (++attempts % (CAPACITY / 4) == 0)
            drain(consumer, lanes, &total);
        assert(rb_stats(producer, &stats) == RB_OK);
    } while (handled < WANTED || (lanes == 1 && stats.contended == 0 && attempts < 5000000));
    assert(setitimer(ITIMER_REAL, &never, NULL) == 0);
    drain(consumer, lanes, &total);
    assert(rb_stats(producer, &stats) == RB_OK);
    printf("%u lanes: %llu attempts, %llu in the handler, %llu contended\n", lanes, (unsigned long long)attempts,
           (unsigned long long)handled, (unsigned long long)stats.contended);
    assert(stats.published == total);
    assert(stats.published + stats.full + stats.contended == attempts + handled);
    assert(lanes == 1 ? stats.contended > 0 : stats.contended == 0);
    assert(written_by_handler > 0);
    assert(rb_close(producer) == RB_OK);
    rb_producer_free(producer);
    rb_consumer_free(consumer);
    assert(unlink(path) == 0);
}

int main(void)
{
    char directory[] = "/dev/shm/ringbuf-signals-XXXXXX";
    assert(mkdtemp(directory) != NULL);
    run(directory, 1);
    run(directory, 2);
    assert(rmdir(directory) == 0);
    return 0;
}
