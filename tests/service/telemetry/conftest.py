from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .watched import watched_service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .watched import Watched


@pytest.fixture
def watched(ring_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    with watched_service(ring_dir, tmp_path, monkeypatch) as made:
        yield made
