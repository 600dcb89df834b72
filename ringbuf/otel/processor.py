"""`RingSpanProcessor`: writes each span of the SDK into a ring as it ends."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor

from ringbuf.exceptions import RingCreateError
from ringbuf.otel.context import nest
from ringbuf.otel.notices import Notices
from ringbuf.otel.ring import Ring, RingSizes
from ringbuf.otel.span import otel_layout
from ringbuf.ring.resource import SERVICE_NAME, random_uuid, resource_to_json
from ringbuf.ring.settings import RingSettings, check_arguments, check_capacity, check_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span

    from ringbuf.emitter import Emitter
    from ringbuf.ring.resource import AttributeValue

DEFAULT_SLOT_BYTES: Final = 4096
"""Bytes of a record; RINGBUF_OTEL_SLOT_BYTES. Longer spans go into the ring for large ones."""

DEFAULT_CAPACITY: Final = 2048
"""Records of a lane; RINGBUF_OTEL_CAPACITY. As many as BatchSpanProcessor queues."""

DEFAULT_LARGE_CAPACITY: Final = 256
"""Records of a lane of the ring for large spans; RINGBUF_OTEL_LARGE_CAPACITY. 4 MiB, where a process has such spans."""


class RingSpanProcessor(SpanProcessor):
    """Writes each sampled span into the ring as it ends. All methods may be called from any thread.

    What cannot be is an error where an argument says it. Where the environment does, it is one line on the logger
    `ringbuf` (and on standard error, where no handler of the program's shows that), a number has its default, and
    without a ring spans are counted as local: the program goes on.

    Args:
        ring_dir: as for `Emitter`.
        slot_bytes: of a record, a multiple of 64 from 512 to 16384; None: RINGBUF_OTEL_SLOT_BYTES, then 4096.
        capacity: records per lane, a power of two; None: RINGBUF_OTEL_CAPACITY, then 2048.
        large_capacity: records per lane, a power of two, of the ring for spans that do not fit `slot_bytes`; it has
            16384 bytes a record, and is made at the first such span. 0: none, such spans are cut.
            None: RINGBUF_OTEL_LARGE_CAPACITY, then 256.
        lanes: as for `Emitter`.
        mode: as for `Emitter`.
        resource: whose ring is made at once; None: it is made by the first span, from that span's resource.

    Raises:
        ValueError, TypeError: an argument that cannot be; the message names it.
        RingCreateError: the ring for `resource` cannot be made, and RINGBUF_REQUIRED=1.

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
        large_capacity: int | None = None,
        lanes: int | None = None,
        mode: int | None = None,
        resource: Resource | None = None,
    ) -> None:
        self._notices = Notices()
        self._sizes = RingSizes(
            self._setting("RINGBUF_OTEL_SLOT_BYTES", slot_bytes, DEFAULT_SLOT_BYTES, otel_layout),
            self._setting("RINGBUF_OTEL_CAPACITY", capacity, DEFAULT_CAPACITY, check_capacity),
            self._setting("RINGBUF_OTEL_LARGE_CAPACITY", large_capacity, DEFAULT_LARGE_CAPACITY, _check_large_capacity),
        )
        self._settings = RingSettings(ring_dir=ring_dir, lanes=lanes, mode=mode)
        check_arguments(self._settings)
        # By process and by resource, of which a process has one but in tests. No lock: a fork could leave it taken.
        self._rings: dict[int, dict[Resource, Ring]] = {}
        self._latest: tuple[int, Resource, Ring] | None = None
        self._closed = False
        nest()
        try:
            if resource is not None:
                self._ring_of(os.getpid(), resource).open()
            else:
                check_environment(self._settings)
        except (ValueError, RingCreateError) as error:
            if resource is not None and isinstance(error, RingCreateError):  # RINGBUF_REQUIRED=1
                raise
            self._notices.give("no ring", "no ring for OpenTelemetry spans, they are counted as local: %s", error)

    @property
    def emitters(self) -> tuple[Emitter, ...]:
        """The emitters of this process, for their `stats()`: for each resource, and one more for its large spans."""
        return tuple(emitter for ring in self._rings_here() for emitter in ring.emitters)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Do nothing: a span is written when it ends."""

    def on_end(self, span: ReadableSpan) -> None:
        """Write the span unless it is not sampled; never raises."""
        if span.context is not None and span.context.trace_flags.sampled:
            self.write(span)

    def write(self, span: ReadableSpan) -> bool:
        """Write one span, and return whether it was written; the ring counts why not. Never raises.

        A span that cannot be encoded, that has no ids, or whose resource cannot be read is counted as local.
        """
        try:
            ring = self._ring_of(os.getpid(), span.resource)
        except Exception:  # noqa: BLE001 - whatever a resource holds, the program goes on; the notice has it
            self._notices.give("resource", "a span whose resource cannot be read is counted as local", exc_info=True)
            self._count_lost()
            return False
        if self._closed:
            self._notices.give("closed", "the processor is shut down: spans that end from now on are counted as local")
        return ring.write(span)

    def shutdown(self) -> None:
        """End the rings: what is in them stays for the drain, and spans that end later are lost."""
        self._closed = True
        for ring in self._rings_here():
            ring.close()

    def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002 - there is nothing to wait for
        """Return True: no span waits in this process. To wait for the drain, see `wait_drained`."""
        return True

    def wait_drained(self, timeout: float) -> bool:
        """Wait until a drain has taken every span that this process has written.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether nothing is pending, in any ring of this process.
        """
        end = time.monotonic() + timeout
        return all(emitter.wait_drained(max(0.0, end - time.monotonic())) for emitter in self.emitters)

    def _rings_here(self) -> tuple[Ring, ...]:
        """Return those of this process as they are now: another thread may add one while they are gone through."""
        return tuple(self._rings.get(os.getpid(), {}).values())

    def _count_lost(self) -> None:
        rings = self._rings_here()
        ring = rings[0] if rings else self._ring_of(os.getpid(), Resource.get_empty())
        ring.count_lost()

    def _ring_of(self, pid: int, resource: Resource) -> Ring:
        latest = self._latest
        if latest is not None and latest[1] is resource and latest[0] == pid:
            return latest[2]
        rings = self._rings.get(pid)
        if rings is None:
            rings = self._rings.setdefault(pid, {})
        ring = rings.get(resource)
        if ring is None:  # another thread may be as fast: what is not kept here has no ring yet
            ring = rings.setdefault(resource, self._new_ring(resource))
        self._latest = (pid, resource, ring)
        return ring

    def _new_ring(self, resource: Resource) -> Ring:
        attributes = self._writable(resource.attributes)
        name = attributes.pop(SERVICE_NAME, None)
        attributes.setdefault("service.instance.id", random_uuid())  # the same in both rings
        settings = replace(self._settings, service_name=str(name) if name else None, resource_attributes=attributes)
        ring = Ring(self._sizes, settings, resource.schema_url or "", self._notices)
        if self._closed:
            ring.close()
        return ring

    def _writable(self, attributes: Mapping[str, Any]) -> dict[str, AttributeValue]:
        """Return those attributes of a resource that a ring's JSON can hold."""
        writable: dict[str, AttributeValue] = {}
        for key, value in attributes.items():
            try:
                resource_to_json({key: value})
            except (TypeError, ValueError) as error:
                self._notices.give(f"resource {key}", "left out of the ring's resource: %s", error)
            else:
                writable[key] = value
        return writable

    def _setting(self, name: str, given: int | None, default: int, check: Callable[[int], object]) -> int:
        """Return an argument, else what a variable says, else the default; `check` raises for what cannot be."""
        if given is not None:
            check(given)
            return given
        text = os.environ.get(name)
        if not text:
            return default
        try:
            number = _number(text)
            check(number)
        except ValueError as error:
            self._notices.give(name, "%s=%s: %s; %d is used", name, text, error, default)
            return default
        return number


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("it is no integer") from None


def _check_large_capacity(capacity: int) -> None:
    if capacity != 0:
        check_capacity(capacity)
