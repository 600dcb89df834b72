"""A hold of each test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ringbuf._ringbuf import lib
from tests.points.hold_walk import RESOURCE, opened
from tests.points.victim import LAYOUT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from drain.sampling.hold.hold import Hold
    from drain.sampling.hold.origins import Origin


@pytest.fixture
def folder(ring_dir: Path) -> Path:
    return ring_dir / "hold"


@pytest.fixture
def hold(folder: Path) -> Iterator[Hold]:
    assert lib.rb_guard_install() == lib.RB_OK
    made = opened(folder)
    yield made
    made.close()


@pytest.fixture
def origin(hold: Hold) -> Origin:
    return hold.origin(LAYOUT.to_json(), RESOURCE, 7)
