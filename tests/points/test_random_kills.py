"""Producers killed at any instant, by the hundred, beside one drain: what each had published arrives, and once."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.points.ledger import REFUSED, TRIED, WRITTEN, Ledger
from tests.points.scene import audit_in, check_end, drain_arguments
from tests.points.test_points import SEED
from tests.service.draining import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.nursery import Child, Nursery
    from tests.points.receiver import Receiver

pytestmark = pytest.mark.prove


def kill_many(kills: int, seed: object, ring_dir: Path, folder: Path, clean: Nursery, receiver: Receiver) -> int:
    """Kill so many producers one after the other; return how many had published something."""
    print(f"RINGBUF_TEST_SEED={SEED}")  # noqa: T201 - shown when the test fails
    dice = random.Random(f"{SEED} {seed}")  # noqa: S311 - a seed is what is wanted
    state_dir = folder / "state"
    state_dir.mkdir(mode=0o700)
    log = folder / "drain.log"
    drain = clean.fork("drain", *drain_arguments(ring_dir, state_dir, receiver.url), log=log)
    longest_life = 3 * time_to_first_span(ring_dir, folder / "first", clean)
    try:
        for at in range(kills):
            victim = start(ring_dir, folder / f"victim-{at}", clean, dice.getrandbits(32))
            time.sleep(dice.uniform(0, longest_life))
            kill(victim)
            # About a third of the kills shall come before the first span, whatever else this machine has to do.
            longest_life *= 0.95 if has_published(folder / f"victim-{at}") else 1.1
        until(lambda: not list(ring_dir.glob("*.ring")))
        os.kill(drain.pid, signal.SIGTERM)
        check_end(drain)
        audit = audit_in(log)
        # What is in the spool when a drain stops is for the next one.
        drain = clean.fork("drain", *drain_arguments(ring_dir, state_dir, receiver.url), "--once", log=log)
        check_end(drain)
    finally:
        if drain.poll() is None:
            os.kill(drain.pid, signal.SIGKILL)
            drain.wait()
    assert not receiver.faults, receiver.faults
    assert audit["adds_up"], audit
    taken = receiver.so_far()
    for service in (*(f"victim-{at}" for at in range(kills)), "first"):
        check(folder / service, audit["services"].get(service, {}), taken.get(service, Counter()))
    assert not [path.name for path in ring_dir.iterdir() if path.name not in {"drain.lock", "doorbell", "quarantine"}]
    assert not list((ring_dir / "quarantine").iterdir())
    return len(taken) - 1


def start(ring_dir: Path, ledger_path: Path, clean: Nursery, seed: int) -> Child:
    log = ledger_path.with_name("victim.log")
    return clean.fork("hurried victim", ring_dir, ledger_path, ledger_path.name, seed, log=log)


def kill(victim: Child) -> None:
    os.kill(victim.pid, signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL, victim.log.read_text()


def time_to_first_span(ring_dir: Path, ledger_path: Path, clean: Nursery) -> float:
    ledger = Ledger(ledger_path)
    begun = time.monotonic()
    victim = start(ring_dir, ledger_path, clean, 0)
    until(lambda: ledger.fates[0] == WRITTEN)
    taken = time.monotonic() - begun
    kill(victim)
    return taken


def has_published(ledger_path: Path) -> bool:
    return ledger_path.exists() and bool(Ledger(ledger_path).numbers(WRITTEN))


def check(ledger_path: Path, sums: dict[str, int], taken: Counter[int]) -> None:
    """Check the law of one producer."""
    if not ledger_path.exists():
        assert not sums.get("published")
        return
    ledger = Ledger(ledger_path)
    written, refused, tried = ledger.numbers(WRITTEN), ledger.numbers(REFUSED), ledger.numbers(TRIED)
    assert written <= set(taken) <= written | tried
    assert set(taken.values()) <= {1}, "sent twice"
    assert len(taken) == sums.get("published", 0)
    dropped = sum(sums.get(name, 0) for name in ("full", "contended", "unsampled"))
    assert len(refused) <= dropped <= len(refused | tried)
    assert len(taken) + dropped <= len(written | refused | tried)
    ledger_path.unlink()


def test_hundreds_of_producers_killed_at_any_instant_lose_nothing(
    ring_dir: Path, tmp_path: Path, clean: Nursery, receiver: Receiver
) -> None:
    emitted = kill_many(200, 0, ring_dir, tmp_path, clean, receiver)
    assert 40 < emitted < 200, "the kills came too early or too late to show much"


@pytest.mark.soak
@pytest.mark.parametrize("at", range(10))
def test_thousands_of_producers_killed_at_any_instant_lose_nothing(
    at: int, ring_dir: Path, tmp_path: Path, clean: Nursery, receiver: Receiver
) -> None:
    assert kill_many(900, at, ring_dir, tmp_path, clean, receiver) > 180
