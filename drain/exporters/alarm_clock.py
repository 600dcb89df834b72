"""Calls something after a time, unless that is called off: one thread for all, since a thread for each costs 0.1 ms."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable


class Alarm:
    """Made by `AlarmClock.set`.

    Args:
        ring: what is called.
    """

    __slots__ = ("ring",)

    def __init__(self, ring: Callable[[], None]) -> None:
        self.ring: Callable[[], None] | None = ring

    def call_off(self) -> None:
        """Let it not be called, unless it is being called just now."""
        self.ring = None


class AlarmClock:
    """Any thread may set an alarm and call it off; the thread that calls them begins with the first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._numbers = itertools.count()  # alarms of the same time have an order, too
        self._set: list[tuple[float, int, Alarm]] = []  # a heap

    def set(self, seconds: float, ring: Callable[[], None]) -> Alarm:
        """Call something after some seconds; it must not block, since the others wait for it.

        Args:
            seconds: from now.
            ring: called once, in a thread of its own.

        Raises:
            RuntimeError: there can be no thread now; nothing will be called.
        """
        alarm = Alarm(ring)
        entry = (time.monotonic() + seconds, next(self._numbers), alarm)
        with self._changed:
            if self._thread is None or not self._thread.is_alive():  # as after a fork
                thread = threading.Thread(target=self._run, name="alarm-clock", daemon=True)
                thread.start()
                self._thread = thread
            heapq.heappush(self._set, entry)
            if self._set[0] is entry:
                self._changed.notify()
        return alarm

    def _run(self) -> None:
        while True:
            ring = self._next().ring
            if ring is not None:
                with contextlib.suppress(Exception):  # the others are called all the same
                    ring()

    def _next(self) -> Alarm:
        """Wait for the first that is due."""
        with self._changed:
            while True:
                # Of those that were called off nobody is woken: most are, long before their time.
                while self._set and self._set[0][2].ring is None:
                    heapq.heappop(self._set)
                seconds = self._set[0][0] - time.monotonic() if self._set else None
                if seconds is not None and seconds <= 0:
                    return heapq.heappop(self._set)[2]
                self._changed.wait(seconds)


ALARMS: Final = AlarmClock()
"""That of this process."""
