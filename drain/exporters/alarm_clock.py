"""Calls something after a time, unless that is called off: one thread for all, since a thread for each costs 0.1 ms."""

from __future__ import annotations

import math
import threading
import time
from operator import attrgetter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_PAUSE_SECONDS: Final = 0.05  # after an error, which may be want of memory


class Alarm:
    """Made by `AlarmClock.set`.

    Args:
        clock: on which it is set.
        at: when, on the monotonic clock.
        ring: what is called.

    Attributes:
        at: as given.
        ring: as given.
    """

    __slots__ = ("_clock", "at", "ring")

    def __init__(self, clock: AlarmClock, at: float, ring: Callable[[], None]) -> None:
        self._clock = clock
        self.at = at
        self.ring = ring

    def call_off(self) -> None:
        """Let it not be called, unless it is being called just now."""
        self._clock.forget(self)


class AlarmClock:
    """Any thread may set an alarm and call it off; the thread that calls them begins with the first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        # A few for each thread that sets them: those that were called off, most long before their time, do not stay.
        self._set: dict[Alarm, None] = {}
        self._wakes_at = math.inf  # the thread, at the latest

    def set(self, seconds: float, ring: Callable[[], None]) -> Alarm:
        """Call something after some seconds; it must not block, since the others wait for it.

        Args:
            seconds: from now.
            ring: called once, in a thread of its own.

        Raises:
            RuntimeError: there can be no thread now; nothing will be called.
        """
        alarm = Alarm(self, time.monotonic() + seconds, ring)
        with self._changed:
            if self._thread is None or not self._thread.is_alive():  # as after a fork
                thread = threading.Thread(target=self._run, name="alarm-clock", daemon=True)
                thread.start()
                self._thread = thread
            self._set[alarm] = None
            if alarm.at < self._wakes_at:
                self._changed.notify()
        return alarm

    def forget(self, alarm: Alarm) -> None:
        """Let an alarm not be called; the thread is not woken for that."""
        with self._changed:
            self._set.pop(alarm, None)

    def _run(self) -> None:
        while True:
            try:
                self._next().ring()
            except Exception:  # noqa: BLE001 - the others are called all the same
                time.sleep(_PAUSE_SECONDS)

    def _next(self) -> Alarm:
        """Wait for the first that is due, and have it no longer."""
        with self._changed:
            while True:
                first = min(self._set, key=attrgetter("at"), default=None)
                seconds = None if first is None else first.at - time.monotonic()
                if first is not None and seconds is not None and seconds <= 0:
                    del self._set[first]
                    return first
                self._wakes_at = math.inf if first is None else first.at
                self._changed.wait(seconds)


ALARMS: Final = AlarmClock()
"""That of this process."""
