"""A start waits for the examination of the hold, but not for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog.testing

from drain.rings import held_examination

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
