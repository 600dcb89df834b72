"""An emitter with a small ring of its own, and the shared emitter of one test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import ringbuf
from ringbuf import shared
from tests.consumer import Consumer, rings_in
from tests.unit.doors import Shared

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def emitter(ring_dir: Path) -> Iterator[ringbuf.Emitter]:
    """Return an emitter with 16 slots a lane in this test's ring directory."""
    with ringbuf.Emitter("service", ring_dir=ring_dir, capacity=16) as made:
        yield made
        for path in rings_in(ring_dir):
            with Consumer(path) as consumer:
                consumer.take_all()


@pytest.fixture
def process(ring_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shared]:
    """Give this test a shared emitter of its own, not yet configured."""
    shared.SHARED.clear()
    monkeypatch.setenv("RINGBUF_DIR", str(ring_dir))
    found = Shared(ring_dir)
    yield found
    found.written()
    ringbuf.get_emitter().close()
    shared.SHARED.clear()
