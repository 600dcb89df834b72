"""Somebody removes what drain and producer share while both live: rings, all files, or the whole directory."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.points.ledger import REFUSED, TRIED, WRITTEN, Ledger
from tests.points.scene import audit_in, check_end, drain_arguments
from tests.points.victim import Victim
from tests.sampled import every
from tests.service.draining import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.nursery import Nursery
    from tests.points.receiver import Receiver


def remove_rings(ring_dir: Path) -> None:
    for path in ring_dir.glob("*.ring"):
        path.unlink()


def remove_files(ring_dir: Path) -> None:
    """Remove all that is in the directory, by name."""
    for path in ring_dir.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)  # the drain lets go of some itself


def remove_quarantine(ring_dir: Path) -> None:
    shutil.rmtree(ring_dir / "quarantine")


def remove_directory(ring_dir: Path) -> None:
    def is_removed() -> bool:
        with contextlib.suppress(OSError):  # the drain has made a file anew, or let go of one, in the middle of it
            shutil.rmtree(ring_dir)
            return True
        return False

    until(is_removed)


def move_directory(ring_dir: Path) -> None:
    ring_dir.rename(ring_dir.with_name("moved"))


# systemd-logind does the third at the logout of a user with RemoveIPC=yes: files first, then the folders.
WAYS: dict[str, Callable[[Path], None]] = {
    "rings": remove_rings,
    "files": remove_files,
    "lock": lambda ring_dir: (ring_dir / "drain.lock").unlink(),
    "doorbell": lambda ring_dir: (ring_dir / "doorbell").unlink(),
    "quarantine": remove_quarantine,
    "directory": remove_directory,
    "moved": move_directory,
}
# By turns, since the first of two runs in `make test`.
EACH_AND_HOW_IT_IS_FOUND = [
    (way, finds_by) for at, way in enumerate(WAYS) for finds_by in sorted(("emitting", "looking"), reverse=at % 2 == 1)
]


@pytest.mark.parametrize(("way", "finds_by"), every(2, EACH_AND_HOW_IT_IS_FOUND, " by ".join))
def test_what_was_published_before_and_after_a_removal_arrives_once(
    way: str, finds_by: str, ring_dir: Path, tmp_path: Path, clean: Nursery, receiver: Receiver
) -> None:
    shared = ring_dir / "shared"
    shared.mkdir(mode=0o700)  # the drain may be there before the producer, and ends where there is none
    state_dir = tmp_path / "state"
    state_dir.mkdir(mode=0o700)
    arguments = drain_arguments(shared, state_dir, receiver.url)
    drain = clean.fork("drain", *arguments, log=tmp_path / "drain.log")
    ledger = Ledger(tmp_path / "ledger")
    victim = Victim(shared, ledger, "victim", 1)

    def emit() -> None:
        victim.one()
        if finds_by == "looking":
            victim.emitter.stats()
        time.sleep(0.001)

    def arrived() -> set[int]:
        return set(receiver.so_far().get("victim", ()))

    try:
        until(lambda: len(arrived()) > 20, emit)
        victim.batch(4)
        WAYS[way](shared)
        until(lambda: list(shared.glob("victim-*.ring")), emit)
        renewed_at = victim.number
        until(lambda: max(arrived(), default=0) > renewed_at, emit)
        until(lambda: all((shared / name).exists() for name in ("drain.lock", "doorbell", "quarantine")))
        second = clean.fork("drain", *arguments, log=tmp_path / "second.log")
        assert second.wait() == 75, "another drain is let in"
        stats = victim.emitter.stats()
        victim.emitter.close()
        until(lambda: not list(shared.glob("*.ring")))
        # What is in the spool when a drain stops is for the next one.
        until(lambda: arrived() >= ledger.numbers(WRITTEN))
        os.kill(drain.pid, signal.SIGTERM)
        check_end(drain)
    finally:
        victim.emitter.close()
        if drain.poll() is None:
            os.kill(drain.pid, signal.SIGKILL)
            drain.wait()
    taken = receiver.so_far()["victim"]
    assert not receiver.faults
    assert set(taken) == ledger.numbers(WRITTEN)
    assert set(taken.values()) == {1}
    assert not ledger.numbers(TRIED)
    assert stats.published == len(taken)
    assert stats.attempts == len(taken) + len(ledger.numbers(REFUSED))
    audit = audit_in(drain.log)
    assert audit["adds_up"]
    sums = audit["services"]["victim"]
    assert sums.get("delivered", 0) + sums.get("spooled", 0) == sums["published"] == len(taken)
    assert not list((shared / "quarantine").iterdir())
