"""The fastest Python door of Phase 219: a site of one operation, its `emit` and its `with` span."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ringbuf._hot import lib as hot
from ringbuf._ringbuf import ffi
from ringbuf.packing import pack_constants
from ringbuf.phase219 import (
    DATAPLANE_LAYOUT,
    STATUS_UNSET,
    LeaseId,
    OpType,
    Outcome,
    ResourceKind,
    dataplane_span_kind_for_op_type,
)
from ringbuf.span import CURRENT, NULL, ActiveSpan, RemoteParent

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringbuf.emitter import Emitter

__all__ = ["DataplaneSite", "DataplaneSpan"]

_OK: Final = Outcome.OK
_LEASE, _KIND, _OPERATION, _OUTCOME, _BYTES = (attribute.key for attribute in DATAPLANE_LAYOUT.attributes)
_SETTLED: Final = (1, 0)  # written, or not and counted
# Looked up once: each dot in the hot functions costs nanoseconds.
_since = hot.rb_emit_lease_since
_bytes_since = hot.rb_emit_lease_bytes_since
_end_span = hot.rb_span_end_lease
_end_span_bytes = hot.rb_span_end_lease_bytes


class DataplaneSite:
    """A place that emits spans of one operation. Made by `ringbuf.dataplane.site`.

    Attributes:
        emit: `emit(lease, start_unix_nano, end_unix_nano, nbytes=None, outcome=Outcome.OK) -> bool`: writes a span
            under the enclosing `with` span, or a root, and returns whether it was written. `lease` is a `LeaseId`.
            Times are nanoseconds since 1970; an end before the start is delivered as it is. Raises TypeError or
            ValueError when an argument is of another type or does not fit 64 bits.
    """

    def __init__(self, emitter: Emitter, op: OpType, resource_kind: ResourceKind) -> None:
        kind = dataplane_span_kind_for_op_type(op)
        if kind is None:
            raise ValueError(f"{op} is a control-plane submission: it has no data-plane span")
        if emitter.layout != DATAPLANE_LAYOUT:
            raise ValueError("the emitter has another layout than DATAPLANE_LAYOUT")
        self._emitter = emitter
        emitter.is_bound = True
        self._records = []  # kept, since C's sites point to them
        self._sites = []
        # One for each outcome, so that neither it nor the status is an argument of the call to C.
        for outcome in Outcome:
            constants = {_KIND: resource_kind, _OPERATION: op, _OUTCOME: outcome}
            memory = ffi.new("uint8_t[]", pack_constants(DATAPLANE_LAYOUT, kind.span_name, constants))
            record = ffi.cast("rb_record *", memory)
            record.status = outcome.status
            record.present |= 1 << DATAPLANE_LAYOUT.index(_LEASE)
            pointer = ffi.new(
                "rb_site *",
                {
                    "producer": emitter.producer,
                    "record": record,
                    "slot_bytes": DATAPLANE_LAYOUT.slot_bytes,
                    "lease_offset": DATAPLANE_LAYOUT.offsets[_LEASE],
                    "bytes_offset": DATAPLANE_LAYOUT.offsets[_BYTES],
                    "bytes_present": 1 << DATAPLANE_LAYOUT.index(_BYTES),
                },
            )
            self._records.append(memory)
            self._sites.append(pointer)
        self.emit = self._bind_emit()

    def _bind_emit(self) -> Callable[..., bool]:
        # A closure over locals: a method would look each of these up at every call.
        sites, ok = self._sites, self._sites[0]
        without_bytes, with_bytes = hot.rb_emit_lease, hot.rb_emit_lease_bytes
        current = CURRENT.get
        emit_under, settle = self.emit_under, self._emitter.settle

        def emit(
            lease: LeaseId,
            start_unix_nano: int,
            end_unix_nano: int,
            nbytes: int | None = None,
            outcome: Any = _OK,  # an Outcome, which the next lines check
        ) -> bool:
            if type(lease) is not LeaseId:
                raise _no_lease(lease)
            if outcome is not _OK and outcome.__class__ is not Outcome:
                raise TypeError(f"outcome: {outcome!r} is no Outcome")
            site = ok if outcome is _OK else sites[outcome]
            enclosing = current()
            try:
                if enclosing is not None:
                    return emit_under(enclosing.pointer(), lease, start_unix_nano, end_unix_nano, nbytes, outcome)
                if nbytes is None:
                    result = without_bytes(site, lease.pointer, start_unix_nano, end_unix_nano)
                    if result == 1:
                        return True
                    return result != 0 and settle(
                        result, without_bytes, site, lease.pointer, start_unix_nano, end_unix_nano
                    )
                result = with_bytes(site, lease.pointer, start_unix_nano, end_unix_nano, nbytes)
                if result == 1:
                    return True
                return result != 0 and settle(
                    result, with_bytes, site, lease.pointer, start_unix_nano, end_unix_nano, nbytes
                )
            except (OverflowError, TypeError) as error:
                raise _explained(error, start_unix_nano, end_unix_nano, nbytes) from None

        return emit

    def emit_under(
        self,
        parent: Any,
        lease: LeaseId,
        start_unix_nano: int,
        end_unix_nano: int,
        nbytes: int | None,
        outcome: Outcome,
    ) -> bool:
        """Do what `emit` does under a given `rb_span *` (NULL: a root), for arguments that have been checked."""
        door: Any = hot.rb_emit_lease_under
        arguments: tuple[Any, ...] = (
            self._sites[outcome],
            parent,
            lease.pointer,
            start_unix_nano,
            end_unix_nano,
        )
        if nbytes is not None:
            door, arguments = hot.rb_emit_lease_bytes_under, (*arguments, nbytes)
        result = door(*arguments)
        return bool(result) and (result == 1 or self._emitter.settle(result, door, *arguments))

    def emit_remote(
        self,
        traceparent: object,
        lease: LeaseId,
        start_unix_nano: int,
        end_unix_nano: int,
        nbytes: int | None,
        outcome: Outcome,
    ) -> bool:
        """Do what `emit_under` does under the span that a `traceparent` header names."""
        try:
            header = traceparent.encode()  # type: ignore[attr-defined]
        except (AttributeError, UnicodeEncodeError):
            header = b""
        if nbytes is None:
            result = hot.rb_emit_lease_remote(
                self._sites[outcome], header, lease.pointer, start_unix_nano, end_unix_nano
            )
        else:
            result = hot.rb_emit_lease_bytes_remote(
                self._sites[outcome], header, lease.pointer, start_unix_nano, end_unix_nano, nbytes
            )
        if result == 1:
            return True
        if result == 0:
            return False
        # No ring yet, or a header that is not of the plain form: both are rare, and settled the long way.
        if result < 0:
            parent = RemoteParent(traceparent).pointer()
            return self.emit_under(parent, lease, start_unix_nano, end_unix_nano, nbytes, outcome)
        return self._emitter.settle(result, None)

    def span(self, lease: LeaseId, *, traceparent: str | None = None) -> DataplaneSpan:
        """Return a span for a `with` block: it times the block and writes itself at the end.

        Args:
            lease: a LeaseId.
            traceparent: the header of the caller in another process, which becomes the parent (an invalid one starts a
                new trace, as W3C has it). None: the enclosing span is the parent, if any.

        Raises:
            TypeError: the lease is no LeaseId.
        """
        if type(lease) is not LeaseId:
            raise _no_lease(lease)
        parent = None if traceparent is None else RemoteParent(traceparent)
        return DataplaneSpan(self._emitter, self._sites, self._records, parent, lease.pointer)


class DataplaneSpan(ActiveSpan):
    """A span of a `DataplaneSite`.

    Attributes:
        outcome: an `Outcome`, OK unless set inside the block; an exception that passes makes it ERROR, unless it says
            already how the operation failed.
        nbytes: bytes moved, None (absent) unless set.
    """

    __slots__ = ("_keep", "_lease", "_sites", "nbytes", "outcome")

    def __init__(
        self, emitter: Emitter, sites: list[Any], keep: list[Any], parent: RemoteParent | None, lease: Any
    ) -> None:
        # ActiveSpan.__init__, written out: the call would take a tenth of the whole span.
        self._emitter = emitter
        self._site = sites[0]
        self._parent = parent
        self._made = None
        self._number = -1
        self._sites = sites
        self._keep = keep  # the sites point to them
        self._lease = lease
        self.outcome = _OK
        self.nbytes: int | None = None

    def _end(self, failed: bool) -> None:
        outcome = self.outcome
        if outcome is not _OK and outcome.__class__ is not Outcome:
            raise TypeError(f"outcome: {outcome!r} is no Outcome")
        if failed and outcome.status == STATUS_UNSET:
            outcome = self.outcome = Outcome.ERROR
        site = self._site if outcome is _OK else self._sites[outcome]
        nbytes = self.nbytes
        door: Any
        arguments: tuple[Any, ...]
        try:
            if self._made is not None:
                door, arguments = _end_span, (site, self._made, self._lease)
                if nbytes is not None:
                    door, arguments = _end_span_bytes, (*arguments, nbytes)
                result = door(*arguments)
            else:
                parent = NULL if self._parent is None else self._parent.pointer()
                door = _since
                arguments = (site, parent, self._number, self._lease, self._unix_nano, self._monotonic_nano)
                if nbytes is not None:
                    door, arguments = _bytes_since, (*arguments, nbytes)
                result = door(*arguments)
        except (OverflowError, TypeError):
            raise _refusal("nbytes", nbytes) from None
        if result not in _SETTLED:
            self._emitter.settle(result, door, *arguments)


def _no_lease(lease: object) -> TypeError:
    return TypeError(f"lease: {lease!r} is no LeaseId; make one with LeaseId(…), once per lease")


def _explained(error: Exception, start: object, end: object, nbytes: object) -> Exception:
    """Return the TypeError or ValueError that names the argument which C's wrapper refused."""
    for name, value in (("start_unix_nano", start), ("end_unix_nano", end), ("nbytes", nbytes)):
        if value is not None and not (isinstance(value, int) and 0 <= value < 1 << 64):
            return _refusal(name, value)
    return error


def _refusal(name: str, value: object) -> Exception:
    if isinstance(value, int):
        return ValueError(f"{name}: {value} does not fit an unsigned 64-bit integer")
    return TypeError(f"{name}: {value!r} is no int")
