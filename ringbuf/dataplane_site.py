"""The fastest Python door of Phase 219: a site of one operation, its `emit` and its `with` span."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar

from ringbuf._site import SpanValue, described
from ringbuf.layout.value import pack_value, shown
from ringbuf.phase219 import (
    DATAPLANE_LAYOUT,
    DataplaneSpanKind,
    LeaseId,
    OpType,
    Outcome,
    ResourceKind,
    dataplane_span_kind_for_op_type,
)
from ringbuf.sites.argument import END, START, STATUS, Argument, pack_time
from ringbuf.sites.packing import pack_constants
from ringbuf.sites.site import BoundSite
from ringbuf.sites.span import Parent, Span
from ringbuf.status import SpanKind, Status, member_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringbuf.ring.process_ring import ProcessRing


_P = ParamSpec("_P")
_R = TypeVar("_R")

__all__ = ["DataplaneSite", "DataplaneSpan", "any_operation"]

_LEASE, _KIND, _OPERATION, _OUTCOME, _BYTES = DATAPLANE_LAYOUT.fields
_ARGUMENTS: Final = (
    Argument.of_field(_LEASE, "lease", only=LeaseId, takes_none=False),
    START,
    END,
    Argument.of_field(_BYTES, "nbytes", required=False),
    Argument.of_field(
        _OUTCOME,
        "outcome",
        only=Outcome,
        statuses=bytes(outcome.status for outcome in Outcome),
        required=False,
        takes_none=False,
    ),
    STATUS,
)
_NBYTES_VALUE, _OUTCOME_VALUE = 1, 2  # of a span, whose times are none of its values


def _fail(span: Span, _exception: object, _end_unix_nano: int) -> tuple[tuple[int, object], ...]:
    outcome = span["outcome"]
    says_how = isinstance(outcome, Outcome) and outcome.status == Status.ERROR
    return () if says_how else ((_OUTCOME_VALUE, Outcome.ERROR),)


class DataplaneSpan(Span):
    """A span of a `DataplaneSite`.

    Attributes:
        outcome: an `Outcome`, OK unless set inside the block; an `Exception` that passes makes it ERROR, unless it says
            already how the operation failed. A generator that is closed, a task that is cancelled, an exit and the end
            of an iteration are no failures.
        nbytes: bytes moved, None (absent) unless set.
    """

    __slots__ = ()
    nbytes = SpanValue(_NBYTES_VALUE, None)
    outcome = SpanValue(_OUTCOME_VALUE, Outcome.OK)


class DataplaneSite(BoundSite):
    """A place that emits spans of one operation. Made by `ringbuf.dataplane.site`."""

    __slots__ = ()

    def __new__(
        cls, emitter: ProcessRing, op: OpType, resource_kind: ResourceKind, span_kind: SpanKind = SpanKind.INTERNAL
    ) -> Self:
        """Bind the operation; the arguments are those of `ringbuf.dataplane.site`."""
        kind = dataplane_span_kind_for_op_type(op)
        if kind is None:
            raise ValueError(f"{op} is a control-plane submission: it has no data-plane span")
        _check_layout(emitter)
        constants = {
            _KIND.attribute.key: resource_kind,
            _OPERATION.attribute.key: op,
            _OUTCOME.attribute.key: Outcome.OK,  # until the argument says another
        }
        record = pack_constants(DATAPLANE_LAYOUT, kind.span_name, constants, kind=span_kind)
        origin = (cls, (emitter, op, resource_kind, member_of(SpanKind, "kind", span_kind)))
        return cls.bind(emitter, kind.span_name, record, _ARGUMENTS, _fail, _convert, DataplaneSpan, origin)

    if TYPE_CHECKING:  # the base class has them, for any arguments

        def emit(
            self,
            lease: LeaseId,
            start_unix_nano: int,
            end_unix_nano: int | None = None,
            nbytes: int | None = None,
            outcome: Outcome = Outcome.OK,
            *,
            status: Status | None = None,
        ) -> bool:
            """Write a span under the enclosing `with` span, or a root, and return whether it was written.

            Times are nanoseconds since 1970 (`ringbuf.unix_nano`); no end: now. An end before the start is delivered
            as it is. Raises TypeError when an argument is of another type. What does not fit 64 bits is left out and
            counted, see `ringbuf.sites.site.Site`. The status follows the outcome unless it is given.
            """
            ...

        def emit_under(
            self,
            parent: Span | Parent | str | None,
            lease: LeaseId,
            start_unix_nano: int,
            end_unix_nano: int | None = None,
            nbytes: int | None = None,
            outcome: Outcome = Outcome.OK,
            *,
            status: Status | None = None,
        ) -> bool:
            """Do what `emit` does under a given span: a span, a `traceparent` header, or None for a root."""
            ...

        def span(self, lease: LeaseId, *, traceparent: Parent | str | None = None) -> DataplaneSpan:
            """Return a span for a `with` block: it times the block and writes itself at the end.

            `traceparent` is the header of the caller in another process, which becomes the parent (an invalid one
            starts a new trace, as W3C has it). None: the enclosing span is the parent, if any. Raises TypeError: the
            lease is no LeaseId.
            """
            ...

    else:
        emit = described(
            "emit",
            "emit($self, lease, start_unix_nano, end_unix_nano=None, nbytes=None, outcome=..., *, status=None)\n--\n\n"
            "Write a span under the enclosing `with` span, or a root, and return whether it was written.\n\n"
            "Args:\n"
            "    lease: a `LeaseId`.\n"
            "    start_unix_nano: nanoseconds since 1970, as `ringbuf.unix_nano` gives them.\n"
            "    end_unix_nano: the same; None, or left out: now.\n"
            "    nbytes: that were moved; None: not told.\n"
            "    outcome: an `Outcome`.\n"
            "    status: a `ringbuf.Status`; None: that of the outcome.",
        )
        emit_under = described(
            "emit_under",
            "emit_under($self, parent, /, lease, start_unix_nano, end_unix_nano=None, nbytes=None, outcome=..., *, "
            "status=None)\n--\n\nDo what `emit` does under a given parent: a span, a `traceparent` header, or None.",
        )
        span = described(
            "span",
            "span($self, lease, /, *, traceparent=None)\n--\n\n"
            "Return a span for a `with` block: it times the block, and writes itself at the end.\n\n"
            "Args:\n"
            "    lease: a `LeaseId`.\n"
            "    traceparent: the header of the caller in another process, which becomes the parent.",
        )

    def wrap(self, lease: LeaseId) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
        """Return a decorator by which each call runs in a span of this site: see `ringbuf.sites.site.Site.wrap`."""
        from ringbuf.sites.wrap import wrapped  # noqa: PLC0415 - inspect, 10 ms, which a program without decorators does not pay

        return lambda function: wrapped(lambda: self.span(lease), function)


_NO_NAME: Final = 0xFF  # of an operation without a data-plane span
_KINDS: Final = tuple(DataplaneSpanKind)
_ANY_ARGUMENTS: Final = (
    Argument.of_name("kind", _KINDS),
    Argument.of_field(_LEASE, "lease_id", only=LeaseId, takes_none=False)._replace(takes_forms=True),
    Argument.of_field(_KIND, "resource_kind", only=ResourceKind, takes_none=False),
    Argument.of_field(
        _OPERATION,
        "operation",
        only=OpType,
        names=bytes(_NO_NAME if op.family is None else _KINDS.index(op.family) for op in OpType),
        takes_none=False,
    ),
    Argument.of_field(_OUTCOME, only=Outcome, statuses=bytes(outcome.status for outcome in Outcome), takes_none=False),
    START,
    END._replace(takes_none=False, in_order=True),
    Argument.of_field(_BYTES, "nbytes"),
    STATUS,
)


def any_operation(emitter: ProcessRing) -> BoundSite:
    """Return a site for every operation, whose `emit` takes all that varies: `_ANY_ARGUMENTS`, the status by its name.

    Raises:
        ValueError: the emitter has another layout.
    """
    _check_layout(emitter)
    record = pack_constants(DATAPLANE_LAYOUT, DATAPLANE_LAYOUT.span_names[0], {})
    name, origin = DATAPLANE_LAYOUT.scope_name, (any_operation, (emitter,))
    return BoundSite.bind(emitter, name, record, _ANY_ARGUMENTS, None, _convert_any, Span, origin)


def _check_layout(emitter: ProcessRing) -> None:
    if emitter.layout != DATAPLANE_LAYOUT:
        raise ValueError("the emitter has another layout than DATAPLANE_LAYOUT")


def _convert_any(argument: int, value: Any) -> tuple[bytes, bool]:
    """Pack what C does not take at once: a lease in a form that is rare. Or say what is wrong with it."""
    match _ANY_ARGUMENTS[argument].name:
        case "lease_id":
            return LeaseId(value), False
        case "start_unix_nano" | "end_unix_nano" as name:
            return pack_time(name, value), False
        case "nbytes":
            return _pack_nbytes(value)
        case "status":
            return bytes((member_of(Status, "status", value),)), False
        case name:
            raise TypeError(f"{name}: {shown(value)} is none that goes with the others")


def _convert(argument: int, value: Any) -> tuple[bytes, bool]:
    """Pack what C does not take at once, or say what is wrong with it."""
    match _ARGUMENTS[argument].name:
        case "lease":
            raise TypeError(f"lease: {shown(value)} is no LeaseId; make one with LeaseId(…), once per lease")
        case "nbytes":
            return _pack_nbytes(value)
        case "outcome":
            raise TypeError(f"outcome: {shown(value)} is no Outcome")
        case "status":
            return bytes((member_of(Status, "status", value),)), False
        case name:
            return pack_time(name, value), False


def _pack_nbytes(value: Any) -> tuple[bytes, bool]:
    try:
        return pack_value(_BYTES, value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"nbytes, {error}") from None
