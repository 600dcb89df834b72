"""Where records lie that were moved within the hold: who has their place goes on using it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from drain.sampling.hold.chunk import SLOT_BITS

if TYPE_CHECKING:
    from collections.abc import Callable

_SHIFT = np.uint64(SLOT_BITS)


class Moved:
    """The moves of this process, by the use of the chunk out of which they were."""

    def __init__(self) -> None:
        self._by_serial: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def add(self, old: np.ndarray, new: np.ndarray) -> None:
        """Note that records of one chunk have other places now: u64, shape (n,), each."""
        serial = int(old[0] >> _SHIFT)
        if serial in self._by_serial:
            before_old, before_new = self._by_serial[serial]
            old, new = np.concatenate((before_old, old)), np.concatenate((before_new, new))
        order = np.argsort(old)
        self._by_serial[serial] = (old[order], new[order])

    def now(self, places: np.ndarray) -> np.ndarray:
        """Return where records are that had these places: u64, shape (n,)."""
        if not self._by_serial:
            return places
        now = places.copy()
        # A record goes to a chunk that was begun later each time: this ends.
        waiting = [int(serial) for serial in np.unique(now >> _SHIFT)]
        while waiting:
            serial = waiting.pop()
            if serial not in self._by_serial:
                continue
            old, new = self._by_serial[serial]
            mine = np.flatnonzero(now >> _SHIFT == serial)
            at = np.minimum(np.searchsorted(old, now[mine]), len(old) - 1)
            is_moved = old[at] == now[mine]
            now[mine[is_moved]] = new[at[is_moved]]
            waiting.extend(int(one) for one in np.unique(new[at[is_moved]] >> _SHIFT))
        return now

    def forget_settled(self, waits: Callable[[np.ndarray], bool]) -> None:
        """Forget the moves of which no record waits any more; `waits` says of places whether one does."""
        for serial in [serial for serial, (_, new) in self._by_serial.items() if not waits(self.now(new))]:
            del self._by_serial[serial]
