"""A drain's life with the hold, as far as the hold sees it: a random walk, and what must be found after a kill.

A ring has one lane here, whose records are numbered by their positions. What was done is written down in a ledger that
outlives the kill: before each step what is about to be done, after it that it is.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog

from drain.accounting.outcome import Outcome
from drain.sampling.hold.chunk import Fate, RingKey
from drain.sampling.hold.hold import Hold, HoldFullError
from tests.points.victim import LAYOUT, check_of

RING: Final = RingKey(17, 1_700_000_000_000_000_000)
LANE: Final = 3
RESOURCE: Final = b'{"service.name": "walker"}'
CHUNK_BYTES: Final = 65536
CAPACITY_BYTES: Final = 5 * CHUNK_BYTES
_FATES: Final = [Fate.DELIVERED, Fate.SPOOLED, Fate.REJECTED, Fate.DEAD_LETTERED, Fate.SAMPLED_OUT, Fate.INVALID]
_MOST: Final = 60  # records of a look
_LAGGARDS: Final = 9  # one of so many outlives its neighbours, so that it is moved


class Ledger:
    """Lines in a file: also of a process that is killed between two of them nothing is lost."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.path = path

    def note(self, **line: Any) -> None:
        os.write(self._fd, json.dumps(line).encode() + b"\n")

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def close(self) -> None:
        os.close(self._fd)


def opened(folder: Path) -> Hold:
    return Hold(folder, CAPACITY_BYTES, chunk_bytes=CHUNK_BYTES, log=structlog.get_logger())


def records_of(first: int, count: int) -> np.ndarray:
    """Return records that say their number eleven times."""
    made = np.zeros(count, LAYOUT.dtype)
    made["number"] = np.arange(first, first + count)
    for key in LAYOUT.dtype.names or ():
        if key.startswith("check"):
            made[key] = [check_of(number) for number in range(first, first + count)]
    return made


def places_by_number(hold: Hold, places: np.ndarray) -> dict[int, int]:
    """Return the place of each number that lies at one of these places; each record is whole."""
    found: dict[int, int] = {}
    for group in hold.records(places):
        assert group.origin.service == "walker"
        assert group.origin.layout == LAYOUT
        for place, record in zip(group.places.tolist(), group.records, strict=True):
            number = int(record["number"])
            assert number not in found, f"{number} is held twice"
            assert (record == records_of(number, 1)[0]).all(), f"{number} is torn"
            found[number] = place
    return found


class Walker:
    """A drain with a hold.

    Args:
        folder: of the hold.
        ledger: of this and earlier ones.
        dice: what it does.

    Attributes:
        waiting: the place of each number that waits.
        head: of the lane, as the ring has it.
    """

    def __init__(self, folder: Path, ledger: Ledger, dice: random.Random) -> None:
        self.ledger = ledger
        self.dice = dice
        self.hold = opened(folder)
        self.origin = self.hold.origin(LAYOUT.to_json(), RESOURCE, 7)
        self.waiting: dict[int, int] = {}
        self.head = 0
        self.check_what_is_found()

    def check_what_is_found(self) -> None:
        """Compare what the hold has with what the ledger says: nothing is lost, nothing held twice, no look torn."""
        expected: set[int] = set()
        decided: set[int] = set()
        maybe: set[int] = set()
        look: tuple[int, int] | None = None
        for line in self.ledger.lines():
            match line["did"]:
                case "look":
                    look = (line["start"], line["upto"])
                case "released":
                    expected |= set(range(self.head, line["upto"])) - set(line["unheld"])
                    self.head, look = line["upto"], None
                case "settle":
                    maybe = set(line["numbers"])
                case "settled":
                    expected -= maybe
                    decided |= maybe
                    maybe = set()
                case "restarted":
                    expected, maybe, look = set(line["waiting"]), set(), None
                case _:
                    raise AssertionError(line)
        in_all = [place for found in self.hold.found for place in found.places.tolist()]
        found = places_by_number(self.hold, np.array(in_all, np.uint64))
        assert len(found) == len(in_all)
        assert decided <= set(self.hold.decisions.found[:, 0].tolist()), "settled without a decision on record"
        ahead = {number for number in found if number >= self.head}
        if look is not None and ahead:
            assert ahead == set(range(*look)), "a look is torn"
            assert self.hold.unreleased.end_of(RING, LANE, self.head, self.head + 1000) == Outcome(spooled=len(ahead))
            self.release(look[1], [])
        else:
            assert not ahead
            assert self.hold.unreleased.end_of(RING, LANE, self.head, self.head + 1000) is None
        self.hold.unreleased.released(RING, LANE)
        lost = expected - set(found) - maybe
        assert not lost, f"lost: {sorted(lost)}"
        assert set(found) - ahead <= expected, "settled, and waits again"
        self.waiting = found
        self.ledger.note(did="restarted", waiting=sorted(found))

    def walk(self, steps: int) -> None:
        for _ in range(steps):
            step = self.dice.choices([self.look, self.settle, self.read, self.tend], [6, 6, 1, 1])[0]
            step()
            sums = self.hold.sums().get("walker")
            if sums is not None:
                assert sums.unaccounted == 0
                assert sums.waiting == len(self.waiting)
                assert self.hold.waiting_bytes(RING) == len(self.waiting) * LAYOUT.slot_bytes

    def look(self) -> None:
        count = self.dice.randint(1, _MOST)
        self.ledger.note(did="look", start=self.head, upto=self.head + count)
        try:
            first = self.hold.append(
                self.origin, RING, LANE, self.head, self.head + count, records_of(self.head, count)
            )
        except HoldFullError:
            quick = [number for number in self.waiting if number % _LAGGARDS]
            self.settle_some(quick or list(self.waiting))
            return
        self.waiting |= {self.head + at: first + at for at in range(count)}
        self.release(self.head + count, [])
        self.hold.unreleased.released(RING, LANE)

    def release(self, upto: int, unheld: list[int]) -> None:
        self.ledger.note(did="released", upto=upto, unheld=unheld)
        self.head = upto

    def settle(self) -> None:
        share = self.dice.choice([0.1, 0.9, 1.0])
        self.settle_some([n for n in self.waiting if self.dice.random() < (share if n % _LAGGARDS else 0.01)])

    def settle_some(self, numbers: list[int]) -> None:
        if not numbers:
            return
        fate = self.dice.choice(_FATES)
        self.hold.decisions.append(np.array([[number, fate] for number in numbers], np.uint64))
        self.ledger.note(did="settle", numbers=numbers)
        self.hold.settle(np.array([self.waiting[number] for number in numbers], np.uint64), fate)
        self.ledger.note(did="settled")
        for number in numbers:
            del self.waiting[number]

    def read(self) -> None:
        numbers = self.dice.sample(sorted(self.waiting), min(len(self.waiting), 50))
        places = np.array([self.waiting[number] for number in numbers], np.uint64)
        assert places_by_number(self.hold, places) == {number: self.waiting[number] for number in numbers}

    def tend(self) -> None:
        assert self.hold.tend()


def live(folder: str, ledger: str, seed: str, steps: str) -> None:
    """Go on where the last drain was killed: what the process does that is to be killed at a point."""
    Walker(Path(folder), Ledger(Path(ledger)), random.Random(seed)).walk(int(steps))  # noqa: S311 - a seed is wanted
