/*
 * A ring that is removed while nobody reads it: the doors ask for a look at its path, once a second and by whatever
 * they see of time, and not where a drain reads. The clock is the test's.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ring_for_test.h"

enum { CAPACITY = 1024, ATTEND = 2 };
static const uint64_t second = 1000000000;

static uint64_t now_nano = UINT64_C(1700000000) * 1000000000;
static const char *directory;
static rb_config config;
static char path[RB_MAX_PATH_BYTES];

/* In place of libc's. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    (void)clock;
    now->tv_sec = (time_t)(now_nano / second);
    now->tv_nsec = (long)(now_nano % second);
    return 0;
}

static rb_producer *open_anew(uint32_t capacity)
{
    rb_producer *producer = new_producer();
    config = ring_config(directory, capacity);
    open_ring(producer, &config, path);
    return producer;
}

static int emit_at(rb_producer *producer, uint64_t end_unix_nano)
{
    rb_record record;
    memset(&record, 0, sizeof record);
    record.trace_id[0] = record.span_id[0] = 1;
    record.flags = RB_SPAN_SAMPLED;
    record.end_unix_nano = end_unix_nano;
    int rv = rb_emit(producer, &record);
    assert(rv >= 0);
    return rv;
}

static int emit(rb_producer *producer) { return emit_at(producer, now_nano); }

/* What each of these doors says once a ring is removed: emit, a lane that is held, a batch. */
static int emit_by_lane(rb_producer *producer)
{
    rb_record record;
    memset(&record, 0, sizeof record);
    record.trace_id[0] = record.span_id[0] = 1;
    record.flags = RB_SPAN_SAMPLED;
    record.end_unix_nano = now_nano;
    rb_held_lane *lane = rb_lane_hold(producer);
    int rv = rb_lane_emit(producer, lane, &record);
    rb_lane_give_back(lane);
    return rv;
}

static int emit_batch(rb_producer *producer)
{
    rb_record record;
    memset(&record, 0, sizeof record);
    record.trace_id[0] = record.span_id[0] = 1;
    record.flags = RB_SPAN_SAMPLED;
    assert(rb_emit_batch(producer, &record, 1) == 1);
    return 1 | (rb_is_unread(producer) ? ATTEND : 0);
}

static int (*const doors[])(rb_producer *) = {emit, emit_by_lane, emit_batch};

/* One span a second, which never fills the ring. */
static void find_by_any_door(void)
{
    for (size_t i = 0; i < sizeof doors / sizeof *doors; i++) {
        rb_producer *producer = open_anew(CAPACITY);
        assert(doors[i](producer) == 1); /* nobody has had a second to read it */
        assert(!rb_is_removed(producer));
        assert(unlink(path) == 0);
        now_nano += second;
        assert(doors[i](producer) == (1 | ATTEND));
        assert(rb_is_removed(producer));
        assert(doors[i](producer) == 1); /* at most once a second */
        now_nano += second;
        assert(doors[i](producer) == (1 | ATTEND));
        open_ring(producer, &config, path);
        assert(!rb_is_removed(producer) && doors[i](producer) == 1);
        remove_ring(producer, path);
    }
}

static void find_when_full(void)
{
    rb_producer *producer = open_anew(RB_MIN_CAPACITY_SLOTS);
    while (emit_at(producer, 0) & 1)
        ;
    for (unsigned i = 0; i < 3; i++) {
        assert(emit_at(producer, 0) == 0);
        now_nano += second;
        assert(emit_at(producer, 0) == ATTEND);
    }
    remove_ring(producer, path);
}

/* Spans of long ago, as of a replay: the next quarter of the ring looks. */
static void find_by_crossing(void)
{
    rb_producer *producer = open_anew(CAPACITY);
    unsigned asked = 0;
    emit_at(producer, 0);
    now_nano += second;
    for (unsigned i = 0; i < CAPACITY / 4; i++)
        asked += emit_at(producer, 1) != 1;
    assert(asked == 1);
    remove_ring(producer, path);
}

/* Times that lie ahead must not ask with each span. */
static void ask_once_of_the_future(void)
{
    rb_producer *producer = open_anew(CAPACITY);
    unsigned asked = 0;
    emit(producer);
    now_nano += second;
    for (unsigned i = 0; i < CAPACITY / 8; i++)
        asked += emit_at(producer, UINT64_MAX) != 1;
    assert(asked == 1);
    remove_ring(producer, path);
}

static void leave_a_drain_in_peace(void)
{
    rb_record records[4];
    rb_lane_view view;
    rb_producer *producer = open_anew(CAPACITY);
    rb_consumer *consumer = attach_consumer(path);
    for (unsigned i = 0; i < 5; i++) {
        assert(emit(producer) == 1);
        assert(rb_poll(consumer, &view) == 1);
        assert(rb_copy(consumer, 0, records, 4) == 1);
        rb_outcome outcome = {.delivered = 1};
        assert(rb_release(consumer, 0, &outcome) == RB_OK);
        now_nano += second;
    }
    assert(emit(producer) == 1);
    now_nano += second;
    assert(emit(producer) == (1 | ATTEND)); /* the drain has stopped reading */
    rb_consumer_free(consumer);
    remove_ring(producer, path);
}

static void tell_another_file_from_it(void)
{
    char moved[RB_MAX_PATH_BYTES];
    rb_producer *producer = open_anew(CAPACITY);
    int length = snprintf(moved, sizeof moved, "%s/moved", directory);
    assert(length > 0 && (size_t)length < sizeof moved && rename(path, moved) == 0);
    assert(rb_is_removed(producer));
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert(fd >= 0 && close(fd) == 0);
    assert(rb_is_removed(producer));
    assert(rename(moved, path) == 0);
    assert(!rb_is_removed(producer));
    remove_ring(producer, path);
    rb_producer *unopened = new_producer();
    assert(!rb_is_removed(unopened) && !rb_is_unread(unopened));
    rb_producer_free(unopened);
}

int main(void)
{
    directory = make_directory("removed");
    find_by_any_door();
    find_when_full();
    find_by_crossing();
    ask_once_of_the_future();
    leave_a_drain_in_peace();
    tell_another_file_from_it();
    assert(rmdir(directory) == 0);
    return 0;
}
