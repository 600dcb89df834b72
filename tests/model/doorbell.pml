/*
 * The drain's sleep and the doorbell (publish() of csrc/producer/emit.c, csrc/consumer/watch.c, _round and _sleep of drain/service/service.py).
 * Producer 0 has a ring that the drain may know; producer 1 makes its ring meanwhile, and rings when it is there.
 *
 * A plain or release store waits in its processor's buffer, as on x86, until that processor empties it or runs a locked
 * instruction: all that a seq_cst store adds there. The assumption is that a nap ends: it does when nothing else can go
 * on (`timeout`), or earlier. What must not be is that it has to end for the drain to learn of a crossed quarter.
 *
 * Every `#ifdef` that is named in tests/test_model.py takes one rule away.
 */
#define QUARTER(position) ((position) / 2)
#ifndef RECORDS
#define RECORDS 2 /* of each producer */
#endif
#ifndef KILLS
#define KILLS 1 /* of the drain */
#endif
#ifndef NAPS
#define NAPS 0 /* how many naps may end before they have to */
#endif
#define NOTHING 2

hidden byte lost_wake_up, unseen_ring, lost_record;

byte tail[2];                /* what the other side reads */
byte stored[2];              /* what the producer has stored: ahead of `tail` by what is in the buffer */
bit sleeping[2];             /* in each ring's drain line */
byte sleeping_buffer[2] = 2; /* NOTHING, or the drain's store that is under way */
bit named[2];
bit attached[2];
byte bell;    /* the futex word */
bit waiting;  /* the drain is queued on it */
byte read[2]; /* the drain's, in its own memory */
bit killed[2];
bit drain_killed;
byte ended;

/*
 * Stores become visible one by one and in order; when is nobody's choice. (A batch is one store, and becomes visible
 * here record by record, which only adds states. The order of each access is in doorbell_orders.pml.)
 */
proctype buffers()
{
end:
    do
    :: d_step { tail[0] != stored[0] -> tail[0]++ }
    :: d_step { tail[1] != stored[1] -> tail[1]++ }
    :: d_step { sleeping_buffer[0] != NOTHING -> sleeping[0] = sleeping_buffer[0]; sleeping_buffer[0] = NOTHING }
    :: d_step { sleeping_buffer[1] != NOTHING -> sleeping[1] = sleeping_buffer[1]; sleeping_buffer[1] = NOTHING }
    od
}

/* FUTEX_WAKE_OP: the kernel adds and wakes under the lock that a wait queues under. */
inline ring_doorbell()
{
    atomic {
#ifndef BELL_UNCHANGED
        bell++;
#endif
        waiting = 0
    }
}

proctype producer(byte me)
{
    byte after = 0;
    byte before = 0;
    bit seen = 0;
    {
        if
        :: me == 1 ->
            named[1] = 1; /* linkat */
#ifndef NO_RING_AT_OPEN
            ring_doorbell()
#endif
        :: else
        fi;
        do
        :: atomic {
               after < RECORDS ->
               before = after;
               if /* one record, or a batch of two */
               :: after = before + 1
               :: before + 2 <= RECORDS -> after = before + 2
               fi
           }
#ifdef LOOK_BEFORE_PUBLISH
            seen = sleeping[me];
#endif
            if
#ifdef CROSSING_BY_REMAINDER
            :: atomic { after % 2 != 0 -> stored[me] = after }
#else
            :: atomic { QUARTER(before) == QUARTER(after) -> stored[me] = after }
#endif
            :: else ->
#ifdef CROSSING_NOT_SEQ_CST
                stored[me] = after;
#else
                atomic { stored[me] = after; tail[me] = after }
#endif
#ifndef LOOK_BEFORE_PUBLISH
                seen = sleeping[me];
#endif
                if
                :: atomic { seen -> ring_doorbell(); seen = 0 }
                :: else
                fi
            fi
        :: atomic { after == RECORDS -> ended++; after = 0; before = 0; break }
        od
    } unless { d_step { killed[me] -> ended++; after = 0; before = 0; seen = 0 } }
}

/* fall_asleep() of watch.c: an exchange is a locked instruction. */
inline fall_asleep(ring)
{
#ifdef SLEEPING_AFTER_LAST_LOOK
    ready = ready | (tail[ring] != read[ring]);
#endif
#ifdef SLEEPING_BY_PLAIN_STORE
    sleeping_buffer[ring] = 1;
#else
    d_step { sleeping[ring] = 1; sleeping_buffer[ring] = NOTHING };
#endif
#if !defined(NO_LAST_LOOK) && !defined(SLEEPING_AFTER_LAST_LOOK)
    ready = ready | (tail[ring] != read[ring])
#endif
}

inline serve(ring)
{
    d_step {
        if
        :: attached[ring] && tail[ring] != read[ring] -> read[ring] = tail[ring]; worked = 1
        :: else
        fi
    }
}

#define ALL_IS_READ (read[0] == stored[0] && read[1] == stored[1] && attached[0] && (attached[1] || !named[1]))

proctype drain()
{
    byte value = 0;
    bit worked = 0;
    bit ready = 0;
    byte naps = NAPS;
begin:
    {
        do
        :: ended == 2 && ALL_IS_READ -> break
        :: !(ended == 2 && ALL_IS_READ) ->
#ifndef VALUE_AFTER_SCAN
            value = bell; /* before anything is looked at that it may be rung for */
#endif
            d_step {
                worked = 0;
                if /* Reader.scan */
                :: !attached[0] || (named[1] && !attached[1]) -> worked = 1; attached[0] = 1; attached[1] = named[1]
                :: else
                fi
            }
            serve(0);
            serve(1);
            if
            :: worked -> worked = 0
            :: else ->
#ifdef VALUE_AFTER_SCAN
                value = bell;
#endif
                fall_asleep(0);
                if
                :: attached[1] -> fall_asleep(1)
                :: else
                fi;
#ifdef VALUE_AFTER_LAST_LOOK
                value = bell;
#endif
                if
                :: ready
                :: !ready && bell != value
                :: d_step { !ready && bell == value -> waiting = 1 } /* FUTEX_WAIT compares and queues in one */
                    if
                    :: !waiting
                    :: d_step { waiting && naps > 0 -> naps--; waiting = 0 } /* the time is over, or a signal */
                    :: timeout ->
                        d_step {
                            assert(named[1] == attached[1] || killed[1] || unseen_ring);
                            assert(QUARTER(tail[0]) == QUARTER(read[0]) || killed[0] || lost_wake_up);
                            assert(QUARTER(tail[1]) == QUARTER(read[1]) || killed[1] || lost_wake_up);
                            waiting = 0
                        }
                    fi
                fi;
                ready = 0;
                sleeping_buffer[0] = 0; /* wake_up(): relaxed stores */
                if
                :: attached[1] -> sleeping_buffer[1] = 0
                :: else
                fi
            fi;
            value = 0
        od
    } unless {
        d_step {
            drain_killed ->
            drain_killed = 0; /* the next begins at `head`, here 0; `sleeping` stays as it was */
            waiting = 0; read[0] = 0; read[1] = 0; attached[0] = 0; attached[1] = 0;
            value = 0; worked = 0; ready = 0
        }
        goto begin
    }
    assert(read[0] == tail[0] && (killed[1] || read[1] == tail[1]) || lost_record)
}

proctype fate()
{
    byte kills = KILLS;
    do
    :: d_step { kills > 0 && !drain_killed -> drain_killed = 1; kills-- }
    :: d_step { kills > 0 && !killed[0] && ended < 2 -> killed[0] = 1; kills-- }
    :: d_step { kills > 0 && !killed[1] && ended < 2 -> killed[1] = 1; kills-- }
    :: break
    od;
    kills = 0
}

init {
    atomic {
        named[0] = 1;
        run buffers();
        run producer(0);
        run producer(1);
        run drain();
        run fate()
    }
}
