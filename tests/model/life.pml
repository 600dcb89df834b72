/*
 * The life of a ring's file: made, attached, closed or left by a killed producer, set aside and replaced, removed
 * (csrc/producer/producer.c, Reader and Ring of drain/). SIGKILL may hit either side before each of its steps. Records are only
 * counted here; lane.pml follows them through the slots.
 *
 * Every `#ifdef` that is named in tests/test_model.py takes one rule away.
 */
#define RINGS 2
#ifndef ATTEMPTS
#define ATTEMPTS 1 /* of each of two threads, over all rings */
#endif
#ifndef DRAINS
#define DRAINS 2 /* lives of the drain: all but the last may be killed */
#endif

hidden byte half_made_ring, removed_records, removed_living, lost_record, left_behind, stored_unlocked;

/* Files. `locked`: the flock, which the mapping holds; `named`: in the ring directory. */
bit whole[RINGS], named[RINGS], locked[RINGS], closed[RINGS], detached[RINGS], quarantined[RINGS];
byte tail[RINGS], head[RINGS];

/* The producer's own memory. */
bit busy, is_closed;
bit is_replaced; /* by one thread: the `life` flag, and a look at who was first */
byte present; /* the ring that its address is mapped to */
byte published;
byte ended;
bit producer_killed, drain_killed;

/* make_ring(): each step of it leaves either nothing or a ring in good order. */
inline make_ring(ring)
{
#ifdef NAME_BEFORE_LOCK
    whole[ring] = 1;
    named[ring] = 1;
    locked[ring] = 1
#elif defined(NAME_BEFORE_HEADER)
    locked[ring] = 1;
    named[ring] = 1;
    whole[ring] = 1
#else
    locked[ring] = 1;
    whole[ring] = 1;
    named[ring] = 1
#endif
}

/* replace_ring(): with all lanes held the new ring takes the address; the old lock goes with the last mapping. */
inline replace_ring()
{
    make_ring(1);
#ifndef REPLACE_WITHOUT_LANES
    atomic { !busy -> busy = 1 }
#endif
    present = 1;
    locked[0] = 0;
    busy = 0
}

proctype emitter()
{
    byte attempts = 0;
    byte ring = 0;
    bit attend = 0;
    {
        do
        :: attempts < ATTEMPTS ->
            attempts++;
            if
            :: atomic { busy || is_closed -> skip } /* dropped, and counted */
            :: atomic { !busy && !is_closed -> busy = 1; ring = present }
                d_step {
                    assert(locked[ring] || stored_unlocked);
                    tail[ring] = tail[ring] + 1;
                    published++
                }
                attend = detached[ring];
                atomic { busy = 0; ring = 0 }
                if
                :: atomic { attend && !is_replaced && !is_closed -> attend = 0; is_replaced = 1 } replace_ring()
                :: else -> attend = 0
                fi
            fi
        :: atomic { attempts == ATTEMPTS -> attempts = 0; ended++; break }
        od
    } unless { d_step { producer_killed -> attempts = 0; ring = 0; attend = 0 } }
}

/* The thread that makes the ring before the others emit, and closes the producer at any time. */
proctype owner()
{
    {
        make_ring(0);
        run emitter();
        run emitter();
        if
        :: true -> /* rb_close: it takes the lanes for good, then sets `closed` */
            is_closed = 1;
#ifndef CLOSE_WITHOUT_LANES
            atomic { !busy -> busy = 1 }
#endif
            closed[present] = 1
        :: ended == 2 /* the process exits without a close */
        fi;
        ended == 2 || is_closed; /* the process exits; threads that still emit go with it */
        d_step { locked[0] = 0; locked[1] = 0; producer_killed = 1 }
    } unless {
        d_step { /* the kernel unmaps; a file without a name is gone */
            producer_killed ->
#ifndef MAPPING_INHERITED
            locked[0] = 0; locked[1] = 0;
#endif
            ended = 2
        }
    }
}

/* A ring from which nothing more is to come: unlink, and let it go. */
inline retire(ring)
{
    d_step {
#ifndef QUARANTINE_BY_UNLINK
        assert(tail[ring] == head[ring] || removed_records);
#endif
        assert(!locked[ring] || closed[ring] || removed_living);
        assert(tail[ring] == head[ring] || removed_records);
        named[ring] = 0;
        attached[ring] = 0;
        ending[ring] = 0;
        end[ring] = 0
    }
}

/* One look at one ring: Reader.check_producers, Service._serve. */
inline look_at(ring)
{
    if
    :: atomic { attached[ring] && ending[ring] && end[ring] == head[ring] -> retire(ring) }
    :: atomic { attached[ring] && head[ring] < end[ring] -> head[ring] = head[ring] + 1 } /* delivered, then released */
#ifdef UNLINK_WITHOUT_EMPTY_CHECK
    :: atomic { attached[ring] && ending[ring] -> retire(ring) }
#endif
#ifdef UNLINK_LIVING
    :: atomic { attached[ring] && tail[ring] == head[ring] -> retire(ring) }
#endif
#ifdef TAIL_BEFORE_LOCK
    :: attached[ring] && !ending[ring] -> end[ring] = tail[ring];
        atomic {
            if
            :: !locked[ring] || closed[ring] -> ending[ring] = 1
            :: else
            fi
        }
#else
    :: atomic { attached[ring] && !ending[ring] && end[ring] != tail[ring] -> end[ring] = tail[ring] } /* rb_poll */
    :: atomic { attached[ring] && !ending[ring] && (!locked[ring] || closed[ring]) -> ending[ring] = 1 }
        end[ring] = tail[ring] /* loaded after the lock was had, or `closed` was seen: the last */
#endif
    fi
}

/* Found unsound: the producer is told, and the file moved to quarantine/. */
inline set_aside(ring)
{
    atomic { faults > 0 && attached[ring] -> faults--; detached[ring] = 1 }
#ifdef QUARANTINE_BY_UNLINK
    atomic { retire(ring) }
#else
    atomic {
        named[ring] = 0;
        quarantined[ring] = 1;
        attached[ring] = 0;
        ending[ring] = 0;
        end[ring] = 0
    }
#endif
}

inline look_for(ring)
{
    atomic {
        named[ring] && !attached[ring] -> attached[ring] = 1; assert(whole[ring] || half_made_ring)
    }
}

proctype drain()
{
    bit attached[RINGS], ending[RINGS];
    byte end[RINGS]; /* up to where the records are known to be there */
    byte faults = 1;
    byte life = 0;
begin:
    {
        do
        :: look_for(0)
        :: look_for(1)
        :: look_at(0)
        :: look_at(1)
        :: set_aside(0)
        :: atomic { producer_killed && !named[0] && !named[1] -> break }
        od
    } unless {
        d_step {
            drain_killed ->
            drain_killed = 0;
            attached[0] = 0; attached[1] = 0; ending[0] = 0; ending[1] = 0; end[0] = 0; end[1] = 0
        }
        goto begin
    }
}

proctype fate()
{
    byte kills = DRAINS - 1;
    do
    :: d_step { kills > 0 && !drain_killed -> drain_killed = 1; kills-- }
    :: d_step { !producer_killed -> producer_killed = 1 }
    :: break
    od;
    kills = 0
}

init {
    atomic {
        run owner();
        run drain();
        run fate()
    }
    /* All is over: each record was delivered, or lies in quarantine; no file is left in the directory. */
    timeout ->
    d_step {
        assert(!named[0] && !named[1] || left_behind);
        assert(tail[0] + tail[1] == published || lost_record);
        assert(tail[0] == head[0] || quarantined[0] || lost_record);
        assert(tail[1] == head[1] || quarantined[1] || lost_record)
    }
}
