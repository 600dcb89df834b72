"""`RingSpanProcessor`: writes each span of the SDK into a ring as it ends."""

from __future__ import annotations

import os
import time
from logging import getLogger
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.trace import SpanProcessor

from ringbuf._hot import lib as hot
from ringbuf.emitter import Emitter
from ringbuf.exceptions import RingBufferError
from ringbuf.otel.context import nest
from ringbuf.otel.span import encode_scope, encode_span, otel_layout, write_record
from ringbuf.resource import SERVICE_NAME, resource_to_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from opentelemetry.context import Context
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, Span
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from ringbuf.resource import AttributeValue

DEFAULT_SLOT_BYTES: Final = 4096
"""Bytes of a record; RINGBUF_OTEL_SLOT_BYTES. Bounds what one span can hold."""

DEFAULT_CAPACITY: Final = 2048
"""Records of a lane; RINGBUF_OTEL_CAPACITY. As many as BatchSpanProcessor queues."""

_RETRY_SECONDS: Final = 1.0
_MAX_SCOPES: Final = 1024
_logger = getLogger("ringbuf")


class RingSpanProcessor(SpanProcessor):
    """Writes each sampled span into the ring as it ends. All methods may be called from any thread.

    Args:
        ring_dir: as for `Emitter`.
        slot_bytes: of a record, a multiple of 64 from 512 to 16384; None: RINGBUF_OTEL_SLOT_BYTES, then 4096.
        capacity: records per lane, a power of two; None: RINGBUF_OTEL_CAPACITY, then 2048.
        lanes: as for `Emitter`.
        mode: as for `Emitter`.
        resource: whose ring is made at once; None: it is made by the first span, from that span's resource.

    Raises:
        ValueError, TypeError, RingCreateError: as `Emitter`; without `resource` only for the arguments here, and a ring
            that cannot be made is warned about at the first span and tried again at most once a second.

    >>> import tempfile
    >>> from opentelemetry.sdk.trace import TracerProvider
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     processor = RingSpanProcessor(ring_dir=directory, slot_bytes=1024)
    ...     provider = TracerProvider(shutdown_on_exit=False)
    ...     provider.add_span_processor(processor)
    ...     with provider.get_tracer("shop").start_as_current_span("sale"):
    ...         pass
    ...     processor.emitters[0].stats().published
    1
    """

    def __init__(
        self,
        *,
        ring_dir: str | os.PathLike[str] | None = None,
        slot_bytes: int | None = None,
        capacity: int | None = None,
        lanes: int | None = None,
        mode: int | None = None,
        resource: Resource | None = None,
    ) -> None:
        slot_bytes = _setting("RINGBUF_OTEL_SLOT_BYTES", DEFAULT_SLOT_BYTES) if slot_bytes is None else slot_bytes
        capacity = _setting("RINGBUF_OTEL_CAPACITY", DEFAULT_CAPACITY) if capacity is None else capacity
        otel_layout(slot_bytes)  # raises here and not at the first span
        self._slot_bytes = slot_bytes
        self._arguments: dict[str, Any] = {"ring_dir": ring_dir, "capacity": capacity, "lanes": lanes, "mode": mode}
        # By resource, of which a process has one but in tests. A dict alone: no lock that a fork could leave taken.
        self._rings: dict[Resource, _Ring] = {}
        self._latest: tuple[Resource, _Ring] | None = None
        self._next_try = 0.0
        self._closed = False
        if resource is not None:
            self._open(resource)

    @property
    def emitters(self) -> tuple[Emitter, ...]:
        """The rings' emitters: one for each resource that spans had, for their `stats()` and `wait_drained()`."""
        return tuple(ring.emitter for ring in self._rings.values())

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Do nothing: a span is written when it ends."""

    def on_end(self, span: ReadableSpan) -> None:
        """Write the span unless it is not sampled; never raises."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        try:
            self.write(span)
        except Exception:  # whatever a span holds, the program that ended it goes on
            _logger.warning("a span is lost that could not be written", exc_info=True)

    def write(self, span: ReadableSpan) -> bool:
        """Write one span, and return whether it was written; the ring counts why not.

        Raises:
            ValueError: its trace or span id is zero.
        """
        if self._closed:
            _logger.warning("the processor is shut down: a span is lost")
            return False
        latest = self._latest
        ring = latest[1] if latest is not None and latest[0] is span.resource else self._ring_of(span.resource)
        return ring is not None and ring.write(span)

    def shutdown(self) -> None:
        """End the rings: what is in them stays for the drain, and spans that end later are lost."""
        self._closed = True
        for emitter in self.emitters:
            emitter.close()

    def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002 - there is nothing to wait for
        """Return True: no span waits in this process. To wait for the drain, see `Emitter.wait_drained`."""
        return True

    def _ring_of(self, resource: Resource) -> _Ring | None:
        ring = self._rings.get(resource)
        if ring is None:
            if time.monotonic() < self._next_try:
                return None
            try:
                ring = self._open(resource)
            except (RingBufferError, ValueError, TypeError, OSError) as error:
                self._next_try = time.monotonic() + _RETRY_SECONDS
                _logger.warning("no ring for OpenTelemetry spans, they are lost: %s", error)
                return None
        self._latest = (resource, ring)
        return ring

    def _open(self, resource: Resource) -> _Ring:
        layout = otel_layout(self._slot_bytes, resource_schema_url=resource.schema_url or "")
        attributes = _writable(resource.attributes)
        name = attributes.pop(SERVICE_NAME, None)
        made = _Ring(
            Emitter(str(name) if name else None, resource_attributes=attributes, layout=layout, **self._arguments)
        )
        ring = self._rings.setdefault(resource, made)
        if ring is not made:  # another thread was faster
            made.emitter.close()
        return ring


class _Ring:
    """One emitter, and what writing to it needs again and again."""

    def __init__(self, emitter: Emitter) -> None:
        self.emitter = emitter
        self._room = emitter.layout.fields[1].attribute.size or 0
        self._records: list[tuple[memoryview, np.void]] = []  # those that no thread is using
        self._scopes: dict[int, tuple[InstrumentationScope, bytes]] = {}

    def write(self, span: ReadableSpan) -> bool:
        scope = self._scope_of(span.instrumentation_scope)
        otlp, cuts = encode_span(span, self._room)
        if cuts:
            hot.rb_count_truncated(self.emitter.producer, cuts)
        # pop and append are atomic; a signal handler that ends a span in between takes another one.
        try:
            raw, record = self._records.pop()
        except IndexError:
            raw, record = self._new_record()
        write_record(raw, span, scope, otlp)
        is_written = self.emitter.emit(record)
        self._records.append((raw, record))
        return is_written

    def _new_record(self) -> tuple[memoryview, np.void]:
        import numpy as np  # noqa: PLC0415 - 90 ms, when the first span ends

        records = self.emitter.layout.empty(1)
        raw: Any = records.view(np.uint8)
        return memoryview(raw), records[0]

    def _scope_of(self, scope: InstrumentationScope | None) -> bytes:
        # By identity: a tracer keeps its scope, and the hash of one is the hash of its attributes' JSON.
        found = self._scopes.get(id(scope))
        if found is not None and found[0] is scope:
            return found[1]
        encoded, cuts = encode_scope(scope)
        if cuts:
            hot.rb_count_truncated(self.emitter.producer, cuts)
        if scope is not None and len(self._scopes) < _MAX_SCOPES:
            self._scopes[id(scope)] = (scope, encoded)
        return encoded


def _writable(attributes: Mapping[str, Any]) -> dict[str, AttributeValue]:
    """Return those attributes of a resource that a ring's JSON can hold; the others are warned about."""
    writable: dict[str, AttributeValue] = {}
    for key, value in attributes.items():
        try:
            resource_to_json({key: value})
        except (TypeError, ValueError) as error:
            _logger.warning("left out of the ring's resource: %s", error)
        else:
            writable[key] = value
    return writable


def _setting(name: str, default: int) -> int:
    text = os.environ.get(name)
    try:
        return int(text) if text else default
    except ValueError:
        raise ValueError(f"{name}: {text!r} is no integer") from None


nest()
