"""A spool whose process is killed at any moment keeps every batch that was durable, and its law."""

from __future__ import annotations

import random
import secrets
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from drain.spool import spool as spool_module
from drain.spool.spool import Spool, SpoolLimits
from tests.process.spooling import SPANS, body_of

ROUNDS = 15
SECONDS = 120.0


@pytest.fixture(autouse=True)
def _disk_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "_TAKE_SECONDS", SECONDS)


@pytest.mark.prove
def test_a_kill_at_any_moment_loses_nothing_durable_and_keeps_the_law(tmp_path: Path) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    rng = random.Random(seed)  # noqa: S311 - moments, no secret
    folder = tmp_path / "spool"
    durable: set[int] = set()
    said_done: set[int] = set()
    for _ in range(ROUNDS):
        run_and_kill(folder, rng, durable, said_done)
        stored = batches_on_disk(folder)
        assert len(stored) == len(set(stored)), "a batch is there twice"
        assert durable - said_done <= set(stored), "a durable batch is lost"
        check_law(folder, stored, durable, said_done)
        # What was put or done in the last moment, before the line about it was out, is known now.
        durable |= set(stored)
    assert len(said_done) > ROUNDS
    assert len(durable - said_done) > ROUNDS


def run_and_kill(folder: Path, rng: random.Random, durable: set[int], said_done: set[int]) -> None:
    """Let a process spool, kill it when it has said a random number of lines, and read all that it said."""
    first = 1000 * (1 + max(durable, default=0) // 1000)
    script = Path(__file__).with_name("spooling.py")
    command = [sys.executable, str(script), str(folder), str(first), str(rng.getrandbits(32))]
    lines_before_kill = rng.randrange(1, 120)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            lines = [process.stdout.readline() for _ in range(lines_before_kill)]
        finally:
            process.kill()
        lines += process.stdout.read().splitlines()
    for line in lines:
        word, _, number = line.strip().partition(" ")
        if number:  # the last line may be cut
            (durable if word == "put" else said_done).add(int(number))
    assert len([line for line in lines if line]) >= lines_before_kill, "it ended by itself"


def batches_on_disk(folder: Path) -> list[int]:
    """Take every batch, compare it with what was put, and return the numbers."""
    log = structlog.wrap_logger(structlog.testing.CapturingLogger())
    spool = Spool(folder, SpoolLimits(256 << 20), log=log)
    numbers = []
    while entries := spool.take(20):
        for entry in entries:
            number = int(entry.request.body.partition(b":")[0])
            assert entry.request.body == body_of(number)
            assert entry.request.spans == SPANS
            numbers.append(number)
    status = spool.status()
    assert (status.batches, status.set_aside) == (len(numbers), 0)
    assert spool.close(SECONDS)
    return numbers


def check_law(folder: Path, stored: list[int], durable: set[int], said_done: set[int]) -> None:
    """Compare the sums with the rows, and with what the killed processes said."""
    database = sqlite3.connect(folder / "spool.db")
    spooled, delivered, waiting = database.execute("SELECT spooled, delivered, waiting FROM service").fetchone()
    (rows,) = database.execute("SELECT sum(spans) FROM batch").fetchone()
    database.close()
    assert spooled == delivered + waiting
    assert waiting == rows == SPANS * len(stored)
    assert delivered <= SPANS * len(said_done)
    assert spooled >= SPANS * len(durable)
