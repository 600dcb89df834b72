"""Which parts in the spool somebody has in hand."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from drain.spool.database import Stored


class Holds:
    """The parts that `take` must not give out; any thread may use it.

    Args:
        clock: seconds that never go back.

    Attributes:
        generation: of the database; the ids of an earlier one mean nothing any more.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until: dict[str, dict[int, float]] = {}  # by destination and id
        self.generation = 0

    def hold(self, stored: Stored) -> None:
        """Hold a part until it is let go."""
        with self._lock:
            self._until.setdefault(stored.destination, {})[stored.id] = math.inf

    def let_go(self, parts: Iterable[Stored]) -> None:
        """Let parts be taken, or forget those that are gone."""
        with self._lock:
            for stored in parts:
                self._forget(stored)

    def rest(self, stored: Stored, generation: int, not_before: float) -> None:
        """Let a part be taken from a time of the clock on."""
        with self._lock:
            if generation != self.generation:
                return
            if not_before > self._clock():
                self._until.setdefault(stored.destination, {})[stored.id] = not_before
            else:
                self._forget(stored)

    def end_rests(self) -> None:
        """Let all be taken now that nobody has in hand."""
        with self._lock:
            for destination, until in tuple(self._until.items()):
                self._keep(destination, {identity: at for identity, at in until.items() if math.isinf(at)})

    def held(self, destination: str | None = None, *, even_resting: bool = False) -> set[int]:
        """Return the parts that cannot be taken now.

        Args:
            destination: of those that are for this one; None: of all.
            even_resting: without those that rest: in hand alone.
        """
        now = self._clock()
        with self._lock:
            held: set[int] = set()
            for name in (destination,) if destination is not None else tuple(self._until):
                until = self._until.get(name, {})
                if even_resting:
                    held.update(identity for identity, at in until.items() if math.isinf(at))
                    continue
                if not all(at > now for at in until.values()):
                    until = {identity: at for identity, at in until.items() if at > now}
                    self._keep(name, until)
                held |= until.keys()
            return held

    def earliest(self, destination: str) -> float:
        """Return when the first of those that rest can be taken, on the clock; infinity where none rests."""
        with self._lock:
            return min(self._until.get(destination, {}).values(), default=math.inf)

    def begin_generation(self) -> None:
        """Forget everything: the database is a new one."""
        with self._lock:
            self.generation += 1
            self._until.clear()

    def _forget(self, stored: Stored) -> None:
        until = self._until.get(stored.destination, {})
        until.pop(stored.id, None)
        self._keep(stored.destination, until)

    def _keep(self, destination: str, until: dict[int, float]) -> None:
        """Have these parts of a destination; addresses come and go, and of those that have gone nothing stays."""
        if until:
            self._until[destination] = until
        else:
            self._until.pop(destination, None)
