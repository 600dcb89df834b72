"""An emitter and a site, for the tests of what their spans are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import ringbuf
from ringbuf.dataplane import DataplaneSite, OpType, site
from tests.consumer import records_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def emitter(ring_dir: Path) -> Iterator[ringbuf.Emitter]:
    """Return an emitter with room for 4096 spans, whose ring is sound at the end."""
    made = ringbuf.Emitter("service", ring_dir=ring_dir, capacity=4096)
    yield made
    records_in(ring_dir)
    made.close()


@pytest.fixture
def read(emitter: ringbuf.Emitter) -> DataplaneSite:
    """Return the site of a data-plane read."""
    return site(OpType.FBMU_READ, emitter=emitter)
