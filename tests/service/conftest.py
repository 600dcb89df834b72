"""What tests of a whole drain are given: its log, its output, a producer; and loopback without proxies."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

import ringbuf
from tests.service.draining import LAYOUT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "drain.log"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "spans.jsonl"


@pytest.fixture
def emitter(ring_dir: Path) -> Iterator[ringbuf.Emitter]:
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=1024, lanes=1) as emitter:
        yield emitter


@pytest.fixture(autouse=True)
def environment_without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the proxies of the person who runs the tests away from loopback traffic."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
