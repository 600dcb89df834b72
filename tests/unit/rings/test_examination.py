"""What keeps the examination of rings from its work: want of processes and descriptors."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from drain.rings.examination import Examination
from drain.rings.verdict import Suspect, Verdict
from tests.clocks import Clock

if TYPE_CHECKING:
    import pytest

SUSPECT = Suspect("shop.ring", 7, 4096)


def examination(clock: Clock) -> Examination:
    return Examination(
        Path("/nowhere"),
        [SUSPECT],
        encoding="protobuf",
        max_bytes=1 << 20,
        batch_spans=10,
        log=structlog.get_logger(),
        clock=clock,
    )


def test_a_process_that_cannot_be_started_is_started_again_after_a_pause_and_costs_no_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starts: list[float] = []
    clock = Clock()

    def refuse(*_arguments: Any, **_named: Any) -> None:
        starts.append(clock.now)
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(subprocess, "Popen", refuse)
    began = clock.now
    examined = examination(clock)
    before = len([*Path("/proc/self/fd").iterdir()])
    found: list[tuple[Suspect, Verdict]] = []
    while not found:
        found = examined.verdicts()
        assert examined.verdicts() == [], "at once it would be refused again"
        clock.now += 0.5
    assert len([*Path("/proc/self/fd").iterdir()]) == before
    assert [at - began for at in starts] == [0.0, 1.0, 6.0]
    assert found == [(SUSPECT, Verdict(SUSPECT.inode))], "somebody has to read it"
    assert examined.waiting == 0


def test_a_process_that_ends_at_once_is_started_again_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drain.rings.examination._START", "raise SystemExit(3)")
    clock = Clock()
    examined = examination(clock)
    assert examined.verdicts() == []
    process = examined._process
    assert process is not None
    process.wait(120)
    assert examined.verdicts() == []
    assert examined._process is None
    assert examined.verdicts() == []
    assert examined._starts == 1
    clock.now += 1.0
    assert examined.verdicts() == []
    assert examined._starts == 2
    examined.close()
