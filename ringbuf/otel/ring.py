"""The rings of one resource: the usual one, and one for large spans once there is such a span."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from ringbuf._hot import lib as hot
from ringbuf._ringbuf import ffi, lib
from ringbuf.emitter import Emitter
from ringbuf.otel.span import encode_scope, encode_span, otel_layout, write_record

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from ringbuf.otel.notices import Notices
    from ringbuf.otel.span import Encoded
    from ringbuf.ring.settings import RingSettings

LARGE_SLOT_BYTES: Final[int] = lib.RB_MAX_SLOT_BYTES
_MAX_SCOPES: Final = 1024


@dataclass(frozen=True, slots=True)
class RingSizes:
    """How large the rings of a processor are.

    Attributes:
        slot_bytes: of a record of the usual ring.
        capacity: records per lane of the usual ring.
        large_capacity: records per lane of the ring for large spans, which have LARGE_SLOT_BYTES; 0: there is none.
    """

    slot_bytes: int
    capacity: int
    large_capacity: int


class Ring:
    """Where the spans of one resource go.

    Args:
        sizes: of the rings.
        settings: of the rings, but for their sizes.
        schema_url: of the resource.
        notices: of the processor.
    """

    def __init__(self, sizes: RingSizes, settings: RingSettings, schema_url: str, notices: Notices) -> None:
        self._notices = notices
        self._usual = self._records(sizes.slot_bytes, replace(settings, capacity=sizes.capacity), schema_url)
        self._large: _Records | None = None
        if sizes.large_capacity and sizes.slot_bytes < LARGE_SLOT_BYTES:
            # Without a ring until a span needs it: it has 16 KiB a record.
            large = replace(settings, capacity=sizes.large_capacity)
            self._large = self._records(LARGE_SLOT_BYTES, large, schema_url)
        self._has_large_spans = False
        self._scopes: dict[int, tuple[InstrumentationScope, Encoded]] = {}

    @property
    def emitters(self) -> tuple[Emitter, ...]:
        """The usual one, and that of the large spans if there were any."""
        if self._large is not None and self._has_large_spans:
            return self._usual.emitter, self._large.emitter
        return (self._usual.emitter,)

    def open(self) -> None:
        """Make the usual ring, or say why there is none; raises as `Emitter`."""
        self._usual.emitter.open_or_tell()

    def close(self) -> None:
        """Close both: what is written from now on is counted as local."""
        self._usual.emitter.close()
        if self._large is not None:
            self._large.emitter.close()

    def write(self, span: ReadableSpan) -> bool:
        """Write a span, and return whether it was written; never raises."""
        try:
            return self._write(span)
        except Exception:  # noqa: BLE001 - whatever a span holds, the program that ended it goes on; the notice has it
            self.count_lost()
            self._notices.give("invalid", "a span that cannot be written is counted as local", exc_info=True)
            return False

    def count_lost(self) -> None:
        """Count a span that cannot be written as local."""
        hot.rb_count_local(self._usual.emitter.producer, 1)

    def _write(self, span: ReadableSpan) -> bool:
        scope = self._scope_of(span.instrumentation_scope)
        records = self._usual
        encoded = encode_span(span, records.room if self._large is None else self._large.room)
        if len(encoded.otlp) > records.room:
            self._has_large_spans = True
            if self._large is not None and self._large.has_ring():
                records = self._large
            else:
                encoded = encode_span(span, records.room)
        is_written = records.write(span, scope.otlp, encoded.otlp)
        cuts = scope.cuts + encoded.cuts
        if is_written and cuts:
            hot.rb_count_truncated(records.emitter.producer, cuts)
            self._notices.give(
                "cut",
                "a span is too large for a record of %d bytes: its longest texts were cut, and counted as truncated",
                records.emitter.layout.slot_bytes,
            )
        return is_written

    def _records(self, slot_bytes: int, settings: RingSettings, schema_url: str) -> _Records:
        layout = otel_layout(slot_bytes, resource_schema_url=schema_url)
        settings = replace(settings, decides_roots=False)  # the SDK's sampler does
        return _Records(Emitter.unopened(layout, settings, self._warn_of_no_ring))

    def _warn_of_no_ring(self, error: Exception) -> None:
        self._notices.give("no ring", "no ring for OpenTelemetry spans, they are counted as local: %s", error)

    def _scope_of(self, scope: InstrumentationScope | None) -> Encoded:
        # By identity: a tracer keeps its scope, and the hash of one is the hash of its attributes' JSON.
        found = self._scopes.get(id(scope))
        if found is not None and found[0] is scope:
            return found[1]
        encoded = encode_scope(scope)
        if scope is not None and len(self._scopes) < _MAX_SCOPES:
            self._scopes[id(scope)] = (scope, encoded._replace(cuts=0))  # counted once
        return encoded


class _Records:
    """One emitter, and records to fill for it."""

    def __init__(self, emitter: Emitter) -> None:
        self.emitter = emitter
        self.room = emitter.layout.fields[1].attribute.size or 0
        self._free: list[tuple[memoryview, Any]] = []  # those that no thread is using, each with its rb_record *

    def has_ring(self) -> bool:
        """Return whether there is a ring, which is made if need be."""
        return self.emitter.has_ring() or self.emitter.recover()

    def write(self, span: ReadableSpan, scope: bytes, otlp: bytes) -> bool:
        # pop and append are atomic; a signal handler that ends a span in between takes another one.
        try:
            raw, pointer = self._free.pop()
        except IndexError:
            raw, pointer = self._new()
        write_record(raw, span, scope, otlp)
        is_written = self.emitter.emit_at(pointer)
        self._free.append((raw, pointer))
        return is_written

    def _new(self) -> tuple[memoryview, Any]:
        data = bytearray(self.emitter.layout.slot_bytes)
        return memoryview(data), ffi.cast("rb_record *", ffi.from_buffer(data))
