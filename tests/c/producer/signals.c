/*
 * A signal handler emits while the code that it interrupted emits too: with one lane its span is contended, with two it
 * goes to the other; nothing hangs, nothing is torn, and every attempt is counted.
 */
#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
#include <unistd.h>

#include "ring_for_test.h"

#define SLOT_BYTES 1024
#include "numbered_record.h"

enum { CAPACITY = 1024, WANTED = 300 };

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

static void drain(rb_consumer *consumer, uint32_t lanes, uint64_t *total)
{
    static record records[CAPACITY];
    for (uint32_t lane = 0; lane < lanes; lane++) {
        int64_t count = rb_copy(consumer, lane, records, CAPACITY);
        assert(count >= 0);
        for (int64_t i = 0; i < count; i++)
            assert(is_record(&records[i], records[i].source, records[i].number));
        rb_outcome outcome = {.delivered = (uint64_t)count};
        assert(rb_release(consumer, lane, &outcome) == RB_OK);
        *total += (uint64_t)count;
    }
}

static void run(const char *directory, uint32_t lanes)
{
    char path[RB_MAX_PATH_BYTES];
    rb_producer_stats stats;
    uint64_t total = 0, attempts = 0;
    rb_config config = ring_config(directory, CAPACITY);
    config.slot_bytes = SLOT_BYTES;
    config.lane_count = lanes;
    producer = new_producer();
    open_ring(producer, &config, path);
    rb_consumer *consumer = attach_consumer(path);
    of_handler = make_record(1, 0);
    handled = written_by_handler = 0;
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    struct itimerval often = {.it_interval = {.tv_usec = 50}, .it_value = {.tv_usec = 50}};
    struct itimerval never = {.it_interval = {.tv_usec = 0}, .it_value = {.tv_usec = 0}};
    assert(sigaction(SIGALRM, &action, NULL) == 0);
    assert(setitimer(ITIMER_REAL, &often, NULL) == 0);
    do {
        record mine = make_record(0, attempts);
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
    remove_ring(producer, path);
    rb_consumer_free(consumer);
}

int main(void)
{
    const char *directory = make_directory("signals");
    run(directory, 1);
    run(directory, 2);
    assert(rmdir(directory) == 0);
    return 0;
}
