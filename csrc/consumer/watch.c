/*
 * Many rings at once: which of them have news, and the drain's sleep beside them all. What an idle ring costs is spent
 * here, a few loads a lane.
 */
#include "consumer/consumer_state.h"
#include "shared/atomics.h"
#include "shared/point.h"

#define GATHERING_NAP_NANO 20000000u

/* So many records of a lane are as good as a lap: producers ring when they have been written. */
static uint64_t quarter_of(const rb_consumer *consumer)
{
    uint64_t quarter = consumer->header->capacity_slots / 4;
    return quarter != 0 ? quarter : 1;
}

/* So many records of a lane that are not read, closed in every lane, or the file lost. */
static int has_news(rb_consumer *consumer, uint64_t least)
{
    int ready = 0;
    uint32_t closed = 1;
    rb_consumer_enter(consumer);
    for (uint32_t i = 0; i < consumer->lane_count; i++) {
        const struct lane *lane = &consumer->lanes[i];
        /* Hints: rb_poll reads both again. What is not seen yet is seen by fall_asleep(), or it rings. */
        closed &= rb_load32_relaxed(&lane->shared->closed);
        ready |= rb_load_relaxed(&lane->shared->tail) - lane->read >= least; /* also a tail that rb_poll will refuse */
    }
    return rb_consumer_leave(consumer) != RB_OK || ready || closed;
}

uint32_t rb_scan(rb_consumer *const *consumers, uint32_t count, uint32_t *with_news)
{
    uint32_t found = 0;
    rb_guard_check();
    RB_POINT(scan_begin);
    for (uint32_t i = 0; i < count; i++)
        if (has_news(consumers[i], 1)) /* rb_poll has something to say */
            with_news[found++] = i;
    return found;
}

/* Returns 1 when as many records are ready in a lane, else 0, or a status. */
static int fall_asleep(rb_consumer *consumer, uint64_t least)
{
    int ready = 0;
    rb_consumer_enter(consumer);
    for (uint32_t i = 0; i < consumer->lane_count; i++) {
        struct lane *lane = &consumer->lanes[i];
        RB_POINT(sleep_lane);
        rb_exchange32_seq_cst(&lane->shared->sleeping, 1); /* pairs with publish()'s seq_cst load, at a crossing */
        RB_POINT(sleep_set);
        ready |= rb_load_seq_cst(&lane->shared->tail) - lane->read >= least; /* pairs with publish()'s seq_cst store */
    }
    int rv = rb_consumer_leave(consumer);
    return rv != RB_OK ? rv : ready;
}

static int wake_up(rb_consumer *consumer)
{
    int ready = 0;
    rb_consumer_enter(consumer);
    for (uint32_t i = 0; i < consumer->lane_count; i++) {
        struct lane *lane = &consumer->lanes[i];
        rb_store32_relaxed(&lane->shared->sleeping, 0); /* who still sees 1 rings once too often */
        RB_POINT(wake_set);
        ready |= rb_load_relaxed(&lane->shared->tail) != lane->read;
    }
    int rv = rb_consumer_leave(consumer);
    return rv != RB_OK ? rv : ready;
}

int rb_set_sleeping(rb_consumer *consumer, uint32_t sleeping)
{
    if (consumer->access != RB_CONSUME)
        return RB_E_ARGUMENT;
    rb_guard_check();
    return sleeping ? fall_asleep(consumer, 1) : wake_up(consumer);
}

/* Until there is any record, or a quarter of a lap of them. */
static int sleep_until(int is_quarter, rb_doorbell *doorbell, uint32_t value, rb_consumer *const *consumers,
                       uint32_t count, uint64_t nap_nano, uint64_t timeout_nano)
{
    int woken = 0;
    rb_guard_check();
    for (uint32_t i = 0; i < count; i++) /* all of them, also after one that has records */
        woken |= fall_asleep(consumers[i], is_quarter ? quarter_of(consumers[i]) : 1) != 0;
    uint64_t now = rb_clock_monotonic_nano();
    uint64_t end = now + timeout_nano;
    while (!woken && now < end) {
        uint64_t left = end - now;
        woken = rb_doorbell_wait(doorbell, value, left < nap_nano ? left : nap_nano);
        for (uint32_t i = 0; i < count && !woken; i++)
            woken = has_news(consumers[i], is_quarter ? quarter_of(consumers[i]) : 1);
        now = rb_clock_monotonic_nano();
    }
    RB_POINT(sleep_over);
    for (uint32_t i = 0; i < count; i++)
        wake_up(consumers[i]);
    return woken;
}

int rb_sleep(rb_doorbell *doorbell, uint32_t value, rb_consumer *const *consumers, uint32_t count, uint64_t nap_nano,
             uint64_t timeout_nano)
{
    return sleep_until(0, doorbell, value, consumers, count, nap_nano, timeout_nano);
}

int rb_gather(rb_doorbell *doorbell, uint32_t value, rb_consumer *const *consumers, uint32_t count,
              uint64_t timeout_nano)
{
    return sleep_until(1, doorbell, value, consumers, count, GATHERING_NAP_NANO, timeout_nano);
}
