"""Fixtures of the spool's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drain.spool import spool as spool_module
from tests.unit.spool.bench import SECONDS, Bench

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    # A drain goes on without a disk that is late; here a busy machine is not to look like one.
    monkeypatch.setattr(spool_module, "_TAKE_SECONDS", SECONDS)
    bench = Bench(tmp_path / "spool")
    yield bench
    bench.close()
