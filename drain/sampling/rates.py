"""Bounds of a rate as thresholds: recomputed each second from the last ten, so that a threshold stays true.

A token bucket would keep the first and drop the next, and no span could say what it stands for.
"""

from __future__ import annotations

from collections import deque
from typing import Final, TypedDict

_SECOND: Final = 1_000_000_000
_SECONDS: Final = 10


class RateState(TypedDict):
    """A `Rate` as JSON has it.

    Attributes:
        first: the second in which anything came for the first time.
        seconds: each the second and how much came in it.
    """

    first: int | None
    seconds: list[tuple[int, float]]


class Rate:
    """How much came a second, of the last ten whole seconds.

    Its time does not go back. What an earlier drain left is looked at once more as of then, with rates that go on until
    the kill: it counts in the last second of these.
    """

    def __init__(self) -> None:
        self._by_second: deque[tuple[int, float]] = deque()
        self._first: int | None = None

    @classmethod
    def of_state(cls, state: RateState) -> Rate:
        """Return what `state` had, of the same clock."""
        rate = cls()
        rate._first, rate._by_second = state["first"], deque(state["seconds"])
        return rate

    def state(self) -> RateState:
        """Return what has come, so that the next drain of this boot goes on with it."""
        return {"first": self._first, "seconds": list(self._by_second)}

    def add(self, amount: float, now_nano: int) -> None:
        """Count what came now."""
        second = self._turned_to(now_nano)
        self._first = second if self._first is None else self._first
        if self._by_second and self._by_second[-1][0] == second:
            amount += self._by_second.pop()[1]
        self._by_second.append((second, amount))

    def share(self, limit: float, now_nano: int) -> float:
        """Return which share of what comes is the limit, 0 to 1; 1 in the first second, of which nothing is known.

        Args:
            limit: a second.
            now_nano: the same for all of one second: what comes within it changes nothing.
        """
        second = self._turned_to(now_nano)
        while self._by_second and self._by_second[0][0] < second - _SECONDS:
            self._by_second.popleft()
        seconds = 0 if self._first is None else min(_SECONDS, second - self._first)
        came = sum(amount for at, amount in self._by_second if at < second)
        return 1.0 if came <= limit * seconds else limit * seconds / came

    def _turned_to(self, now_nano: int) -> int:
        second = now_nano // _SECOND
        return max(second, self._by_second[-1][0]) if self._by_second else second
