/*
 * The sleep of the drain and the crossing of a quarter once more, for the order of each access (publish() of
 * csrc/producer/emit.c; has_news(), fall_asleep() and wake_up() of csrc/consumer/watch.c): over views, or over the store buffers of x86.
 * Rings that come and processes that go are in doorbell.pml.
 *
 * tests/test_model.py weakens every order that is defined here.
 */
#ifndef CROSSING /* publish(): tail, when a quarter is crossed */
#define CROSSING SEQ_CST
#endif
#ifndef LOOK_AT_SLEEPING /* publish() */
#define LOOK_AT_SLEEPING SEQ_CST
#endif
#ifndef SLEEPING_STORE /* fall_asleep(): an exchange, of which nobody needs the old value */
#define SLEEPING_STORE SEQ_CST
#endif
#ifndef LAST_LOOK /* fall_asleep(): tail */
#define LAST_LOOK SEQ_CST
#endif
#ifndef RECORDS
#define RECORDS 4
#endif
#ifndef NAPS
#define NAPS 1 /* how many naps may end before they have to */
#endif
#define QUARTER(position) ((position) / 2)

#define TAIL 0
#define SLEEPING 1
#define PRODUCER 0
#define DRAIN 1

#define SIDES 2
#define SHARED 2
#define PLAIN 0
#define MESSAGES (2 * (RECORDS + RECORDS / 2 + NAPS) + 2)
#ifdef X86
#include "buffers.inc"
#else
#include "views.inc"
#endif

hidden byte lost_wake_up;

byte bell;   /* the futex word. Nobody counts on the orders that the kernel gives beside it */
bit waiting; /* the drain is queued on it */
bit ended;

proctype producer()
{
    byte before = 0;
    byte after = 0;
    byte seen = 0;
    byte nth = 0;
    do
    :: atomic {
           after < RECORDS ->
           before = after;
           if /* one record, or a batch of two */
           :: after = before + 1
           :: before + 2 <= RECORDS -> after = before + 2
           fi
       }
       if
       :: QUARTER(before) == QUARTER(after) -> store(PRODUCER, TAIL, RELEASE, after)
       :: else ->
           store(PRODUCER, TAIL, CROSSING, after);
           load(PRODUCER, SLEEPING, LOOK_AT_SLEEPING, seen);
           if
           :: atomic { seen -> bell++; waiting = 0; seen = 0 } /* FUTEX_WAKE_OP: under the lock that waits queue under */
           :: else
           fi
       fi
    :: atomic { after == RECORDS -> ended = 1; break }
    od
}

proctype drain()
{
    byte read = 0;
    byte tail = 0;
    byte value = 0;
    byte naps = NAPS;
    byte nth = 0;
    do
    :: ended && read == RECORDS -> break
    :: !(ended && read == RECORDS) ->
        value = bell;
        load(DRAIN, TAIL, RELAXED, tail); /* has_news() */
        if
        :: tail != read ->
            load(DRAIN, TAIL, ACQUIRE, tail); /* rb_copy */
            read = tail
        :: else ->
            store(DRAIN, SLEEPING, SLEEPING_STORE, 1);
            load(DRAIN, TAIL, LAST_LOOK, tail);
            if
            :: tail != read
            :: tail == read && bell != value
            :: d_step { tail == read && bell == value -> waiting = 1 } /* FUTEX_WAIT compares and queues in one */
                if
                :: !waiting
                :: d_step { waiting && naps > 0 -> naps--; waiting = 0 } /* the time is over, or a signal */
                :: timeout -> /* nothing else can go on: what is not known now, only the end of the nap would tell */
                    assert(QUARTER(NEWEST(TAIL)) == QUARTER(read) || lost_wake_up);
                    break
                fi
            fi;
            store(DRAIN, SLEEPING, RELAXED, 0)
        fi;
        value = 0;
        tail = 0
    od
}

init {
    atomic {
        run producer();
        run drain()
    }
}
