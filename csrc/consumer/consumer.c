/*
 * The reading side of a ring. The file is untrusted: what the header says is checked once (header.c), and no size is
 * read again; `head` and the outcome words are read once, at attach, and then only written; records are copied out
 * before anybody looks at them; `tail` is believed only within a capacity of what was released.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "consumer/consumer_state.h"
#include "consumer/header.h"
#include "shared/atomics.h"
#include "shared/error.h"
#include "shared/point.h"

/* ---- attach ---- */

static uint64_t sum(const rb_outcome *outcome)
{
    return outcome->delivered + outcome->spooled + outcome->rejected + outcome->dead_lettered + outcome->invalid +
           outcome->sampled_out;
}

/* Whether the words make `released` or more, and how much more; no sum of them wraps. */
static int adds_up(const rb_outcome *outcome, uint64_t released, uint64_t *excess)
{
    const uint64_t words[] = {outcome->delivered,     outcome->spooled, outcome->rejected,
                              outcome->dead_lettered, outcome->invalid, outcome->sampled_out};
    uint64_t total = 0;
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
        if (__builtin_add_overflow(total, words[i], &total))
            return 0;
    *excess = total - released;
    return total >= released;
}

/*
 * The word `delivered` has those of sampled_out in it, since readers of before know no other word that `head` may rest
 * on. It is stored first, so that the latter is never more; a file that says otherwise is not believed beyond that.
 */
static void load_delivered(const rb_lane *shared, uint64_t *delivered, uint64_t *sampled_out)
{
    uint64_t part = rb_load_relaxed(&shared->sampled_out), both = rb_load_relaxed(&shared->delivered);
    *sampled_out = part < both ? part : both;
    *delivered = both - *sampled_out;
}

/* Of an observer, beside whom both sides move on between two loads. */
enum { TRIES = 100 };

/* The one time that positions and outcome words are taken from the file. */
static int adopt_lane(rb_consumer *consumer, uint32_t index, rb_error *error)
{
    const rb_header *header = consumer->header;
    struct lane *lane = &consumer->lanes[index];
    uint8_t *at = consumer->map + header->header_bytes + index * header->lane_stride_bytes;
    lane->shared = (rb_lane *)(void *)at;
    lane->slots = at + RB_LANE_BYTES;
    uint64_t head = rb_load_acquire(&lane->shared->head); /* pairs with an earlier drain's release */
    uint64_t tail = rb_load_acquire(&lane->shared->tail); /* pairs with publish() */
    /* Beside a drain both move on: an observer who was held up between the two loads looks again. */
    int tries = consumer->access == RB_OBSERVE ? TRIES : 0;
    while (tail - head > header->capacity_slots && tries-- > 0) {
        head = rb_load_acquire(&lane->shared->head); /* the same pairs */
        tail = rb_load_acquire(&lane->shared->tail);
    }
    if (tail - head > header->capacity_slots)
        return rb_fail(error, RB_E_POSITION, 0, "lane %u: tail %llu is not within %u of head %llu", (unsigned)index,
                       (unsigned long long)tail, (unsigned)header->capacity_slots, (unsigned long long)head);
    /* So many spans no ring has had: head lies behind the first position, and counts from there would wrap. */
    if (head - header->first_position > (uint64_t)INT64_MAX)
        return rb_fail(error, RB_E_POSITION, 0, "lane %u: head %llu is behind the first position %llu", (unsigned)index,
                       (unsigned long long)head, (unsigned long long)header->first_position);
    RB_POINT(attach_lane);
    lane->read = head;
    lane->released = head;
    load_delivered(lane->shared, &lane->outcome.delivered,
                   &lane->outcome.sampled_out); /* ordered by the load of head */
    lane->outcome.spooled = rb_load_relaxed(&lane->shared->spooled);
    lane->outcome.rejected = rb_load_relaxed(&lane->shared->rejected);
    lane->outcome.dead_lettered = rb_load_relaxed(&lane->shared->dead_lettered);
    lane->outcome.invalid = rb_load_relaxed(&lane->shared->invalid);
    uint64_t excess = 0; /* what a drain that was killed had counted and not released */
    int is_drains = adds_up(&lane->outcome, head - header->first_position, &excess) && excess <= tail - head;
    /* An observer may see the words of a release whose head it has missed. */
    if (!is_drains && consumer->access == RB_CONSUME)
        return rb_fail(error, RB_E_POSITION, 0, "lane %u: the outcome words do not add up to head %llu - %llu",
                       (unsigned)index, (unsigned long long)head, (unsigned long long)header->first_position);
    lane->counted_before = is_drains ? excess : 0;
    return RB_OK;
}

int rb_attach(int fd, uint32_t access, uint64_t max_file_bytes, rb_consumer **consumer, rb_error *error)
{
    rb_header *header = NULL;
    if (consumer == NULL || access > RB_CONSUME)
        return rb_fail(error, RB_E_ARGUMENT, 0, "access is %u", (unsigned)access);
    int rv = rb_copy_header(fd, access, max_file_bytes, &header, error);
    if (rv != RB_OK)
        return rv;
    RB_POINT(attach_header);
    rb_consumer *made = calloc(1, sizeof *made + header->lane_count * sizeof(struct lane));
    if (made == NULL) {
        free(header);
        return rb_fail(error, RB_E_SYSTEM, ENOMEM, "%m");
    }
    made->header = header;
    made->map_bytes = header->file_bytes;
    made->lane_count = header->lane_count;
    made->access = access;
    void *map =
        mmap(NULL, header->file_bytes, access == RB_CONSUME ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        rv = rb_fail(error, RB_E_SYSTEM, errno, "mmap: %m");
        rb_consumer_free(made);
        return rv;
    }
    made->map = map;
    RB_POINT(attach_mapped);
    rb_guard_check();
    rb_guard_enter(made->map, header->file_bytes, &made->faulted);
    for (uint32_t i = 0; rv == RB_OK && i < header->lane_count; i++)
        rv = adopt_lane(made, i, error);
    rb_guard_leave();
    if (rb_load32_acquire(&made->faulted)) /* pairs with on_sigbus()'s release */
        rv = rb_fail(error, RB_E_TRUNCATED, 0, "the file lost pages while it was attached");
    RB_POINT(attach_done);
    if (rv == RB_OK)
        *consumer = made;
    else
        rb_consumer_free(made);
    return rv;
}

void rb_consumer_free(rb_consumer *consumer)
{
    if (consumer == NULL)
        return;
    if (consumer->map != NULL)
        munmap(consumer->map, consumer->map_bytes);
    free(consumer->header);
    free(consumer);
}

const rb_header *rb_consumer_header(const rb_consumer *consumer) { return consumer->header; }

void rb_consumer_trim(rb_consumer *consumer)
{
    consumer->header->layout_bytes = consumer->header->resource_bytes = 0;
    rb_header *trimmed = realloc(consumer->header, sizeof *trimmed);
    if (trimmed != NULL)
        consumer->header = trimmed;
}

/* ---- reading ---- */

/* Whether released <= read <= tail <= released + capacity, on a circle of 2^64. */
static int is_plausible(const rb_consumer *consumer, const struct lane *lane, uint64_t tail)
{
    return tail - lane->released <= consumer->header->capacity_slots &&
           lane->read - lane->released <= tail - lane->released;
}

static void look(const struct lane *lane, rb_lane_view *view)
{
    const rb_lane *shared = lane->shared;
    view->closed = rb_load32_acquire(&shared->closed); /* pairs with rb_close: the tail loaded next is the last */
    view->tail = rb_load_acquire(&shared->tail);       /* pairs with publish(); who copies loads it again */
    view->full = rb_load_relaxed(&shared->full);
    view->contended = rb_load_relaxed(&shared->contended);
    view->unsampled = rb_load_relaxed(&shared->unsampled);
    view->truncated = rb_load_relaxed(&shared->truncated);
    view->invalid_values = rb_load_relaxed(&shared->invalid_values);
    view->consumer_state = rb_load32_relaxed(&shared->consumer_state);
}

/* An observer sees the drain's words in the file; a consumer has them itself and does not believe the file. */
static void look_at_own(const rb_consumer *consumer, const struct lane *lane, rb_lane_view *view)
{
    if (consumer->access == RB_OBSERVE) {
        const rb_lane *shared = lane->shared;
        view->released = rb_load_acquire(&shared->head); /* pairs with rb_release: the words are at least as new */
        view->read = view->released;
        load_delivered(shared, &view->delivered, &view->sampled_out);
        view->spooled = rb_load_relaxed(&shared->spooled);
        view->rejected = rb_load_relaxed(&shared->rejected);
        view->dead_lettered = rb_load_relaxed(&shared->dead_lettered);
        view->invalid = rb_load_relaxed(&shared->invalid);
        view->repeated = 0;
        return;
    }
    view->released = lane->released;
    view->read = lane->read;
    view->delivered = lane->outcome.delivered;
    view->sampled_out = lane->outcome.sampled_out;
    view->spooled = lane->outcome.spooled;
    view->rejected = lane->outcome.rejected;
    view->dead_lettered = lane->outcome.dead_lettered;
    view->invalid = lane->outcome.invalid;
    view->repeated = lane->repeated;
}

/*
 * The lane's words, and whether its positions can be. An observer's head comes before its tail, so that tail - head is
 * not negative beside a sound drain; it is too large where the drain released and the producer wrote in between.
 */
static int look_at_lane(const rb_consumer *consumer, const struct lane *lane, rb_lane_view *view)
{
    int plausible = 0;
    for (int i = 0; i < TRIES && !plausible; i++) {
        look_at_own(consumer, lane, view);
        look(lane, view);
        if (consumer->access == RB_CONSUME)
            return is_plausible(consumer, lane, view->tail);
        plausible = view->tail - view->released <= consumer->header->capacity_slots;
    }
    return plausible;
}

int64_t rb_poll(rb_consumer *consumer, rb_lane_view *views)
{
    uint64_t ready = 0;
    int rv = RB_OK;
    rb_guard_check();
    rb_consumer_enter(consumer);
    for (uint32_t i = 0; i < consumer->header->lane_count; i++) {
        RB_POINT(poll_lane);
        if (!look_at_lane(consumer, &consumer->lanes[i], &views[i]))
            rv = RB_E_POSITION;
        ready += views[i].tail - views[i].read;
    }
    int guard = rb_consumer_leave(consumer);
    RB_POINT(poll_done);
    if (guard != RB_OK)
        return guard;
    return rv == RB_OK ? (int64_t)ready : rv;
}

int64_t rb_copy(rb_consumer *consumer, uint32_t index, void *records, uint64_t max_records)
{
    if (index >= consumer->header->lane_count || consumer->access != RB_CONSUME)
        return RB_E_ARGUMENT;
    struct lane *lane = &consumer->lanes[index];
    uint64_t slot_bytes = consumer->header->slot_bytes;
    uint64_t capacity = consumer->header->capacity_slots;
    uint64_t count = 0;
    int plausible;
    rb_guard_check();
    rb_consumer_enter(consumer);
    uint64_t tail = rb_load_acquire(&lane->shared->tail); /* pairs with publish(): the slots below it are written */
    plausible = is_plausible(consumer, lane, tail);
    if (plausible) {
        uint64_t at = lane->read & (capacity - 1);
        count = tail - lane->read < max_records ? tail - lane->read : max_records;
        uint64_t first = count < capacity - at ? count : capacity - at;
        RB_POINT(copy_begin);
        memcpy(records, lane->slots + at * slot_bytes, first * slot_bytes);
        RB_POINT(copy_half);
        memcpy((uint8_t *)records + first * slot_bytes, lane->slots, (count - first) * slot_bytes);
    }
    int guard = rb_consumer_leave(consumer);
    if (guard != RB_OK)
        return guard;
    if (!plausible)
        return RB_E_POSITION;
    lane->read += count;
    RB_POINT(copy_done);
    return (int64_t)count;
}

/* Takes `count` spans that an earlier drain had counted off the outcome: they stay what that drain called them. */
static void forget(rb_outcome *outcome, uint64_t count)
{
    uint64_t *words[] = {&outcome->delivered,     &outcome->spooled, &outcome->rejected,
                         &outcome->dead_lettered, &outcome->invalid, &outcome->sampled_out};
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++) {
        uint64_t part = count < *words[i] ? count : *words[i];
        *words[i] -= part;
        count -= part;
    }
}

/* *again: how many of them an earlier drain had counted. */
static int release(rb_consumer *consumer, uint32_t index, const rb_outcome *outcome, uint64_t *again)
{
    if (index >= consumer->header->lane_count || consumer->access != RB_CONSUME)
        return RB_E_ARGUMENT;
    struct lane *lane = &consumer->lanes[index];
    rb_outcome fresh = *outcome;
    uint64_t count = sum(&fresh);
    if (count > lane->read - lane->released)
        return RB_E_ARGUMENT;
    *again = count < lane->counted_before ? count : lane->counted_before;
    lane->counted_before -= *again;
    forget(&fresh, *again);
    lane->outcome.delivered += fresh.delivered;
    lane->outcome.spooled += fresh.spooled;
    lane->outcome.rejected += fresh.rejected;
    lane->outcome.dead_lettered += fresh.dead_lettered;
    lane->outcome.invalid += fresh.invalid;
    lane->outcome.sampled_out += fresh.sampled_out;
    lane->released += count;
    rb_guard_check(); /* perhaps long after the copy, and in another thread */
    rb_consumer_enter(consumer);
    RB_POINT(release_uncounted);
    /* All are published by the store to head. */
    rb_store_relaxed(&lane->shared->delivered, lane->outcome.delivered + lane->outcome.sampled_out);
    rb_store_relaxed(&lane->shared->sampled_out, lane->outcome.sampled_out);
    rb_store_relaxed(&lane->shared->spooled, lane->outcome.spooled);
    RB_POINT(release_half_counted);
    rb_store_relaxed(&lane->shared->rejected, lane->outcome.rejected);
    rb_store_relaxed(&lane->shared->dead_lettered, lane->outcome.dead_lettered);
    rb_store_relaxed(&lane->shared->invalid, lane->outcome.invalid);
    RB_POINT(release_counted);
    /* Pairs with check_out(): our copies were made before. And with who looks (HEAD_BEFORE_ in the model): the words. */
    rb_store_release(&lane->shared->head, lane->released);
    RB_POINT(release_done);
    return rb_consumer_leave(consumer);
}

int rb_release(rb_consumer *consumer, uint32_t index, const rb_outcome *outcome)
{
    uint64_t again = 0;
    int rv = release(consumer, index, outcome, &again);
    if (rv != RB_E_ARGUMENT)
        consumer->lanes[index].repeated += again;
    return rv;
}

int rb_release_stored(rb_consumer *consumer, uint32_t index, const rb_outcome *outcome)
{
    uint64_t again = 0;
    return release(consumer, index, outcome, &again);
}

int rb_set_consumer_state(rb_consumer *consumer, uint32_t state)
{
    if (consumer->access != RB_CONSUME || state > RB_CONSUMER_DETACHED)
        return RB_E_ARGUMENT;
    rb_guard_check();
    rb_consumer_enter(consumer);
    RB_POINT(state_unset);
    for (uint32_t i = 0; i < consumer->header->lane_count; i++)
        rb_store32_relaxed(&consumer->lanes[i].shared->consumer_state, state); /* a hint; nothing hangs on its order */
    RB_POINT(state_set);
    return rb_consumer_leave(consumer);
}

int rb_told(rb_consumer *consumer, uint32_t index, rb_counts *told)
{
    if (index >= consumer->header->lane_count)
        return RB_E_ARGUMENT;
    const rb_lane *shared = consumer->lanes[index].shared;
    rb_guard_check();
    rb_consumer_enter(consumer);
    told->full = rb_load_relaxed(&shared->told_full); /* counts, and nothing hangs on their order */
    told->contended = rb_load_relaxed(&shared->told_contended);
    told->unsampled = rb_load_relaxed(&shared->told_unsampled);
    told->truncated = rb_load_relaxed(&shared->told_truncated);
    told->invalid_values = rb_load_relaxed(&shared->told_invalid_values);
    return rb_consumer_leave(consumer);
}

int rb_tell(rb_consumer *consumer, uint32_t index, const rb_counts *told)
{
    if (consumer->access != RB_CONSUME || index >= consumer->header->lane_count)
        return RB_E_ARGUMENT;
    rb_lane *shared = consumer->lanes[index].shared;
    rb_guard_check();
    rb_consumer_enter(consumer);
    rb_store_relaxed(&shared->told_full, told->full); /* as above */
    rb_store_relaxed(&shared->told_contended, told->contended);
    rb_store_relaxed(&shared->told_unsampled, told->unsampled);
    rb_store_relaxed(&shared->told_truncated, told->truncated);
    rb_store_relaxed(&shared->told_invalid_values, told->invalid_values);
    return rb_consumer_leave(consumer);
}

int rb_producer_alive(int fd)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_GETLK, &whole) != 0)
        return RB_E_SYSTEM;
    return whole.l_type != F_UNLCK;
}
