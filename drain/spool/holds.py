"""Which spooled batches somebody has in hand."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Holds:
    """The batches that `take` must not give out; any thread may use it.

    Args:
        clock: seconds that never go back.

    Attributes:
        generation: of the database; the ids of an earlier one mean nothing any more.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until: dict[int, float] = {}
        self.generation = 0

    def hold(self, identity: int) -> None:
        """Hold a batch until it is let go."""
        with self._lock:
            self._until[identity] = math.inf

    def let_go(self, identities: Iterable[int]) -> None:
        """Let batches be taken, or forget those that are gone."""
        with self._lock:
            for identity in identities:
                self._until.pop(identity, None)

    def rest(self, identity: int, generation: int, not_before: float) -> None:
        """Let a batch be taken from a time of the clock on."""
        with self._lock:
            if generation != self.generation:
                return
            if not_before > self._clock():
                self._until[identity] = not_before
            else:
                self._until.pop(identity, None)

    def end_rests(self) -> None:
        """Let all be taken now that nobody has in hand."""
        with self._lock:
            self._until = {identity: until for identity, until in self._until.items() if math.isinf(until)}

    def held(self) -> set[int]:
        """Return the batches that cannot be taken now."""
        now = self._clock()
        with self._lock:
            if not all(until > now for until in self._until.values()):
                self._until = {identity: until for identity, until in self._until.items() if until > now}
            return set(self._until)

    def earliest(self) -> float:
        """Return when the first of the resting batches can be taken, on the clock; infinity where none rests."""
        with self._lock:
            return min(self._until.values(), default=math.inf)

    def begin_generation(self) -> None:
        """Forget everything: the database is a new one."""
        with self._lock:
            self.generation += 1
            self._until.clear()
