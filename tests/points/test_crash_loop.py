"""Producers that crash again and again while no drain runs: their rings are bounded, and a later drain takes all."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import ringbuf
from ringbuf.exceptions import RingCreateError
from tests.points.ledger import REFUSED, TRIED, WRITTEN, Ledger
from tests.points.observed import Observed
from tests.points.scene import audit_in, check_end, drain_arguments
from tests.points.victim import Victim
from tests.service.draining import until

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.nursery import Nursery
    from tests.points.receiver import Receiver

LIMIT = 100_000  # bytes


def test_a_crash_loop_without_a_drain_is_bounded_counted_and_drained_later(
    ring_dir: Path,
    tmp_path: Path,
    clean: Nursery,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RINGBUF_MAX_BYTES", str(LIMIT))
    crashed = 0
    while crash(crashed, ring_dir, tmp_path, clean):
        crashed += 1
        assert crashed < 100, "nothing bounds them"
    rings = list(ring_dir.iterdir())
    assert len(rings) == crashed > 3
    sizes = [path.stat().st_size for path in rings]
    assert sum(sizes) <= LIMIT < sum(sizes) + max(sizes)
    published, dropped = {}, {}
    for path in rings:
        service, ring = path.name.split("-")[0], Observed(path)
        ledger = Ledger(tmp_path / service)
        published[service], dropped[service] = ring.published, ring.dropped
        written, refused, tried = (len(ledger.numbers(fate)) for fate in (WRITTEN, REFUSED, TRIED))
        assert written <= ring.published <= written + tried
        assert refused <= ring.dropped <= refused + tried
        assert ring.published + ring.dropped <= written + refused + tried
        assert ring.dropped > 0, "a ring that nobody drains is full"

    late = late_emitter(ring_dir, monkeypatch)
    record = late.layout.empty(1)
    late.fill_ids(record)
    assert not late.emit(record[0])
    assert late.stats().local == 1

    drain_once(ring_dir, tmp_path, clean, receiver)
    services = audit_in(tmp_path / "drain.log")["services"]
    assert {service: sums["published"] for service, sums in services.items()} == published
    assert {service: sums["full"] + sums.get("unsampled", 0) for service, sums in services.items()} == dropped
    taken = receiver.so_far()
    assert {service: sum(numbers.values()) for service, numbers in taken.items()} == published
    assert {service: len(numbers) for service, numbers in taken.items()} == published
    Victim(ring_dir, Ledger(tmp_path / "next"), "next", 1).emitter.close()


def crash(at: int, ring_dir: Path, folder: Path, clean: Nursery) -> bool:
    """Let a producer fill its ring, and kill it; return False when it could have none."""
    ledger = Ledger(folder / f"victim{at}")
    log = folder / "victim.log"
    arguments = (ring_dir, folder / f"victim{at}", f"victim{at}", at)
    victim = clean.fork("hurried victim", *arguments, log=log, RINGBUF_MAX_BYTES=str(LIMIT), RINGBUF_REQUIRED="1")
    until(lambda: ledger.numbers(REFUSED) or victim.poll() is not None)
    if victim.poll() is not None:
        assert RingCreateError.__name__ in log.read_text()
        assert f"the limit is {LIMIT}" in log.read_text()
        return False
    os.kill(victim.pid, signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    return True


def late_emitter(ring_dir: Path, monkeypatch: pytest.MonkeyPatch) -> ringbuf.Emitter:
    """Return an emitter that makes its ring at its first span, as a forked child's does."""
    monkeypatch.setenv("RINGBUF_DIR", str(ring_dir))
    return ringbuf.Emitter.unopened()


def drain_once(ring_dir: Path, folder: Path, clean: Nursery, receiver: Receiver) -> None:
    state_dir = folder / "state"
    state_dir.mkdir(mode=0o700)
    arguments = drain_arguments(ring_dir, state_dir, receiver.url)
    drain = clean.fork("drain", *arguments, "--once", log=folder / "drain.log")
    check_end(drain)
    assert not list(ring_dir.glob("*.ring"))
