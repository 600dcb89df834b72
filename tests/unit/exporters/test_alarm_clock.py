"""Alarms are rung at their time, in their order, and not when they were called off."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from drain.exporters.alarm_clock import ALARMS, AlarmClock
from drain.exporters.http_connection import Deadline
from tests.waiting import SECONDS

if TYPE_CHECKING:
    import pytest

HOUR = 3600.0


class Rung:
    """What was rung, in its order."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.last = threading.Event()

    def ring(self, name: str) -> None:
        self.names.append(name)
        if name == "last":
            self.last.set()


def test_the_sooner_rings_first_whenever_it_was_set() -> None:
    rung = Rung()
    late = ALARMS.set(HOUR, lambda: rung.ring("in an hour"))
    with ALARMS._changed:  # none rings before all are set
        ALARMS.set(0.0, lambda: rung.ring("last"))
        ALARMS.set(-HOUR, lambda: rung.ring("first"))
    assert rung.last.wait(SECONDS)
    late.call_off()
    assert rung.names == ["first", "last"]


def test_what_was_called_off_is_not_rung() -> None:
    rung = Rung()
    with ALARMS._changed:
        for _ in range(100):
            ALARMS.set(0.0, lambda: rung.ring("called off")).call_off()
    ALARMS.set(0.0, lambda: rung.ring("last"))
    assert rung.last.wait(SECONDS)
    assert rung.names == ["last"]


def test_one_that_raises_keeps_no_other_from_being_rung() -> None:
    def fails() -> None:
        raise OSError

    rung = Rung()
    ALARMS.set(0.0, fails)
    ALARMS.set(0.0, lambda: rung.ring("last"))
    assert rung.last.wait(SECONDS)


def test_a_thread_that_is_gone_has_another_in_its_place() -> None:
    clock, rung = AlarmClock(), Rung()
    gone = threading.Thread(target=int)
    gone.start()
    gone.join(SECONDS)
    clock._thread = gone  # as the child of a fork finds it
    clock.set(0.0, lambda: rung.ring("last"))
    assert rung.last.wait(SECONDS)


def test_attempts_have_one_thread_for_all_their_deadlines() -> None:
    def clocks() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "alarm-clock"]

    with Deadline(HOUR):
        before = clocks()
        with Deadline(HOUR), Deadline(HOUR):
            assert clocks() == before
            assert before


def test_those_that_are_called_off_do_not_pile_up_until_their_time() -> None:
    """A time-out of an hour, hundreds of requests a second: that was a hundred megabytes."""
    clock = AlarmClock()
    late = clock.set(2 * HOUR, lambda: None)
    for _ in range(1000):
        clock.set(HOUR, lambda: None).call_off()
    assert len(clock._set) == 1
    late.call_off()
    assert not clock._set


def test_the_thread_outlives_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an attempt on a server that drips would never end, as no other attempt begins a thread."""
    clock, rung, failed = AlarmClock(), Rung(), threading.Event()
    wait = clock._changed.wait

    def fails_once(seconds: float | None) -> bool:
        if failed.is_set():
            return wait(seconds)
        failed.set()
        raise MemoryError

    monkeypatch.setattr(clock._changed, "wait", fails_once)
    late = clock.set(HOUR, lambda: None)
    assert failed.wait(SECONDS)
    thread = clock._thread
    assert thread is not None
    thread.join(0.2)  # until it would have ended
    clock.set(0.0, lambda: rung.ring("last"))
    assert rung.last.wait(SECONDS)
    assert clock._thread is thread
    late.call_off()
