"""What tests of a whole drain are given: its log, its output, a producer, a collector; and loopback without proxies."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

import ringbuf
from tests.otlp_server import OtlpGrpcServer
from tests.service.draining import LAYOUT
from tests.service.exporters.receivers import Receiver, rotel

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


@pytest.fixture(scope="module")
def behind_rotel() -> Iterator[OtlpGrpcServer]:
    """Yield the receiver to which rotel sends on what it got."""
    with OtlpGrpcServer() as server:
        yield server


@pytest.fixture(scope="module")
def rotel_receiver(behind_rotel: OtlpGrpcServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with rotel(tmp_path_factory.mktemp("rotel"), behind_rotel.url) as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def environment_without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the proxies of the person who runs the tests away from loopback traffic."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
