"""`emit_under`: a span under a given parent, whatever block encloses the call."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

import ringbuf
from ringbuf.dataplane import LeaseId, OpType, site
from ringbuf.span import Parent
from tests.consumer import records_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEASE = LeaseId(7)
TRACE = bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736")
PARENT = bytes.fromhex("00f067aa0ba902b7")


@pytest.fixture
def emitter(ring_dir: Path) -> Iterator[ringbuf.Emitter]:
    made = ringbuf.Emitter("service", ring_dir=ring_dir, capacity=16)
    yield made
    records_in(ring_dir)
    made.close()


def parent_in(ring_dir: Path) -> tuple[bytes, bytes]:
    (record,) = records_in(ring_dir)
    return record["trace_id"].tobytes(), record["parent_span_id"].tobytes()


def test_a_header_a_span_and_a_parent_are_parents(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    read = site(OpType.FBMU_READ, emitter=emitter)
    with read.span(LEASE) as other:
        pass
    records_in(ring_dir)
    for parent, expected in (
        (f"00-{TRACE.hex()}-{PARENT.hex()}-01", (TRACE, PARENT)),
        (Parent(TRACE, PARENT, 0x101), (TRACE, PARENT)),
        (other, (other.trace_id, other.span_id)),
    ):
        assert read.emit_under(parent, LEASE, 1, 2)
        assert parent_in(ring_dir) == expected


def test_none_is_a_root_even_inside_a_block(emitter: ringbuf.Emitter, ring_dir: Path) -> None:
    read = site(OpType.FBMU_READ, emitter=emitter)
    with read.span(LEASE) as span:
        assert read.emit_under(None, LEASE, 1, 2)
        trace_id, parent_span_id = parent_in(ring_dir)
    assert parent_span_id == bytes(8)
    assert trace_id != span.trace_id


@pytest.mark.parametrize("wrong", [(TRACE[:15], PARENT, 1), (TRACE, PARENT + b"x", 1), ("a" * 16, PARENT, 1)])
def test_a_parent_of_wrong_ids_is_refused(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        Parent(*wrong)


def test_emit_under_without_a_parent_is_refused(emitter: ringbuf.Emitter) -> None:
    read: Any = site(OpType.FBMU_READ, emitter=emitter)
    with pytest.raises(TypeError, match="parent"):
        read.emit_under()
    assert emitter.stats().attempts == 0


def test_the_clock_is_the_calendars() -> None:
    before = time.time_ns()
    assert before <= ringbuf.unix_nano() <= time.time_ns()
