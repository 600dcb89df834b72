"""A second drain is started where one is at work, and the files that tell it so have been removed or changed."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from ringbuf._ringbuf import lib
from tests.points.ledger import TRIED, WRITTEN, Ledger
from tests.points.observed import Observed
from tests.points.scene import check_end, drain_arguments
from tests.points.victim import CAPACITY, Victim
from tests.service.draining import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.nursery import Child, Nursery
    from tests.points.receiver import Mood, Receiver

LOCKED = 75
ENDS = "another drain has this one's place: this one ends"


class Stage:
    """A ring directory, a producer, and the drains of the test, which are ended with it."""

    def __init__(self, ring_dir: Path, folder: Path, clean: Nursery, receiver: Receiver) -> None:
        self.rings = ring_dir / "rings"
        self.rings.mkdir(mode=0o700)  # the drain may be there before the producer, and ends where there is none
        self.folder = folder
        self.clean = clean
        self.receiver = receiver
        self.ledger = Ledger(folder / "ledger")
        self.drains: list[Child] = []
        self.first = self.start("first")
        self.victim = Victim(self.rings, self.ledger, "victim", 1)

    def start(self, name: str) -> Child:
        """Start a drain without a spool, whose lock would keep the second one out."""
        arguments = drain_arguments(self.rings, self.folder, self.receiver.url)
        for option in ("--state-dir", "--spool-after"):
            at = arguments.index(option)
            del arguments[at : at + 2]
        drain = self.clean.fork("drain", *arguments, log=self.folder / f"{name}.log")
        self.drains.append(drain)
        return drain

    def emit(self) -> None:
        self.victim.one()
        self.victim.batch(3)
        time.sleep(0.0005)

    def arrived(self) -> Counter[int]:
        return self.receiver.so_far().get("victim", Counter())

    def end(self) -> None:
        self.victim.emitter.close()
        for drain in self.drains:
            if drain.poll() is None:
                os.kill(drain.pid, signal.SIGKILL)
                drain.wait()


def events(drain: Child, name: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in drain.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


@pytest.fixture
def stage(ring_dir: Path, tmp_path: Path, clean: Nursery, receiver: Receiver) -> Iterator[Stage]:
    stage = Stage(ring_dir, tmp_path, clean, receiver)
    yield stage
    stage.end()


@pytest.mark.parametrize("mood", ["takes", "away at first"])
def test_a_second_drain_started_right_after_the_lock_was_removed_takes_nothing(stage: Stage, mood: Mood) -> None:
    until(lambda: len(stage.arrived()) > 20, stage.emit)
    stage.receiver.mood = mood
    (stage.rings / "drain.lock").unlink()
    second = stage.start("second")
    until(lambda: second.poll() is not None, stage.emit)
    assert second.code == LOCKED, second.log.read_text()
    # Its number is told where the first has made its lock anew by then.
    assert re.search(r"another drain (\(pid \d+\) )?serves", second.log.read_text())
    until((stage.rings / "drain.lock").exists, stage.emit)
    stage.victim.emitter.close()
    until(lambda: not list(stage.rings.glob("*.ring")))
    os.kill(stage.first.pid, signal.SIGTERM)
    check_end(stage.first)
    assert set(stage.arrived()) == stage.ledger.numbers(WRITTEN)
    assert set(stage.arrived().values()) == {1}
    assert not stage.ledger.numbers(TRIED)
    assert not list((stage.rings / "quarantine").iterdir())


def test_a_drain_whose_lock_is_another_s_ends_and_leaves_the_rings_as_they_are(stage: Stage) -> None:
    """As a drain sees a second one where the directory itself cannot be locked."""
    until(lambda: len(stage.arrived()) > 20, stage.emit)
    stage.receiver.mood = "away"
    (path,) = stage.rings.glob("*.ring")
    ring = Observed(path)
    until(lambda: ring.pending == CAPACITY, stage.emit)
    with (stage.rings / "other").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        (stage.rings / "other").rename(stage.rings / "drain.lock")
        until(lambda: stage.first.poll() is not None, stage.emit)
        assert stage.first.code == LOCKED, stage.first.log.read_text()
        until(lambda: ring.pending == CAPACITY, stage.emit)  # it may have released what was taken before its end
        assert ring.lanes[0].consumer_state == lib.RB_CONSUMER_ATTACHED
        assert (ring.pending, ring.surplus) == (CAPACITY, 0)
        assert ring.unreleased() | set(stage.arrived()) == stage.ledger.numbers(WRITTEN)
        assert path.exists()
    (told,) = events(stage.first, ENDS)
    assert told["level"] == "error"
    assert told["do"]
    stage.receiver.mood = "takes"
    second = stage.start("second")
    until(lambda: set(stage.arrived()) >= stage.ledger.numbers(WRITTEN), stage.emit)
    stage.victim.emitter.close()
    until(lambda: not list(stage.rings.glob("*.ring")))
    os.kill(second.pid, signal.SIGTERM)
    check_end(second)
    assert set(stage.arrived()) == stage.ledger.numbers(WRITTEN)


def test_a_drain_whose_directory_s_successor_is_another_s_reads_its_rings_to_the_end(stage: Stage) -> None:
    until(lambda: len(stage.arrived()) > 20, stage.emit)
    old = Observed(next(stage.rings.glob("*.ring")))
    os.kill(stage.first.pid, signal.SIGSTOP)  # else it might be the first in the new directory
    stage.victim.batch(CAPACITY)
    stage.rings.rename(stage.rings.with_name("old"))
    stage.rings.mkdir(mode=0o700)
    second = stage.start("second")
    until(lambda: second.poll() is not None or (stage.rings / "doorbell").exists())
    os.kill(stage.first.pid, signal.SIGCONT)
    until(lambda: stage.first.poll() is not None, stage.emit)
    assert stage.first.code == LOCKED, stage.first.log.read_text()
    assert len(events(stage.first, ENDS)) == 1
    assert old.lanes[0].consumer_state == lib.RB_CONSUMER_DETACHED
    assert old.pending == 0
    stage.victim.emitter.close()
    until(lambda: not list(stage.rings.glob("*.ring")))
    os.kill(second.pid, signal.SIGTERM)
    check_end(second)
    assert set(stage.arrived()) == stage.ledger.numbers(WRITTEN)
    assert set(stage.arrived().values()) == {1}
