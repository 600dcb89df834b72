"""The doorbell outlives whoever rings it late."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drain.rings.doorbell import Doorbell
from ringbuf._ringbuf import lib

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_ring_that_comes_when_it_is_closed_touches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Library:
        def __getattr__(self, name: str) -> Any:
            is_freed = "rb_doorbell_free" in calls
            calls.append(name)
            return (lambda _pointer: None) if is_freed else getattr(lib, name)

    bell = Doorbell(tmp_path, 0o600)
    monkeypatch.setattr("drain.rings.doorbell.lib", Library())
    bell.ring()
    bell.close()
    bell.ring()
    assert calls == ["rb_doorbell_ring", "rb_doorbell_free"]
