"""The producer that is killed: passes every step of a producer's life, and writes down what each call returned."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

import ringbuf
from ringbuf.layout.layout import Attribute, SpanLayout
from tests.points.ledger import MOST, REFUSED, TRIED, WRITTEN, Ledger
from tests.waiting import until

LAYOUT: Final = SpanLayout(
    span_names=["work"],
    # Two lines of cache and more: a record can be half written.
    attributes=[
        Attribute("number", "u64"),
        *(Attribute(f"check{at}", "u64") for at in range(10)),
    ],
    scope_name="points",
)
CAPACITY: Final = 16
SECONDS: Final = 120.0
_SINGLES: Final = 24
_BATCH: Final = 5
_BURSTS: Final = 50  # at most: the drain would have to be faster than that each time
_DROPS: Final = 3
_SAMPLED, _UNSAMPLED = 0x101, 0x100
_PRESENT: Final = (1 << len(LAYOUT.attributes)) - 1


def check_of(number: int) -> int:
    """Return what all attributes but the number say."""
    return number * 7 + 3


def records_of(emitter: ringbuf.Emitter, first: int, count: int) -> np.ndarray[Any, np.dtype[np.void]]:
    """Return whole, sampled records of some numbers, made of zeros else."""
    made = np.zeros(count, LAYOUT.dtype)
    numbers = np.arange(first, first + count, dtype="u8")
    made["number"] = made["start_unix_nano"] = made["end_unix_nano"] = numbers
    for key in LAYOUT.dtype.names or ():
        if key.startswith("check"):
            made[key] = [check_of(number) for number in range(first, first + count)]
    made["present"] = _PRESENT
    made["flags"] = _SAMPLED
    emitter.fill_ids(made)
    return made


class Victim:
    """An emitter and the ledger of its attempts."""

    def __init__(self, ring_dir: Path, ledger: Ledger, service: str, lanes: int) -> None:
        self.ledger = ledger
        self.emitter = ringbuf.Emitter(service, ring_dir=ring_dir, layout=LAYOUT, capacity=CAPACITY, lanes=lanes)
        self.number = 0

    def one(self, *, flags: int = _SAMPLED) -> bool:
        """Emit the next number."""
        record = records_of(self.emitter, self.number, 1)
        record["flags"] = flags
        return self._emit(record[0])

    def burst(self) -> int:
        """Emit as fast as can be what two lanes do not hold; return how many were refused."""
        return sum(not self._emit(record) for record in records_of(self.emitter, self.number, 4 * CAPACITY))

    def _emit(self, record: np.void) -> bool:
        assert self.number < MOST
        self.ledger.fates[self.number] = TRIED
        is_written = self.emitter.emit(record)
        self.ledger.fates[self.number] = WRITTEN if is_written else REFUSED
        self.number += 1
        return is_written

    def batch(self, count: int, *unsampled: int) -> None:
        """Emit the next numbers at once."""
        records = records_of(self.emitter, self.number, count)
        records["flags"][list(unsampled)] = _UNSAMPLED
        fates = self.ledger.fates[self.number : self.number + count]
        fates[:] = TRIED
        taken = self.emitter.emit_batch(records)
        fates[:taken] = WRITTEN
        fates[taken:] = REFUSED
        fates[[at for at in unsampled if at < taken]] = REFUSED
        self.number += count

    def one_round(self) -> None:
        """Pass every step of emitting at least once, as long as somebody drains."""
        for at in range(_SINGLES):
            self.one(flags=_UNSAMPLED if at % 10 == 9 else _SAMPLED)
            time.sleep(0.001)
        for _ in range(_BURSTS):
            if self.burst() >= _DROPS:
                break
        for _ in range(4):
            time.sleep(0.004)
            self.batch(_BATCH)
            self.batch(_BATCH + 2, 1, 4)
        self.batch(CAPACITY * 3)


def run(ring_dir: str, ledger_path: str, service: str, lanes: str, rounds: str) -> None:
    """Live to the end, which only the one sees whom nobody kills.

    Args:
        ring_dir: where.
        ledger_path: of the ledger's file.
        service: the ring's.
        lanes: how many.
        rounds: after which the emitter is closed; 0: go on until killed.
    """
    ledger = Ledger(Path(ledger_path))
    victim = Victim(Path(ring_dir), ledger, service, int(lanes))
    ledger.has_ring = True
    until(lambda: ledger.may_go)
    end = time.monotonic() + SECONDS
    done = 0
    while time.monotonic() < end and (done < int(rounds) or int(rounds) == 0):
        victim.one_round()
        done += 1
    victim.emitter.close()


def hurry(ring_dir: str, ledger_path: str, service: str, seed: str) -> None:
    """Emit without a pause until somebody ends it, one by one and in batches as the seed has it."""
    dice = random.Random(int(seed))  # noqa: S311 - a seed is what is wanted
    ledger = Ledger(Path(ledger_path))
    victim = Victim(Path(ring_dir), ledger, service, dice.choice([1, 2]))
    ledger.has_ring = True
    while victim.number < MOST - CAPACITY:
        if dice.random() < 0.9:
            victim.one()
        else:
            victim.batch(dice.randint(1, CAPACITY))
    time.sleep(SECONDS)
