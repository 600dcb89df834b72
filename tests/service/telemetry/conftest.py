from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.service.draining import SECONDS

from .watched import Watched

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def watched(ring_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    with ExitStack() as stack:
        made = Watched(ring_dir, tmp_path, stack, monkeypatch)
        yield made
        made.backend.let_go()
        made.service.request_stop()
        made.thread.join(SECONDS)
        made.telemetry.close()
        assert made.service.close()
