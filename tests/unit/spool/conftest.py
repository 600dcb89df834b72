"""Fixtures of the spool's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.spool.bench import Bench

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "spool")
    yield bench
    bench.close()
