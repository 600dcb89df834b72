"""The four functions of ringbuf.dataplane with arguments that are right unless a test says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ringbuf
from ringbuf import dataplane
from ringbuf.dataplane import (
    DATAPLANE_LAYOUT,
    DataplaneSpanKind,
    OpType,
    Outcome,
    ResourceKind,
    build_dataplane_span,
    build_dataplane_span_from_traceparent,
    emit_dataplane_span,
    emit_dataplane_span_from_traceparent,
)
from tests.consumer import Consumer, rings_in

if TYPE_CHECKING:
    from pathlib import Path

TRACE = bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736")
PARENT = bytes.fromhex("00f067aa0ba902b7")
SAMPLED = f"00-{TRACE.hex()}-{PARENT.hex()}-01"
UNSAMPLED = f"00-{TRACE.hex()}-{PARENT.hex()}-00"
READ: dict[str, Any] = {
    "lease_id": 7,
    "resource_kind": ResourceKind.MEM,
    "operation": OpType.FBMU_READ,
    "outcome": Outcome.OK,
    "start_unix_nano": 1000,
    "end_unix_nano": 2000,
}
OPERATIONS = {op: kind for op in OpType if (kind := dataplane.dataplane_span_kind_for_op_type(op)) is not None}


class Shared:
    """The shared emitter of a test, and the ring behind it."""

    def __init__(self, ring_dir: Path) -> None:
        self.ring_dir = ring_dir

    def written(self) -> list[Any]:
        """Return the records that were written since the last call."""
        records: list[Any] = []
        for path in rings_in(self.ring_dir):
            with Consumer(path) as consumer:
                records.extend(consumer.take_all())
        return records

    def stats(self) -> ringbuf.EmitterStats:
        return ringbuf.get_emitter().stats()


def build(kind: DataplaneSpanKind = DataplaneSpanKind.FBMU, **arguments: Any) -> Any:
    return build_dataplane_span(kind, **(READ | arguments))


def build_under(header: Any, kind: DataplaneSpanKind = DataplaneSpanKind.FBMU, **arguments: Any) -> Any:
    return build_dataplane_span_from_traceparent(header, kind, **(READ | arguments))


def emit(kind: DataplaneSpanKind = DataplaneSpanKind.FBMU, **arguments: Any) -> bool:
    return emit_dataplane_span(kind, **(READ | arguments))


def emit_under(header: Any, kind: DataplaneSpanKind = DataplaneSpanKind.FBMU, **arguments: Any) -> bool:
    return emit_dataplane_span_from_traceparent(header, kind, **(READ | arguments))


def build_with_header(kind: DataplaneSpanKind = DataplaneSpanKind.FBMU, **arguments: Any) -> Any:
    return build_under(SAMPLED, kind, **arguments)


def emit_with_header(kind: DataplaneSpanKind = DataplaneSpanKind.FBMU, **arguments: Any) -> bool:
    return emit_under(SAMPLED, kind, **arguments)


EVERY_FUNCTION = [build, build_with_header, emit, emit_with_header]


def values(record: Any) -> dict[str, Any]:
    return DATAPLANE_LAYOUT.values(record)
