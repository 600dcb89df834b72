"""Phase 219 of grafOS, the data plane: its vocabulary, and the doors through which its spans go into the ring.

The fastest door is `site(op).emit(…)`, the handiest `with site(op).span(lease):`. `emit_dataplane_span` takes every
argument by name and checks more; `build_dataplane_span` returns a record, for `Emitter.emit_batch` or to look at.
Lease ids live in the span, never on a metric label.
"""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any, Final

from ringbuf._hot import lib as hot
from ringbuf._ringbuf import ffi, lib
from ringbuf.dataplane_site import DataplaneSite, DataplaneSpan, any_operation
from ringbuf.layout.layout import numpy_for
from ringbuf.phase219 import (
    DATAPLANE_LAYOUT,
    PHASE_219_SPAN_NAMES,
    DataplaneSpanKind,
    LeaseId,
    OpType,
    Outcome,
    ResourceKind,
    dataplane_operation_label,
    dataplane_span_kind_for_op_type,
)
from ringbuf.ring.producer import new_producer
from ringbuf.shared import SHARED, get_emitter
from ringbuf.sites.argument import u64
from ringbuf.sites.packing import pack_constants
from ringbuf.sites.refusal import Refusals
from ringbuf.sites.span import KNOWN_TRACE_FLAGS, LOCAL, REMOTE, Parent
from ringbuf.status import SpanKind
from ringbuf.traceparent import check_flags, check_span_id, check_trace_id, parse_traceparent

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable
    from typing import TypeAlias

    import numpy as np

    from ringbuf.emitter import Emitter
    from ringbuf.status import Status

    LeaseForm: TypeAlias = LeaseId | uuid.UUID | bytes | int | str

__all__ = [
    "DATAPLANE_LAYOUT",
    "PHASE_219_SPAN_NAMES",
    "DataplaneSite",
    "DataplaneSpan",
    "DataplaneSpanKind",
    "LeaseId",
    "OpType",
    "Outcome",
    "ResourceKind",
    "build_dataplane_span",
    "build_dataplane_span_from_traceparent",
    "dataplane_operation_label",
    "dataplane_span_kind_for_op_type",
    "emit_dataplane_span",
    "emit_dataplane_span_from_traceparent",
    "site",
]

_SAMPLED: Final = 1  # the default itself: `is` also tells it from True

# Ids for records that no emitter has seen; its memory is wiped on fork, so that a child has a seed of its own.
_ids, _ids_owner = new_producer()
_refused_ids: Final = Refusals("emit_dataplane_span")


def site(
    op: OpType,
    *,
    resource_kind: ResourceKind | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    emitter: Emitter | None = None,
) -> DataplaneSite:
    """Bind an operation once, where its spans are emitted.

    Args:
        op: any but TASKLET_SUBMIT.
        resource_kind: what its leases are for; None: `op.resource_kind`. CAPABILITY_… operations have none of their
            own: a capability is for a lease of some kind, which is the kind to give.
        kind: a `SpanKind`, or OpenTelemetry's: SERVER where a request of another host is served.
        emitter: None: the process's shared one, which may be configured later.

    Raises:
        TypeError: `op`, `resource_kind` or `kind` is of another type.
        ValueError: `op` is TASKLET_SUBMIT, a CAPABILITY_… operation is bound without a `resource_kind`, or the emitter
            has another layout.

    >>> read = site(OpType.FBMU_READ)
    >>> lease = LeaseId(7)
    """
    _check_type("op", op, OpType)
    if resource_kind is None:
        resource_kind = op.resource_kind
    if resource_kind is None:
        if op.family is None:
            raise ValueError(f"{op} is a control-plane submission: it has no data-plane span")
        raise ValueError(f"resource_kind: {op} needs the kind of the lease that the capability is for")
    _check_type("resource_kind", resource_kind, ResourceKind)
    return DataplaneSite(emitter or get_emitter(), op, resource_kind, kind)


def build_dataplane_span(
    kind: DataplaneSpanKind,
    *,
    lease_id: LeaseForm,
    resource_kind: ResourceKind,
    operation: OpType,
    outcome: Outcome,
    start_unix_nano: int,
    end_unix_nano: int,
    trace_id: bytes | None = None,
    parent_span_id: bytes | None = None,
    trace_flags: int = 1,
    nbytes: int | None = None,
) -> np.void:
    """Return a record of `DATAPLANE_LAYOUT` with a new span id.

    Args:
        kind: the family; `operation` must belong to it.
        lease_id: a `LeaseId`, a `uuid.UUID`, 16 bytes, an int below 2**128 or 32 hex digits.
        resource_kind: what the lease is for.
        operation: what was done.
        outcome: how it ended; failures give the span the status ERROR.
        start_unix_nano: nanoseconds since 1970.
        end_unix_nano: the same, not before the start.
        trace_id: 16 bytes, not all zero; None: a new trace.
        parent_span_id: 8 bytes, not all zero; None: a root. Needs a trace id.
        trace_flags: W3C flags of the trace, 0 to 255; bit 0 is `sampled`.
        nbytes: bytes moved; None: absent. 0 is a value.

    Raises:
        ValueError: an operation of another family or TASKLET_SUBMIT, an end before the start, an id of the wrong size
            or all zero, a parent without a trace, a number out of range, a lease id of the wrong form.
        TypeError: an argument of another type.

    >>> record = build_dataplane_span(DataplaneSpanKind.FBMU, lease_id=7, resource_kind=ResourceKind.MEM,
    ...     operation=OpType.FBMU_READ, outcome=Outcome.OK, start_unix_nano=1, end_unix_nano=2, nbytes=4096)
    >>> DATAPLANE_LAYOUT.values(record)["grafos.bytes"]
    4096
    """
    lease = _checked(kind, lease_id, resource_kind, operation, outcome, start_unix_nano, end_unix_nano, nbytes)
    _check_ids(trace_id, parent_span_id, trace_flags)
    return _record(
        kind, lease, resource_kind, operation, outcome, start_unix_nano, end_unix_nano, nbytes,
        trace_id, parent_span_id, LOCAL | trace_flags,
    )  # fmt: skip


def build_dataplane_span_from_traceparent(
    traceparent: str | None,
    kind: DataplaneSpanKind,
    *,
    lease_id: LeaseForm,
    resource_kind: ResourceKind,
    operation: OpType,
    outcome: Outcome,
    start_unix_nano: int,
    end_unix_nano: int,
    nbytes: int | None = None,
) -> np.void:
    """Return a record under the span that a `traceparent` header names, which lives in another process.

    No header (None) or an invalid one starts a new trace; that never raises. The other arguments are those of
    `build_dataplane_span`.

    Raises:
        ValueError, TypeError: as `build_dataplane_span`.

    Source: W3C Trace Context, section 4.2 (processing model).
    """
    lease = _checked(kind, lease_id, resource_kind, operation, outcome, start_unix_nano, end_unix_nano, nbytes)
    parent = parse_traceparent(traceparent)
    trace_id, parent_span_id, flags = None, None, LOCAL | lib.RB_SPAN_SAMPLED
    if parent is not None:
        trace_id, parent_span_id = parent.trace_id, parent.parent_id
        flags = REMOTE | parent.trace_flags & KNOWN_TRACE_FLAGS
    return _record(
        kind, lease, resource_kind, operation, outcome, start_unix_nano, end_unix_nano, nbytes,
        trace_id, parent_span_id, flags,
    )  # fmt: skip


def emit_dataplane_span(
    kind: DataplaneSpanKind,
    *,
    lease_id: LeaseForm,
    resource_kind: ResourceKind,
    operation: OpType,
    outcome: Outcome,
    start_unix_nano: int,
    end_unix_nano: int,
    trace_id: bytes | None = None,
    parent_span_id: bytes | None = None,
    trace_flags: int = _SAMPLED,
    nbytes: int | None = None,
    status: Status | None = None,
) -> bool:
    """Write a span to the process's shared emitter, and return whether it was written.

    The arguments are those of `build_dataplane_span`, and the status, which follows the outcome unless it is given. An
    unsampled span (trace_flags without bit 0, or a root that OTEL_TRACES_SAMPLER does not want) is counted and not
    written. What is of the right type and does not fit (a number out of range, a lease id of another form) is left out,
    is counted in `EmitterStats.invalid_values`, and the first is warned about; ids that cannot be start a new trace,
    and an end before the start is written as it is.

    Raises:
        TypeError: an argument of another type; nothing is counted then.
        ValueError: an operation of another family or TASKLET_SUBMIT; with RINGBUF_STRICT=1 all that
            `build_dataplane_span` refuses.
    """
    try:
        emit_under = SHARED[None].sites[None]
    except KeyError:
        emit_under = _any_of(get_emitter())
    parent, invalid = None, 0  # C makes the ids and asks the sampler
    if trace_id is not None or parent_span_id is not None or trace_flags is not _SAMPLED:
        try:
            parent = _given_parent(trace_id, parent_span_id, trace_flags)
        except ValueError as error:
            _refused_ids("its ids", error)
            invalid = 1
    try:
        written: bool = emit_under(
            parent, kind, lease_id, resource_kind, operation, outcome, start_unix_nano, end_unix_nano, nbytes,
            status=status,
        )  # fmt: skip
    except (TypeError, ValueError):
        _check_members(kind, resource_kind, operation, outcome)  # which of them does not go with the others
        raise
    if invalid:
        hot.rb_count_invalid_values(get_emitter().producer, invalid)
    return written


def _given_parent(trace_id: bytes | None, parent_span_id: bytes | None, trace_flags: int) -> Parent | None:
    _check_ids(trace_id, parent_span_id, trace_flags)
    if trace_id is None:
        if trace_flags & lib.RB_SPAN_SAMPLED:
            return None
        trace_id = _new_ids()[0]
    elif parent_span_id is None and not get_emitter().samples_root(trace_id):
        trace_flags &= ~lib.RB_SPAN_SAMPLED
    return Parent(trace_id, parent_span_id or bytes(8), LOCAL | trace_flags)


def emit_dataplane_span_from_traceparent(
    traceparent: str | None,
    kind: DataplaneSpanKind,
    *,
    lease_id: LeaseForm,
    resource_kind: ResourceKind,
    operation: OpType,
    outcome: Outcome,
    start_unix_nano: int,
    end_unix_nano: int,
    nbytes: int | None = None,
    status: Status | None = None,
) -> bool:
    """Write a span under the one that a `traceparent` header names, and return whether it was written.

    No header (None) or an invalid one starts a new trace; an unsampled one is honoured: the span is counted and not
    written. The other arguments are those of `emit_dataplane_span`; one that does not fit is left out, as there.

    Raises:
        TypeError, ValueError: as `emit_dataplane_span`; nothing is counted then.
    """
    try:
        emit_under = SHARED[None].sites[None]
    except KeyError:
        emit_under = _any_of(get_emitter())
    try:
        return emit_under(  # type: ignore[no-any-return] # `sites` is for anything
            traceparent, kind, lease_id, resource_kind, operation, outcome, start_unix_nano, end_unix_nano, nbytes,
            status=status,
        )  # fmt: skip
    except (TypeError, ValueError):
        _check_members(kind, resource_kind, operation, outcome)  # which of them does not go with the others
        raise


def _any_of(emitter: Emitter) -> Callable[..., bool]:
    """Return `emit_under` of the site for every operation."""
    # Two threads may both make one: either serves.
    found: Callable[..., bool] | None = emitter.sites.get(None)
    return found if found is not None else emitter.sites.setdefault(None, any_operation(emitter).emit_under)


def _checked(
    kind: DataplaneSpanKind,
    lease_id: LeaseForm,
    resource_kind: ResourceKind,
    operation: OpType,
    outcome: Outcome,
    start_unix_nano: int,
    end_unix_nano: int,
    nbytes: int | None,
) -> LeaseId:
    """Raise for what a span cannot be; return its lease."""
    _check_members(kind, resource_kind, operation, outcome)
    start_unix_nano, end_unix_nano = u64("start_unix_nano", start_unix_nano), u64("end_unix_nano", end_unix_nano)
    if end_unix_nano < start_unix_nano:
        raise ValueError(f"end_unix_nano: {end_unix_nano} lies before the start, {start_unix_nano}")
    if nbytes is not None:
        u64("nbytes", nbytes)
    return lease_id if type(lease_id) is LeaseId else LeaseId(lease_id)


def _check_members(kind: DataplaneSpanKind, resource_kind: ResourceKind, operation: OpType, outcome: Outcome) -> None:
    """Raise for the first of these that is wrong."""
    _check_type("kind", kind, DataplaneSpanKind)
    _check_type("resource_kind", resource_kind, ResourceKind)
    _check_type("operation", operation, OpType)
    if operation.family is None:
        raise ValueError(f"operation: {operation} is a control-plane submission: it has no data-plane span")
    if operation.family is not kind:
        raise ValueError(f"operation: {operation} belongs to {operation.family.name}, not to {kind.name}")
    _check_type("outcome", outcome, Outcome)


def _check_type(name: str, value: object, kind: type) -> None:
    if type(value) is not kind:
        raise TypeError(f"{name}: {value!r} is no {kind.__name__}")


def _check_ids(trace_id: bytes | None, parent_span_id: bytes | None, trace_flags: int) -> None:
    if trace_id is not None:
        check_trace_id("trace_id", trace_id)
    if parent_span_id is not None:
        check_span_id("parent_span_id", parent_span_id)
    if parent_span_id is not None and trace_id is None:
        raise ValueError("parent_span_id: a parent without its trace_id")
    check_flags(trace_flags)


def _new_ids() -> tuple[bytes, bytes]:
    trace_id = ffi.new("uint8_t[16]")
    span_id = ffi.new("uint8_t[8]")
    hot.rb_new_ids(_ids, trace_id, span_id)
    return bytes(ffi.buffer(trace_id)), bytes(ffi.buffer(span_id))


def _record(
    kind: DataplaneSpanKind,
    lease: LeaseId,
    resource_kind: ResourceKind,
    operation: OpType,
    outcome: Outcome,
    start_unix_nano: int,
    end_unix_nano: int,
    nbytes: int | None,
    trace_id: bytes | None,
    parent_span_id: bytes | None,
    flags: int,
) -> np.void:
    values: dict[str, Any] = {
        "grafos.lease.id": lease.raw,
        "grafos.resource.kind": resource_kind,
        "grafos.operation": operation,
        "grafos.outcome": outcome,
        "grafos.bytes": nbytes,
    }
    data = bytearray(pack_constants(DATAPLANE_LAYOUT, kind.span_name, values))
    core = ffi.from_buffer("rb_record *", data)
    new_trace_id, span_id = _new_ids()
    core.start_unix_nano, core.end_unix_nano = index(start_unix_nano), index(end_unix_nano)
    core.trace_id = tuple(trace_id or new_trace_id)  # a list would not do for ctypes
    core.span_id = tuple(span_id)
    core.parent_span_id = tuple(parent_span_id or bytes(8))
    core.status = outcome.status
    core.flags = flags
    record: np.void = numpy_for("a record").frombuffer(data, DATAPLANE_LAYOUT.dtype)[0]
    return record
