"""A start waits for the examination of the hold, but not for ever."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, NoReturn

import structlog.testing

from drain.rings import held_examination
from drain.sampling.hold.unsafe import Unsafe

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_an_examination_that_does_not_end_is_not_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts = tmp_path / "starts"
    starts.touch()
    hangs = f"import time; open({str(starts)!r}, 'a').write('.'); time.sleep(60)"
    monkeypatch.setattr(held_examination, "_START", hangs)
    monkeypatch.setattr(held_examination, "MOST_SECONDS", 1.0)
    monkeypatch.setattr(held_examination, "_PAUSES_SECONDS", (0.0, 0.0))
    with structlog.testing.capture_logs() as lines:
        log = structlog.get_logger()
        unsafe = held_examination.examine_held(tmp_path, encoding="protobuf", batch_spans=512, rules=None, log=log)
    assert unsafe == {}
    assert starts.read_text() in {"", "."}, "where a start takes longer than that, it is ended before it writes"
    assert [line["event"] for line in lines] == [
        "the hold cannot be examined in time",
        "the hold is read without examination",
    ]


def test_what_an_examination_has_found_in_its_time_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_options: object) -> NoReturn:
        found = b'["chunk-1", [3, 7], ""]\n["chunk-2", [], "it dies"]\n["chunk-3", [1'
        raise subprocess.TimeoutExpired(command, 300.0, output=found)

    monkeypatch.setattr(subprocess, "run", run)
    with structlog.testing.capture_logs() as lines:
        log = structlog.get_logger()
        unsafe = held_examination.examine_held(tmp_path, encoding="protobuf", batch_spans=512, rules=None, log=log)
    assert unsafe == {"chunk-1": Unsafe(frozenset({3, 7}), ""), "chunk-2": Unsafe(frozenset(), "it dies")}
    assert lines[-1]["but_for_files"] == 2
