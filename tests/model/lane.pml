/*
 * One lane, its producer's threads and the drains that follow one another (csrc/producer/emit.c, csrc/consumer/consumer.c). SIGKILL may
 * hit either side before each of its steps. Positions are bytes that wrap from 255 to 0 in each run.
 *
 * Every `#ifdef` that is named in tests/test_model.py takes one rule away; each then breaks the property that is named
 * on the right of `||` in an assertion. These names are false, and there for the reader of a failure.
 */
#ifndef CAPACITY
#define CAPACITY 2
#endif
#ifndef THREADS
#define THREADS 2
#endif
#ifndef ATTEMPTS
#define ATTEMPTS 2 /* of each thread */
#endif
#ifndef DRAINS
#define DRAINS 3 /* lives of the drain, one after the other: all but the last may be killed */
#endif
#define RECORDS (THREADS * ATTEMPTS)
#define FIRST_POSITION 254

#define DISTANCE(to, from) (((to) - (from)) & 255)
#define INDEX(position) DISTANCE(position, FIRST_POSITION)
#define SLOT(position) ((position) & (CAPACITY - 1))

hidden byte torn_record, wrong_record, overwritten_record, beyond_capacity, counted_undelivered;
hidden byte words_behind_head, law_of_the_ring, law_of_the_producer, lost_record, repeated_unseen;

/* The file: it outlives both sides. A slot has two halves, since no store writes a whole record. */
byte tail = FIRST_POSITION;
byte head = FIRST_POSITION;
byte delivered, spooled; /* outcome words */
byte first_half[CAPACITY], second_half[CAPACITY];

/* Private to the producer, shared by its threads (struct rb_held_lane). */
bit busy;
byte held_tail = FIRST_POSITION;
byte held_head = FIRST_POSITION;
byte dropped; /* full or contended */

/* What the properties need to know, and nobody else. */
byte truth[RECORDS]; /* which record was published at each position */
bit got[RECORDS];    /* the backend or the spool has it */
byte threads_ended;
bit producer_killed;
bit drain_killed;

/*
 * check_out(), copy_slots(), publish() and rb_give_back() of emit.c. What only the holder of the flag can see is one
 * step with the access to memory beside it: each step has one access that others may see.
 */
proctype thread(byte me)
{
    byte made = 0;
    byte id = 0;
    {
        do
        :: atomic { made < ATTEMPTS -> made++; id = me * ATTEMPTS + made }
            if
#ifdef NO_BUSY_FLAG
            :: true ->
#else
            :: atomic { busy -> dropped++ } /* nobody waits */
            :: atomic { !busy -> busy = 1 } /* rb_try_take: one exchange */
#endif
                if
                :: atomic { DISTANCE(held_tail, held_head) >= CAPACITY -> held_head = head }
                :: else
                fi;
                if
#ifdef FULL_BY_ONE_TOO_LATE
                :: DISTANCE(held_tail, held_head) <= CAPACITY ->
#else
                :: DISTANCE(held_tail, held_head) < CAPACITY ->
#endif
#ifdef PUBLISH_BEFORE_WRITE
                    atomic { tail = (held_tail + 1) & 255; truth[INDEX(held_tail)] = id }
#endif
                    atomic {
                        assert(DISTANCE(held_tail, head) < CAPACITY || overwritten_record);
                        first_half[SLOT(held_tail)] = id
                    }
                    second_half[SLOT(held_tail)] = id;
#ifdef GIVE_BACK_BEFORE_PUBLISH
                    busy = 0;
#endif
                    atomic {
                        truth[INDEX(held_tail)] = id;
                        held_tail = (held_tail + 1) & 255;
                        tail = held_tail
                    }
                :: else -> dropped++
                fi;
                busy = 0
            fi
        :: atomic { made == ATTEMPTS -> made = 0; id = 0; threads_ended++; break }
        od
    } unless { atomic { producer_killed -> made = 0; id = 0 } }
}

inline look_at_copy()
{
    assert(left == right || torn_record);
    assert(left == truth[INDEX(read)] || wrong_record); /* also the order within the lane */
    read = (read + 1) & 255;
    left = 0;
    right = 0
}

/* rb_copy, one record: `tail` is loaded, then the slot is copied, and only then looked at. */
inline copy_one()
{
#ifdef COPY_BEFORE_TAIL
    left = first_half[SLOT(read)];
    right = second_half[SLOT(read)];
    if
    :: d_step { read != tail -> look_at_copy() }
    :: atomic { read == tail -> left = 0; right = 0 }
    fi
#else
    atomic {
        read != tail;
        assert(DISTANCE(tail, released) <= CAPACITY || beyond_capacity) /* is_plausible() */
    }
    left = first_half[SLOT(read)];
    d_step { right = second_half[SLOT(read)]; look_at_copy() }
#endif
}

/*
 * A record that was copied is accepted by the backend, or durable in the spool: in any order among those on their way.
 * Which of the two differs from drain to drain.
 */
inline settle(at)
{
    d_step {
        got[INDEX(at)] = 1;
        settled[SLOT(at)] = 1 + ((at + life) & 1)
    }
}

#define IS_SETTLED(at) (settled[SLOT(at)] != 0)
#define IS_ON_ITS_WAY(nth) (DISTANCE(read, released) > (nth) && !IS_SETTLED(released + (nth)))

inline count_one(at)
{
    if
    :: settled[SLOT(at)] == 1 -> my_delivered++
    :: else -> my_spooled++
    fi;
    settled[SLOT(at)] = 0;
    released = (released + 1) & 255;
    count++
}

/* rb_release of the oldest records whose outcome is known: the words in this drain's memory. */
inline add_up()
{
    before_delivered = my_delivered;
    before_spooled = my_spooled;
    do
#ifdef RELEASE_BEFORE_DELIVERY
    :: read != released -> count_one(released)
#else
    :: read != released && IS_SETTLED(released) -> count_one(released)
#endif
#ifdef RELEASE_OUT_OF_ORDER
    :: IS_ON_ITS_WAY(0) && DISTANCE(read, released) > 1 && IS_SETTLED(released + 1) -> count_one((released + 1))
#endif
    :: else -> break
    od;
    again = (count < counted_before -> count : counted_before);
    counted_before = counted_before - again;
    repeated = repeated + again;
#ifndef COUNT_TWICE
    /* forget(): what an earlier drain has counted stays what that drain called it */
    count = my_delivered - before_delivered;
    count = (again < count -> again : count);
    my_delivered = my_delivered - count;
    my_spooled = my_spooled - (again - count);
#endif
    count = 0;
    again = 0;
    before_delivered = 0;
    before_spooled = 0
}

inline release()
{
#ifdef COUNT_AFTER_HEAD
    d_step { add_up(); head = released }
    delivered = my_delivered;
    spooled = my_spooled
#else
    if /* the stores to the words are relaxed: they may come in any order among themselves */
    :: d_step { add_up(); delivered = my_delivered } spooled = my_spooled
    :: d_step { add_up(); spooled = my_spooled } delivered = my_delivered
    fi;
    atomic {
        head = released;
        assert(delivered + spooled == INDEX(head) + counted_before || law_of_the_ring)
    }
#endif
}

/* adopt_lane(): the one time that positions and words are taken from the file. */
inline attach()
{
    d_step {
#ifdef RESTART_AT_TAIL
        released = tail;
#else
        released = head; /* nobody else writes it, nor the words */
#endif
        assert(DISTANCE(tail, released) <= CAPACITY || beyond_capacity);
        read = released;
        my_delivered = delivered;
        my_spooled = spooled;
        assert(my_delivered + my_spooled >= INDEX(released) || words_behind_head);
        counted_before = my_delivered + my_spooled - INDEX(released);
        assert(counted_before <= DISTANCE(tail, released) || words_behind_head);
        found_before = counted_before;
#ifdef COUNT_TWICE
        counted_before = 0;
#endif
        count = 0;
        do /* what the words say was delivered */
        :: count < my_delivered + my_spooled -> assert(got[count] || counted_undelivered); count++
        :: else -> break
        od;
        count = 0
    }
}

#define PRODUCER_IS_GONE (producer_killed || threads_ended == THREADS)

inline forget_all()
{
    read = 0; released = 0; left = 0; right = 0;
    my_delivered = 0; my_spooled = 0; counted_before = 0; found_before = 0; repeated = 0;
    count = 0; before_delivered = 0; before_spooled = 0; again = 0;
    settled[0] = 0; settled[1] = 0;
#if CAPACITY == 4
    settled[2] = 0; settled[3] = 0;
#endif
}

proctype drain(byte life)
{
    byte read, released, left, right, my_delivered, my_spooled, counted_before, found_before, repeated;
    byte count, before_delivered, before_spooled, again;
    byte settled[CAPACITY]; /* by slot: 0 on its way, 1 delivered, 2 spooled */
begin:
    {
        attach();
        do
        :: copy_one()
        :: IS_ON_ITS_WAY(0) -> settle(released)
        :: IS_ON_ITS_WAY(1) -> settle((released + 1))
#ifdef RELEASE_BEFORE_DELIVERY
        :: read != released -> release()
#elif defined(RELEASE_OUT_OF_ORDER)
        :: (read != released && IS_SETTLED(released)) || (DISTANCE(read, released) > 1 && IS_SETTLED(released + 1)) ->
            release()
#else
        :: read != released && IS_SETTLED(released) -> release()
#endif
        :: d_step {
               PRODUCER_IS_GONE && read == tail && released == read ->
               assert(repeated == found_before || repeated_unseen);
               forget_all()
           }
           break
        od
    } unless { d_step { drain_killed -> drain_killed = 0; life++; forget_all() } goto begin }
}

proctype fate()
{
    byte kills = DRAINS - 1;
end:
    do
    :: d_step { kills > 0 && !drain_killed && !(PRODUCER_IS_GONE && head == tail) -> drain_killed = 1; kills-- }
    :: d_step { !PRODUCER_IS_GONE -> producer_killed = 1; busy = 0; held_tail = 0; held_head = 0 }
    od
}

init {
    byte i;
    atomic {
        for (i : 0 .. THREADS - 1) { run thread(i) }
        run fate();
        run drain(0);
#ifdef TWO_DRAINS
        run drain(1);
#endif
        i = 0
    }
    /* All is over: what was published has been delivered, and each record is counted once. */
    timeout ->
    d_step {
        assert(head == tail || lost_record);
        assert(delivered + spooled == INDEX(tail) || law_of_the_ring);
        assert(dropped + INDEX(tail) <= RECORDS || law_of_the_producer);
        assert(producer_killed || dropped + INDEX(tail) == RECORDS || law_of_the_producer);
        do
        :: i < INDEX(tail) -> assert(got[i] || lost_record); i++
        :: else -> break
        od
    }
}
