/*
 * An observer copies a slot that may be written again meanwhile (rb_peek, csrc/consumer/observe.c), for the order of each access:
 * over views, or over the store buffers of x86. A slot is two words that others may see half written; there is one.
 *
 * tests/test_model.py weakens every order that is defined here.
 */
#ifndef SLOT_STORE /* copy_slots() of emit.c, which has RELAXED: enough on x86, and not by C11 (see rb_peek) */
#define SLOT_STORE RELEASE
#endif
#ifndef SLOT_COPY /* rb_copy_acquire */
#define SLOT_COPY ACQUIRE
#endif
#ifndef TAIL_LOAD /* look_at_ends() */
#define TAIL_LOAD ACQUIRE
#endif
#ifndef RECORDS
#define RECORDS 3
#endif

#define TAIL 0
#define HEAD 1
#define FIRST_HALF 2
#define SECOND_HALF 3
#define EMITTER 0
#define DRAIN 1
#define OBSERVER 2

#define SIDES 3
#define SHARED 4
#define PLAIN 0
#define MESSAGES (RECORDS + 1)
#ifdef X86
#include "buffers.inc"
#else
#include "views.inc"
#endif

hidden byte wrong_record;

proctype emitter()
{
    byte tail = 0;
    byte head = 0;
    byte nth = 0;
    do
    :: tail < RECORDS && tail - head == 1 -> load(EMITTER, HEAD, ACQUIRE, head)
    :: tail < RECORDS && tail == head ->
        if /* memcpy promises no order of the two */
        :: store(EMITTER, FIRST_HALF, SLOT_STORE, tail + 1); store(EMITTER, SECOND_HALF, SLOT_STORE, tail + 1)
        :: store(EMITTER, SECOND_HALF, SLOT_STORE, tail + 1); store(EMITTER, FIRST_HALF, SLOT_STORE, tail + 1)
        fi;
        tail++;
        store(EMITTER, TAIL, RELEASE, tail)
    :: tail == RECORDS -> break
    od
}

proctype drain()
{
    byte released = 0;
    byte tail = 0;
    byte nth = 0;
    do
    :: released < RECORDS ->
        load(DRAIN, TAIL, ACQUIRE, tail);
        if
        :: tail > released -> released = tail; store(DRAIN, HEAD, RELEASE, released)
        :: else
        fi
    :: else -> break
    od
}

proctype observer()
{
    byte head = 0;
    byte again = 0;
    byte tail = 0;
    byte first = 0;
    byte second = 0;
    byte nth = 0;
    load(OBSERVER, HEAD, ACQUIRE, head);
    load(OBSERVER, TAIL, TAIL_LOAD, tail);
    if
    :: tail - head == 1 ->
#ifdef HEAD_BEFORE_COPY
        load(OBSERVER, HEAD, ACQUIRE, again);
#endif
        load(OBSERVER, FIRST_HALF, SLOT_COPY, first);
        load(OBSERVER, SECOND_HALF, SLOT_COPY, second);
#ifndef HEAD_BEFORE_COPY
        load(OBSERVER, HEAD, ACQUIRE, again);
#endif
        assert(again != head || (first == head + 1 && second == head + 1) || wrong_record)
    :: else
    fi
}

init {
    atomic {
        run emitter();
        run drain();
        run observer()
    }
}
