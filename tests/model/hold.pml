/*
 * The hold: spans leave a lane for a file of the drain's own, wait there for the decision on their trace, are settled
 * one by one, and are moved where they outlive their neighbours (csrc/hold/chunk.c, drain/sampling/hold/). SIGKILL may
 * hit the drain before each of its steps; the next one goes on with what it finds.
 *
 * A place is a record's room in a chunk. A segment has one record here: what several have in common is the one store
 * that publishes them. Every `#ifdef` that is named in tests/test_model.py takes one rule away.
 */
#ifndef RECORDS
#define RECORDS 3
#endif
#ifndef DRAINS
#define DRAINS 2 /* lives of the drain: all but the last may be killed */
#endif
#ifndef NUMBERS
#define NUMBERS 4 /* how often a chunk is begun, in all */
#endif
#define CHUNKS 2
#define SLOTS 2 /* of a chunk */
#define PLACES (CHUNKS * SLOTS)
#define NOWHERE PLACES
#define TRACE(record) (((record) - 1) / 2) /* records 1 and 2 are a trace, 3 and 4 another */
#define TRACES ((RECORDS + 1) / 2)
#define CHUNK(place) ((place) / SLOTS)

mtype { WAITING, DELIVERED, SAMPLED_OUT, MOVED };
mtype { UNDECIDED, KEEP, DROP };

hidden byte lost_record, held_twice, torn_record, torn_trace, released_unheld, settled_undelivered;

/* The files: the ring's lane, whose records are 1, 2, …; the hold's chunks; the decisions. */
byte head;
byte number[CHUNKS];      /* of the chunk's present use; 0: none yet */
byte published[PLACES];   /* the number of the use in which a segment was published here */
byte record[PLACES];      /* which record; 0: half written */
byte upto[PLACES];        /* where its look at the lane ended; 0: it was moved here */
byte source[PLACES];      /* from where it was moved */
byte source_number[PLACES];
mtype word[PLACES] = WAITING;
mtype decision[TRACES] = UNDECIDED;

/* What the properties need to know, and nobody else. */
byte settled[RECORDS + 1];
bit is_delivered[RECORDS + 1]; /* the backend has it */
bit is_out[RECORDS + 1];
byte used_numbers;
bit drain_killed;

#define IS_THERE(place) (number[CHUNK(place)] != 0 && published[place] == number[CHUNK(place)])
#define WAITS(place) (IS_THERE(place) && word[place] == WAITING)
#define IS_FIRST_OF(chunk) (SLOTS * (chunk))
#define IS_IDLE(chunk) (!WAITS(IS_FIRST_OF(chunk)) && !WAITS(IS_FIRST_OF(chunk) + 1))
/* A look at the lane that the ring does not know of yet: only its segment says that it is held. */
#define IS_UNRELEASED(place) (IS_THERE(place) && upto[place] > head)
#define IS_NEEDED(chunk) (IS_UNRELEASED(IS_FIRST_OF(chunk)) || IS_UNRELEASED(IS_FIRST_OF(chunk) + 1))

/* rb_chunk_begin: one store makes void what a chunk had. A number is never used again. */
inline begin_chunk(chunk)
{
    d_step {
        used_numbers++;
#if defined(REUSE_UNDER_THE_SAME_NUMBER) || defined(NUMBERS_USED_AGAIN)
        if
        :: number[chunk] == 0 -> number[chunk] = used_numbers
        :: else
        fi;
#ifdef NUMBERS_USED_AGAIN
        published[IS_FIRST_OF(chunk)] = 0;
        published[IS_FIRST_OF(chunk) + 1] = 0;
#endif
#else
        number[chunk] = used_numbers;
#endif
        open = chunk;
        taken = 0
    }
}

/* rb_chunk_append: the record and its head, then the one store that publishes both. */
inline append(which, end, from, from_number)
{
    d_step {
        place = IS_FIRST_OF(open) + taken;
#ifdef PUBLISH_BEFORE_WRITE
        record[place] = 0;
#else
        record[place] = which;
#endif
        upto[place] = end;
        source[place] = from;
        source_number[place] = from_number;
        word[place] = WAITING
    }
    d_step {
        published[place] = number[open];
        taken++
    }
#ifdef PUBLISH_BEFORE_WRITE
    record[place] = which;
#endif
}

inline settle(at, fate)
{
    d_step {
        assert(record[at] != 0 || torn_record);
        word[at] = fate;
        settled[record[at]] = settled[record[at]] + 1;
        assert(settled[record[at]] == 1 || held_twice);
        assert(is_delivered[record[at]] || fate != DELIVERED || settled_undelivered);
        is_out[record[at]] = (fate == SAMPLED_OUT -> 1 : is_out[record[at]])
    }
}

/* The ring's words and head: a look is released once it is in the hold. */
inline release(end)
{
    d_step {
        i = 0;
        is_held = 0;
        do
        :: i < PLACES -> is_held = is_held || (IS_THERE(i) && record[i] == end); i++
        :: else -> break
        od;
        i = 0;
        assert(is_held || released_unheld);
        is_held = 0;
        head = end
    }
}

/* What is found: a record that was moved waits in one place only, and a lane begins behind what was held of it. */
inline take_up()
{
#ifdef SOURCES_FORGOTTEN
    skip
#else
    i = 0;
    do
    :: d_step {
           i < PLACES ->
           if
           :: IS_THERE(i) && source[i] != NOWHERE && number[CHUNK(source[i])] == source_number[i] &&
              IS_THERE(source[i]) -> word[source[i]] = MOVED
           :: else
           fi;
           i++
       }
    :: d_step { i == PLACES -> i = 0 } break
    od
#endif
}

inline attach()
{
    d_step {
        i = 0;
        end = head;
#ifndef UPTO_FORGOTTEN
        do
        :: i < PLACES ->
            if
            :: IS_UNRELEASED(i) && upto[i] > end -> end = upto[i]
            :: else
            fi;
            i++
        :: else -> break
        od;
        i = 0;
#endif
        is_attached = 1
    }
    if
    :: d_step { end > head -> head = end; end = 0 }
    :: d_step { else -> end = 0 }
    fi
}

inline look_at(at)
{
    if
    /* The trace's time is over: the decision is stored before the first of its records is settled. */
#ifdef SETTLED_BEFORE_DECISION
    :: atomic { WAITS(at) && decided[TRACE(record[at])] == UNDECIDED ->
           decided[TRACE(record[at])] = decision[TRACE(record[at])];
           if
           :: decided[TRACE(record[at])] == UNDECIDED -> decided[TRACE(record[at])] = KEEP
           :: decided[TRACE(record[at])] == UNDECIDED -> decided[TRACE(record[at])] = DROP
           :: else
           fi }
    :: d_step { WAITS(at) && settled[record[at]] == 0 && decided[TRACE(record[at])] == DROP } settle(at, SAMPLED_OUT);
        decision[TRACE(record[at])] = DROP
    :: d_step { WAITS(at) && decided[TRACE(record[at])] == KEEP -> is_delivered[record[at]] = 1 } settle(at, DELIVERED);
        decision[TRACE(record[at])] = KEEP
#else
    :: atomic { WAITS(at) && decision[TRACE(record[at])] == UNDECIDED ->
           if
           :: decision[TRACE(record[at])] = KEEP
           :: decision[TRACE(record[at])] = DROP
           fi }
    :: d_step { WAITS(at) && decision[TRACE(record[at])] == DROP } settle(at, SAMPLED_OUT)
    :: d_step { WAITS(at) && decision[TRACE(record[at])] == KEEP } deliver_and_settle(at)
#endif
    /* It outlives its neighbours: the new place is published, then the old word says so. */
    :: d_step { WAITS(at) && open != NOWHERE && CHUNK(at) != open && taken < SLOTS } move(at)
    fi
}

inline deliver_and_settle(at)
{
#ifdef SETTLED_BEFORE_DELIVERY
    settle(at, DELIVERED);
    is_delivered[record[at]] = 1
#else
    is_delivered[record[at]] = 1;
    settle(at, DELIVERED)
#endif
}

inline move(at)
{
#ifdef MOVED_BEFORE_PUBLISHED
    word[at] = MOVED;
    append(record[at], 0, at, number[CHUNK(at)])
#else
    append(record[at], 0, at, number[CHUNK(at)]);
    word[at] = MOVED
#endif
}

inline reuse(chunk)
{
#ifdef REUSED_UNSETTLED
    d_step { used_numbers < NUMBERS && open != chunk && !IS_NEEDED(chunk) } begin_chunk(chunk)
#elif defined(REUSED_UNRELEASED)
    d_step { used_numbers < NUMBERS && open != chunk && IS_IDLE(chunk) } begin_chunk(chunk)
#else
    d_step { used_numbers < NUMBERS && open != chunk && IS_IDLE(chunk) && !IS_NEEDED(chunk) } begin_chunk(chunk)
#endif
}

proctype drain()
{
    byte open = NOWHERE;
    byte taken, place, end, i;
    bit is_attached, is_held;
#ifdef SETTLED_BEFORE_DECISION
    mtype decided[TRACES] = UNDECIDED;
#endif
begin:
    {
        take_up();
end_idle:
        do
        :: atomic { !is_attached -> skip } attach()
        :: atomic { is_attached && head < RECORDS && open != NOWHERE && taken < SLOTS -> skip }
#ifdef RELEASED_BEFORE_PUBLISHED
            head = head + 1;
            append(head, head, NOWHERE, 0)
#else
            append(head + 1, head + 1, NOWHERE, 0);
            release(head + 1)
#endif
        :: look_at(0)
        :: look_at(1)
        :: look_at(2)
        :: look_at(3)
        :: reuse(0)
        :: reuse(1)
        od
    } unless {
        d_step {
            drain_killed ->
            drain_killed = 0;
            open = NOWHERE;
            taken = 0;
            place = 0;
            end = 0;
            i = 0;
            is_attached = 0;
            is_held = 0;
#ifdef SETTLED_BEFORE_DECISION
            decided[0] = UNDECIDED; decided[1] = UNDECIDED;
#endif
        }
        goto begin
    }
}

proctype fate()
{
    byte kills = DRAINS - 1;
    do
    :: d_step { kills > 0 && !drain_killed -> drain_killed = 1; kills-- }
    :: break
    od;
    kills = 0
}

init {
    byte i;
    atomic {
        do
        :: i < PLACES -> source[i] = NOWHERE; i++
        :: else -> break
        od;
        run drain();
        run fate()
    }
    /* Nothing is left to do: all that was released has its outcome, once, and no trace has two. */
    timeout ->
    d_step {
        i = 1;
        do
        :: i <= head -> assert(settled[i] == 1 || lost_record); i++
        :: else -> break
        od;
        assert(!(is_delivered[1] && is_out[2]) && !(is_out[1] && is_delivered[2]) || torn_trace)
    }
}
