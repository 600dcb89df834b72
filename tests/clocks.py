"""Clocks that a test sets."""

from __future__ import annotations


class Clock:
    """Tells the seconds that the test has put into `now`."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
