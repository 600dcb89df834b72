/*
 * Threads emit while their producer is closed, over and over. A drain that finds `closed` takes the tails behind it for
 * the last, and removes the ring once it has those: a span that was published later would be lost, though its call said
 * that it was written.
 */
#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ring_for_test.h"
#include "shared/atomics.h"

enum { THREADS = 2, LANES = 2, RINGS = 400, CAPACITY = 4096, AFTERWARDS = 100 };

static rb_producer *producer;
static uint32_t emitting;
static uint32_t is_over;

static void *emit_beside_the_close(void *written)
{
    rb_record record;
    memset(&record, 0, sizeof record);
    rb_new_ids(producer, record.trace_id, record.span_id);
    record.flags = RB_SPAN_SAMPLED;
    __atomic_add_fetch(&emitting, 1, __ATOMIC_RELEASE);
    while (!rb_load32_acquire(&is_over)) /* pairs with the store behind the close */
        *(uint64_t *)written += (uint64_t)rb_emit(producer, &record) & 1;
    for (int i = 0; i < AFTERWARDS; i++)
        assert(!(rb_emit(producer, &record) & 1));
    return NULL;
}

static uint64_t tails(rb_consumer *consumer, uint32_t closed)
{
    rb_lane_view views[LANES];
    uint64_t sum = 0;
    assert(rb_poll(consumer, views) >= 0);
    for (int lane = 0; lane < LANES; lane++) {
        assert(views[lane].closed == closed);
        sum += views[lane].tail;
    }
    return sum;
}

int main(void)
{
    const char *directory = make_directory("close-race");
    char path[RB_MAX_PATH_BYTES];
    rb_config config = ring_config(directory, CAPACITY);
    config.lane_count = LANES;
    uint64_t spans = 0;
    for (int ring = 0; ring < RINGS; ring++) {
        pthread_t threads[THREADS];
        uint64_t written[THREADS] = {0};
        producer = new_producer();
        open_ring(producer, &config, path);
        rb_consumer *consumer = attach_consumer(path);
        emitting = is_over = 0;
        for (int i = 0; i < THREADS; i++)
            assert(pthread_create(&threads[i], NULL, emit_beside_the_close, &written[i]) == 0);
        while (rb_load32_acquire(&emitting) < THREADS) /* pairs with its increment */
            ;
        while (tails(consumer, 0) < (uint64_t)ring) /* so that closes fall everywhere into an emit */
            ;
        assert(rb_close(producer) == RB_OK);
        uint64_t last = tails(consumer, 1), sum = 0;
        rb_store32_release(&is_over, 1); /* pairs with their loads */
        for (int i = 0; i < THREADS; i++) {
            assert(pthread_join(threads[i], NULL) == 0);
            sum += written[i];
        }
        assert(tails(consumer, 1) == last && sum == last);
        spans += sum;
        rb_consumer_free(consumer);
        rb_producer_free(producer);
        assert(unlink(path) == 0);
    }
    assert(rmdir(directory) == 0);
    printf("%llu spans beside %d closes\n", (unsigned long long)spans, RINGS);
    return 0;
}
