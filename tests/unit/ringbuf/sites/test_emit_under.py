"""`emit_under`: a span under a given parent, whatever block encloses the call."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ringbuf
from ringbuf.dataplane import (
    DataplaneSpanKind,
    LeaseId,
    OpType,
    Outcome,
    ResourceKind,
    build_dataplane_span_from_traceparent,
    site,
)
from ringbuf.sites.span import Parent
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


@pytest.mark.parametrize(("flags", "carried"), [(0xFF, 0x03), (0xFD, 0x01), (0x03, 0x03), (0x41, 0x01)])
@pytest.mark.parametrize("space", ["", " "])  # a header with spaces around it is read by another parser
@pytest.mark.parametrize("door", ["emit_under", "span", "build"])
def test_of_a_header_s_flags_the_reserved_are_not_carried_on(
    emitter: ringbuf.Emitter, ring_dir: Path, door: str, space: str, flags: int, carried: int
) -> None:
    """W3C Trace Context, section 3.2.2.5: a vendor sets all of them to zero."""
    header = f"{space}00-{TRACE.hex()}-{PARENT.hex()}-{flags:02x}{space}"
    read = site(OpType.FBMU_READ, emitter=emitter)
    if door == "emit_under":
        assert read.emit_under(header, LEASE, 1, 2)
    elif door == "span":
        with read.span(LEASE, traceparent=header):
            pass
    else:
        built = build_dataplane_span_from_traceparent(
            header,
            DataplaneSpanKind.FBMU,
            lease_id=LEASE,
            resource_kind=ResourceKind.MEM,
            operation=OpType.FBMU_READ,
            outcome=Outcome.OK,
            start_unix_nano=1,
            end_unix_nano=2,
        )
        assert emitter.emit_batch(np.array([built]))
    (record,) = records_in(ring_dir)
    assert record["flags"] & 0xFF == carried


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
