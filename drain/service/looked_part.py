"""What rules decided of a look's records: which are to be held, where they wait, and what is delivered at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from drain.sampling.traces import NOWHERE, Fates
from drain.service.held_batches import AS_THEY_ARE
from ringbuf._ringbuf import lib

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drain.sampling.traces import Looked
    from drain.service.held_batches import HeldBatches
    from drain.service.rules_in_effect import RulesInEffect

NO_PLACE: Final = 2**64 - 1
"""In the place of a record's: nothing is to be said in the hold of what becomes of it."""


class Part(NamedTuple):
    """Records of a look that the same rules have looked at.

    Attributes:
        by: these.
        looked: what they decided of each.
        held: u4, the numbers of those that are to be held.
        at: which numbers they have among all records of the look; None: they are all.
    """

    by: RulesInEffect
    looked: Looked
    held: np.ndarray
    at: np.ndarray | None = None

    @property
    def held_of_all(self) -> np.ndarray:
        """The numbers of those that are to be held, among all records of the look."""
        numbers: np.ndarray = self.held if self.at is None else self.at[self.held]
        return numbers

    @property
    def for_themselves(self) -> np.ndarray:
        """The numbers of late spans that are kept for themselves, among all records of the look."""
        held = self.looked.held
        numbers: np.ndarray = held[(self.looked.fates.bits[held] & lib.RB_FATE_ITSELF) != 0]
        if self.at is not None:
            numbers = self.at[numbers]
        return numbers

    def place(self, places: np.ndarray, batches: HeldBatches) -> None:
        """Let what is held wait at these places, u8, shape (n,), or be delivered."""
        looked, kept, names = self.looked, self.held, AS_THEY_ARE
        if self.by.are_dry:
            self.place_nowhere()
        else:
            names = self.by.names
            if looked.kept < len(kept):  # the others wait
                self.by.traces.place(looked, places)
                if not looked.kept:
                    return
                at_once = np.flatnonzero(looked.spans[kept] == NOWHERE)
                kept, places = kept[at_once], places[at_once]
        batches.add(places, Fates(*(array[kept] for array in looked.fates)), names)

    def place_nowhere(self) -> None:
        """Let what waits have no place: nothing is to be said in the hold of what becomes of it."""
        self.by.traces.place(self.looked, np.full(len(self.looked.held), NO_PLACE, np.uint64))


def kept_for_themselves(parts: Iterable[Part], records: np.ndarray) -> np.ndarray:
    """Return the ids of the spans that are kept for themselves: u8."""
    numbers = [part.for_themselves for part in parts if part.looked.for_themselves and not part.by.are_dry]
    return np.concatenate([np.empty(0, np.uint64), *(span_ids(records[which]) for which in numbers)])


def span_ids(records: np.ndarray) -> np.ndarray:
    """Return the ids of spans: u8."""
    ids: np.ndarray = np.ascontiguousarray(records["span_id"]).view(np.uint64).reshape(-1)
    return ids


def merged(numbers: Iterable[np.ndarray]) -> np.ndarray:
    """Return numbers of records in their order: u4."""
    return np.sort(np.concatenate([*numbers])).astype(np.uint32)


def some_of(records: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Return some records, copied as bytes: numpy copies a record field by field."""
    if which.all():
        return records
    raw = np.ascontiguousarray(records).view(np.uint8).reshape(len(records), -1)
    some: np.ndarray = raw[which].view(records.dtype).reshape(-1)
    return some
