/*
 * Spans by ringbuf_site.h begin and end as all spans do: the sampler decides of a root, a child follows its parent, the
 * duration is the monotonic clock's. The macros evaluate what they are given once, and get in nobody's way.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ring_for_test.h"
#include "ringbuf_site.h"

enum { CAPACITY = 16 };

typedef struct work_record {
    rb_record core;
    uint64_t number;
    uint8_t pad[56];
} work_record;

RB_SITE(work_site, 0, RB_KIND_CLIENT, 1);

static const uint64_t second = 1000000000;
static uint64_t unix_nano = UINT64_C(1700000000) * 1000000000;
static uint64_t monotonic_nano = UINT64_C(5000) * 1000000000;
static const char *directory;
static char path[RB_MAX_PATH_BYTES];
static rb_producer *producer;
static rb_consumer *consumer;

/* In place of libc's. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    uint64_t nano = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE ? unix_nano : monotonic_nano;
    now->tv_sec = (time_t)(nano / second);
    now->tv_nsec = (long)(nano % second);
    return 0;
}

static void begin_ring_of(uint64_t root_bound, uint64_t root_threshold)
{
    rb_config config = ring_config(directory, CAPACITY);
    config.slot_bytes = sizeof(work_record);
    config.root_always = 0;
    config.root_bound = root_bound;
    config.root_threshold = root_threshold;
    config.present_bits = RB_PRESENT_ALONE | RB_PRESENT_ROOT_THRESHOLD;
    producer = new_producer();
    open_ring(producer, &config, path);
    consumer = attach_consumer(path);
}

static void begin_ring(uint64_t root_bound) { begin_ring_of(root_bound, 0); }

static void end_ring(void)
{
    rb_consumer_free(consumer);
    remove_ring(producer, path);
}

static work_record take_one(void)
{
    work_record record;
    rb_lane_view view;
    rb_outcome outcome = {.delivered = 1};
    assert(rb_poll(consumer, &view) == 1);
    assert(rb_copy(consumer, 0, &record, 1) == 1);
    assert(rb_release(consumer, 0, &outcome) == RB_OK);
    return record;
}

static int emit_one(const rb_span *parent)
{
    return RB_EMIT(producer, work_site, parent, work_record, made, 1, 2, made.number = 7);
}

static int begin_and_end(const rb_span *parent, rb_span *span)
{
    work_record record;
    assert(RB_BEGIN(producer, work_site, &record, span, parent) == RB_OK);
    return rb_end(producer, span, &record.core);
}

static void ask_the_sampler(void)
{
    rb_producer_stats stats;
    rb_span span, child, remote;
    begin_ring(0); /* never */
    assert(emit_one(NULL) == 0);
    assert(begin_and_end(NULL, &span) == 0);
    assert(begin_and_end(&span, &child) == 0);
    assert(rb_stats(producer, &stats) == RB_OK && stats.unsampled == 3 && stats.published == 0);
    /* Children go by their parent, whatever the sampler is. */
    assert(rb_parent_from_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", 55, &remote) == RB_OK);
    assert(emit_one(&remote) == 1);
    work_record record = take_one();
    assert(memcmp(record.core.trace_id, remote.trace_id, 16) == 0);
    assert(memcmp(record.core.parent_span_id, remote.span_id, 8) == 0);
    assert(record.core.flags == (RB_SPAN_SAMPLED | RB_SPAN_HAS_IS_REMOTE | RB_SPAN_IS_REMOTE));
    assert(record.core.kind == RB_KIND_CLIENT && record.core.present == 1 && record.number == 7);
    assert(record.core.start_unix_nano == 1 && record.core.end_unix_nano == 2);
    assert(begin_and_end(&remote, &span) == 1 && begin_and_end(&span, &child) == 1);
    rb_lane_view view;
    work_record both[2];
    assert(rb_poll(consumer, &view) == 2 && rb_copy(consumer, 0, both, 2) == 2);
    assert(both[1].core.flags == (RB_SPAN_SAMPLED | RB_SPAN_HAS_IS_REMOTE)); /* its parent lives here */
    assert(memcmp(both[1].core.parent_span_id, both[0].core.span_id, 8) == 0);
    end_ring();
    begin_ring(UINT64_MAX);
    assert(emit_one(NULL) == 1);
    record = take_one();
    assert(record.core.flags == (RB_SPAN_SAMPLED | RB_SPAN_RANDOM | RB_SPAN_HAS_IS_REMOTE));
    assert(record.core.present == (1 | (uint32_t)RB_PRESENT_ALONE)); /* nobody has its ids */
    assert(begin_and_end(NULL, &span) == 1 && take_one().core.present == 1);
    end_ring();
}

static uint32_t root_bit(const rb_span *parent, rb_span *span)
{
    assert(begin_and_end(parent, span) == 1);
    work_record record = take_one();
    assert((record.core.flags & ~(uint32_t)RB_SPAN_FLAGS) == 0);
    assert((span->flags & ~(uint32_t)RB_SPAN_FLAGS) == 0);
    return record.core.present & (uint32_t)RB_PRESENT_ROOT_THRESHOLD;
}

static uint32_t root_bit_of_emitted(const rb_span *parent)
{
    assert(emit_one(parent) == 1);
    return take_one().core.present & (uint32_t)RB_PRESENT_ROOT_THRESHOLD;
}

/* Of a span whose root was decided by the threshold that its ring states; of no other. */
static void know_the_roots_threshold(void)
{
    rb_span root, child, grandchild, remote, by_hand, unknown;
    assert(rb_parent_from_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03", 55, &remote) == RB_OK);
    begin_ring_of(0, 1);
    assert(!root_bit(NULL, &root) && root_bit(&root, &child) && root_bit(&child, &grandchild));
    assert(root_bit_of_emitted(&root) && root_bit_of_emitted(&grandchild));
    assert(!root_bit_of_emitted(NULL) && !root_bit_of_emitted(&remote));
    assert(!root_bit(&remote, &child) && !root_bit(&child, &grandchild));
    by_hand = remote;
    by_hand.child_flags |= (uint32_t)RB_PRESENT_ROOT_THRESHOLD; /* it says nothing of whose threshold */
    assert(!root_bit(&by_hand, &child));
    end_ring();

    begin_ring_of(0, 2); /* of another sampler: in a ring that replaces it, in another's, in a forked child's */
    assert(!root_bit(&root, &child) && !root_bit(&child, &grandchild) && !root_bit_of_emitted(&root));
    end_ring();
    begin_ring_of(0, 1); /* and it is not forgotten on the way */
    assert(root_bit(&grandchild, &child));
    end_ring();

    begin_ring(UINT64_MAX); /* which has none to state */
    assert(!root_bit(NULL, &unknown) && !root_bit(&unknown, &child) && !root_bit(&root, &child));
    end_ring();
    begin_ring_of(0, 1);
    assert(!root_bit(&unknown, &child));
    end_ring();
}

static void last_as_long_as_it_takes(void)
{
    work_record record;
    rb_span span;
    begin_ring(UINT64_MAX);
    RB_BEGIN(producer, work_site, &record, &span, NULL);
    uint64_t start = unix_nano;
    unix_nano -= 3600 * second; /* somebody sets the clock back by an hour */
    monotonic_nano += 2 * second;
    assert(rb_end(producer, &span, &record.core) == 1);
    record = take_one();
    assert(record.core.start_unix_nano == start && record.core.end_unix_nano == start + 2 * second);
    end_ring();
}

static unsigned counted[5];

static rb_producer *the_producer(void)
{
    counted[0]++;
    return producer;
}

static const rb_record *the_site(void)
{
    counted[1]++;
    return &work_site;
}

static const rb_span *the_parent(void)
{
    counted[2]++;
    return NULL;
}

static uint64_t the_time(unsigned which)
{
    counted[which]++;
    return which;
}

static void all_counted_once(void)
{
    for (size_t i = 0; i < sizeof counted / sizeof *counted; i++)
        assert(counted[i] == 1);
    memset(counted, 0, sizeof counted);
}

static void evaluate_once(void)
{
    work_record records[2], *next = records;
    rb_span spans[2], *next_span = spans;
    begin_ring(UINT64_MAX);
    assert(RB_EMIT(the_producer(), *the_site(), the_parent(), work_record, made, the_time(3), the_time(4), (void)0) ==
           1);
    all_counted_once();
    assert(RB_BEGIN(the_producer(), *the_site(), next++, next_span++, the_parent()) == RB_OK);
    assert(next == records + 1 && next_span == spans + 1);
    counted[3]++, counted[4]++;
    all_counted_once();
    end_ring();
}

/* Names that a macro might have had for itself, and one of its own inside of another. */
static void get_in_nobodys_way(void)
{
    uint64_t start = 3, end = 4, core = 5, begun = 6;
    rb_span parent;
    begin_ring(UINT64_MAX);
    rb_span_begin(producer, NULL, &parent);
    int inner = 0;
    int outer = RB_EMIT(producer, work_site, &parent, work_record, span, start, end, span.number = core + begun;
                        inner = RB_EMIT(producer, work_site, NULL, work_record, other, start, span.core.end_unix_nano,
                                        other.number = span.number + 1));
    assert(outer == 1 && inner == 1);
    rb_lane_view view;
    work_record both[2];
    assert(rb_poll(consumer, &view) == 2 && rb_copy(consumer, 0, both, 2) == 2);
    assert(both[0].number == 12 && both[0].core.end_unix_nano == 4 && both[1].number == 11);
    assert(memcmp(both[1].core.trace_id, parent.trace_id, 16) == 0);
    end_ring();
}

int main(void)
{
    directory = make_directory("site");
    ask_the_sampler();
    know_the_roots_threshold();
    last_as_long_as_it_takes();
    evaluate_once();
    get_in_nobodys_way();
    assert(rmdir(directory) == 0);
    return 0;
}
