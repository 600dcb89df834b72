"""Whose held records are, and what became of them: counted where they are settled, a row for each service and ring."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from drain.accounting.hold_sums import HoldSums
from drain.sampling.hold.chunk import Fate
from ringbuf._ringbuf import lib

if TYPE_CHECKING:
    from drain.sampling.hold.chunk import RingKey
    from drain.sampling.hold.origins import Origin

_FIRST_ROOM: Final = 16
_COUNTED: Final = [fate for fate in Fate if fate not in {Fate.WAITING, Fate.MOVED}]


class _Owner(NamedTuple):
    origin: Origin
    ring: RingKey


class Owners:
    """The rows of those of whom records wait, and the sums of all.

    Attributes:
        counts: u64, shape (n, RB_HELDS): by owner and `Fate`, since the owner has this row.
    """

    def __init__(self) -> None:
        self.counts = np.zeros((_FIRST_ROOM, lib.RB_HELDS), np.uint64)
        self._numbers: dict[_Owner, int] = {}
        self._owners: dict[int, _Owner] = {}
        self._of_ring: defaultdict[RingKey, set[int]] = defaultdict(set)
        self._free = [*range(_FIRST_ROOM)]
        self._sums: defaultdict[str, HoldSums] = defaultdict(HoldSums)

    def number(self, origin: Origin, ring: RingKey) -> int:
        """Return the row of those whose records are held now, which is theirs as long as one of these waits."""
        owner = _Owner(origin, ring)
        if owner not in self._numbers:
            if not self._free:
                self._free = [*range(len(self.counts), 2 * len(self.counts))]
                self.counts = np.concatenate((self.counts, np.zeros_like(self.counts)))
            number = self._numbers[owner] = self._free.pop()
            self._owners[number] = owner
            self._of_ring[ring].add(number)
        return self._numbers[owner]

    def origin(self, number: int) -> Origin:
        """Return the origin of those who have a row."""
        return self._owners[number].origin

    def hold(self, owner: int, count: int) -> None:
        """Count records that came out of a ring."""
        self._sums[self.origin(owner).service].held += count
        self.counts[owner, Fate.WAITING] += np.uint64(count)

    def take_up(self, owner: int, count: int) -> None:
        """Count records that waited when the drain began."""
        self._sums[self.origin(owner).service].taken_up += count
        self.counts[owner, Fate.WAITING] += np.uint64(count)

    def lose(self, service: str, count: int) -> None:
        """Count records that waited when the drain began, and cannot be read."""
        self._sums[service].taken_up += count
        self._sums[service].lost += count

    def refuse(self, service: str, count: int) -> None:
        """Count records that waited when the drain began, and are not to be handled."""
        self._sums[service].taken_up += count
        self._sums[service].invalid += count

    def sums(self) -> dict[str, HoldSums]:
        """Return what became of the held spans of each service."""
        sums = {service: replace(of_it) for service, of_it in self._sums.items()}
        for owner, number in self._numbers.items():
            _add(sums[owner.origin.service], self.counts[number])
        return sums

    def waiting_bytes(self, ring: RingKey) -> int:
        """Return how many bytes of a ring's records wait."""
        return sum(
            self.origin(number).layout.slot_bytes * int(self.counts[number, Fate.WAITING])
            for number in self._of_ring.get(ring, ())
        )

    def forget_idle(self) -> None:
        """Let the rows go of those of whom nothing waits; what became of theirs is in the sums."""
        for owner, number in [*self._numbers.items()]:
            if not self.counts[number, Fate.WAITING]:
                _add(self._sums[owner.origin.service], self.counts[number])
                self.counts[number] = 0
                del self._numbers[owner], self._owners[number]
                self._of_ring[owner.ring].discard(number)
                if not self._of_ring[owner.ring]:
                    del self._of_ring[owner.ring]
                self._free.append(number)


def _add(sums: HoldSums, counts: np.ndarray) -> None:
    sums.waiting += int(counts[Fate.WAITING])
    for fate in _COUNTED:
        name = fate.name.lower()
        setattr(sums, name, getattr(sums, name) + int(counts[fate]))
