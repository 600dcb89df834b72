/*
 * One lane, for the order of each access to it, over views: a thread that emits (check_out() and publish() of
 * csrc/producer/emit.c), one that closes the ring (rb_close() of csrc/producer/producer.c), the drain (csrc/consumer/consumer.c), and somebody who
 * only looks (adopt_lane(), rb_poll of an observer, rb_stats). Processes that go are in lane.pml.
 *
 * tests/test_model.py weakens every order that is defined here.
 */
#ifndef TAIL_STORE /* publish() */
#define TAIL_STORE RELEASE
#endif
#ifndef TAIL_LOAD /* rb_copy */
#define TAIL_LOAD ACQUIRE
#endif
#ifndef HEAD_STORE /* rb_release */
#define HEAD_STORE RELEASE
#endif
#ifndef HEAD_LOAD /* check_out() */
#define HEAD_LOAD ACQUIRE
#endif
#ifndef TAKE /* rb_try_take */
#define TAKE ACQUIRE
#endif
#ifndef GIVE_BACK /* rb_give_back */
#define GIVE_BACK RELEASE
#endif
#ifndef CLOSED_STORE /* rb_close */
#define CLOSED_STORE RELEASE
#endif
#ifndef CLOSED_LOAD /* rb_poll */
#define CLOSED_LOAD ACQUIRE
#endif
#ifndef HEAD_BEFORE_TAIL /* who only looks */
#define HEAD_BEFORE_TAIL ACQUIRE
#endif
#ifndef HEAD_BEFORE_WORDS
#define HEAD_BEFORE_WORDS ACQUIRE
#endif
#ifndef CAPACITY
#define CAPACITY 2
#endif
#ifndef RECORDS
#define RECORDS 3
#endif

#define TAIL 0
#define HEAD 1
#define WORDS 2 /* the outcome words, as one */
#define CLOSED 3
#define LANE_HELD 0 /* plain: tail and head in struct rb_held_lane */
#define SLOT(position) (1 + (position) % CAPACITY)
#define EMITTER 0
#define CLOSER 1
#define DRAIN 2
#define OBSERVER 3

#define SIDES 4
#define SHARED 4
#define PLAIN (1 + CAPACITY)
#define MESSAGES (RECORDS + 1)
#include "views.inc"

hidden byte wrong_record, removed_records, tail_behind_head, words_behind_head;

/* The try-flag. Who takes it reads the last store to it, as the store of an exchange comes right after what it read. */
bit busy;
view given_back;

inline take(me)
{
    d_step { !busy -> busy = 1; join(me, given_back, TAKE) }
}

inline give_back(me)
{
    d_step {
        busy = 0;
        for (each : 0 .. PLACES - 1) {
            given_back.upto[each] = (GIVE_BACK >= RELEASE -> known[me].upto[each] : 0)
        };
        each = 0
    }
}

proctype emitter()
{
    byte attempts = 0;
    byte tail = 0; /* struct rb_held_lane */
    byte head = 0;
    byte nth = 0;
    do
    :: attempts < RECORDS ->
        attempts++;
        if
        :: busy /* for good, once the ring is closed */
        :: take(EMITTER);
            if
            :: tail - head == CAPACITY -> load(EMITTER, HEAD, HEAD_LOAD, head)
            :: else
            fi;
            if
            :: tail - head < CAPACITY ->
                plain_write(EMITTER, SLOT(tail), tail + 1);
                plain_write(EMITTER, LANE_HELD, 0);
                tail++;
                store(EMITTER, TAIL, TAIL_STORE, tail)
            :: else
            fi;
            give_back(EMITTER)
        fi
    :: else -> break
    od
}

proctype closer()
{
    take(CLOSER);
    plain_write(CLOSER, LANE_HELD, 0);
    store(CLOSER, CLOSED, CLOSED_STORE, 1)
}

proctype drain()
{
    byte read = 0;
    byte released = 0;
    byte tail = 0;
    byte closed = 0;
    byte record = 0;
    byte nth = 0;
    do
    :: load(DRAIN, CLOSED, CLOSED_LOAD, closed); /* rb_poll */
        load(DRAIN, TAIL, RELAXED, tail);
        if
        :: closed && tail == released -> assert(NEWEST(TAIL) == released || removed_records); break
        :: else
        fi;
        d_step { closed = 0; tail = 0 }
    :: load(DRAIN, TAIL, TAIL_LOAD, tail); /* rb_copy, of one or more */
        do
        :: read < tail ->
            plain_read(DRAIN, SLOT(read), record);
            d_step { read++; assert(record == read || wrong_record); record = 0 }
        :: break
        od;
        tail = 0
    :: released < read -> /* rb_release of all that was read */
        released = read;
        store(DRAIN, WORDS, RELAXED, released);
        store(DRAIN, HEAD, HEAD_STORE, released)
    od
}

proctype observer()
{
    byte head = 0;
    byte seen = 0;
    byte nth = 0;
    if
    :: load(OBSERVER, HEAD, HEAD_BEFORE_TAIL, head);
        load(OBSERVER, TAIL, RELAXED, seen);
        assert(seen >= head || tail_behind_head)
    :: load(OBSERVER, HEAD, HEAD_BEFORE_WORDS, head);
        load(OBSERVER, WORDS, RELAXED, seen);
        assert(seen >= head || words_behind_head)
    fi
}

init {
    atomic {
        run emitter();
        run closer();
        run drain();
        run observer()
    }
}
