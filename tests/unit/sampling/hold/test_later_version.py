"""Files of a later version in a hold: this drain leaves them to a drain of that version, and works beside them."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from structlog.testing import capture_logs

from drain import assembly
from drain.sampling.hold.decisions import NAME
from drain.settings.configuration import load
from ringbuf._ringbuf import ffi, lib
from tests.points.hold_walk import LANE, RESOURCE, RING, opened, records_of
from tests.points.victim import LAYOUT

if TYPE_CHECKING:
    from pathlib import Path

    from drain.sampling.hold.hold import Hold

VERSION_AT: int = dict(ffi.typeof("rb_chunk_head").fields)["version"].offset
LATER = struct.pack("<I", lib.RB_CHUNK_VERSION + 1)
# What may have changed with the version: nothing of this says anything to us.
BODIES = {"as now": lambda chunk: chunk, "longer": lambda chunk: chunk + bytes(100), "short": lambda chunk: chunk[:200]}


@pytest.fixture
def folder(ring_dir: Path) -> Path:
    assert lib.rb_guard_install() == lib.RB_OK
    return ring_dir / "hold"


def hold_some(hold: Hold, first: int, count: int) -> None:
    hold.append(hold.origin(LAYOUT.to_json(), RESOURCE, 7), RING, LANE, first, first + count, records_of(first, count))
    hold.unreleased.released(RING, LANE)


def left_by_a_later_drain(folder: Path, body: str) -> dict[Path, bytes]:
    """Return the files that such a drain has left, and what is in them."""
    hold = opened(folder)
    hold_some(hold, 0, 5)
    hold.close()
    (path,) = folder.glob("chunk-*")
    chunk = path.read_bytes()
    path.write_bytes(BODIES[body](chunk[:VERSION_AT] + LATER + chunk[VERSION_AT + len(LATER) :]))
    return {path: path.read_bytes() for path in (path, *folder.glob("origin-*"))}


@pytest.mark.parametrize("body", BODIES)
def test_a_chunk_of_a_later_version_stays_as_it_is_with_what_it_needs(folder: Path, body: str) -> None:
    left = left_by_a_later_drain(folder, body)
    for number in range(6):  # more often than unsound files are kept
        (folder / "chunk-unsound").write_bytes(b"no chunk")
        with capture_logs() as logs:
            hold = opened(folder)
        assert (hold.unsound, hold.has_later, len(hold.found)) == (2, True, number)
        assert any("later version" in line["event"] for line in logs)
        assert all(sums.unaccounted == sums.lost == 0 for sums in hold.sums().values())
        hold_some(hold, 5, 5)
        assert hold.tend()
        hold.close()
    assert {path: path.read_bytes() for path in left} == left


def test_decisions_of_a_later_version_are_kept(folder: Path) -> None:
    opened(folder).close()
    content = (folder / NAME).read_bytes()
    later = content[:8] + struct.pack("<I", 2) + content[12:] + bytes(16)
    (folder / NAME).write_bytes(later)
    for number in range(6):
        hold = opened(folder)
        assert hold.has_later == (number == 0)
        hold.close()
        (folder / NAME).write_bytes(b"no decisions")
    assert (folder / "later-decisions").read_bytes() == later


def test_without_rules_the_folder_stays_where_a_later_version_has_something_in_it(folder: Path) -> None:
    left = left_by_a_later_drain(folder, "as now")
    log: Any = structlog.get_logger()
    exporter: Any = SimpleNamespace(encoding="protobuf")
    configuration = load({"ring_dir": folder.parent}, None)
    assert assembly.sampling_plan(configuration, folder.parent, log, exporter=exporter) is None
    assert {path: path.read_bytes() for path in left} == left
    for path in left:
        path.unlink()
    assert assembly.sampling_plan(configuration, folder.parent, log, exporter=exporter) is None
    assert not folder.exists()
