"""Rings that are looked at together: an idle ring costs a few loads in C, and nothing in Python."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from drain.rings.ring import Life
from ringbuf._ringbuf import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drain.rings.doorbell import Doorbell
    from drain.rings.ring import Ring


class Watch:
    """The rings of one moment: to be made anew when one comes, ends, or is set aside; none may be closed before that.

    Args:
        rings: of the reader; those that are set aside are not watched.
    """

    def __init__(self, rings: Iterable[Ring]) -> None:
        rings = list(rings)
        alive = [ring for ring in rings if ring.life is Life.ALIVE]
        self._rings = [*alive, *(ring for ring in rings if ring.life is Life.ENDING)]
        self._alive = len(alive)
        self._consumers: Any = ffi.new("rb_consumer *[]", [ring.consumer for ring in alive])
        self._found: Any = ffi.new("uint32_t[]", max(1, len(alive)))
        self._first = -1

    def with_news(self) -> list[Ring]:
        """Return the rings that `Ring.poll` has something to say about, and all whose end is awaited.

        Each time the one comes first that follows the last time's first: who is first must not always be.
        """
        found = lib.rb_scan(self._consumers, self._alive, self._found)
        places = [*self._found[0:found], *range(self._alive, len(self._rings))]
        start = bisect_right(places, self._first)
        places = places[start:] + places[:start]
        if places:
            self._first = places[0]
        return [self._rings[place] for place in places]

    def sleep(self, doorbell: Doorbell, value: int, nap: float, seconds: float) -> bool:
        """Return when there is news, the doorbell rings or a signal comes; False when the time is over before that.

        Producers are asked to ring at a quarter of a lap; rings in which less happens are looked at after each nap.

        Args:
            doorbell: on which to wait.
            value: it had before the last look at what it may have been rung for.
            nap: seconds.
            seconds: of the whole sleep.
        """
        nanos = int(seconds * 1e9)
        return bool(lib.rb_sleep(doorbell.pointer, value, self._consumers, self._alive, int(nap * 1e9), nanos))

    def gather(self, doorbell: Doorbell, value: int, seconds: float) -> None:
        """Let more records come, though some are there: return when the time is over, or as `sleep` for all else.

        A producer that comes to a quarter of a lap ends it: no lane is full before somebody looks.

        Args:
            doorbell: as `sleep`.
            value: the same.
            seconds: how long at most.
        """
        lib.rb_gather(doorbell.pointer, value, self._consumers, self._alive, int(seconds * 1e9))
