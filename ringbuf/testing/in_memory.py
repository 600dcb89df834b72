"""Reads the spans of a ring directory back, as a drain of one process would."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from ringbuf._ringbuf import ffi, lib
from ringbuf.emitter import Emitter
from ringbuf.layout.layout import SpanLayout
from ringbuf.ring.attaching import attach, document, format_error
from ringbuf.ring.settings import no_extension
from ringbuf.status import SpanKind, Status
from ringbuf.testing.parts import Event, Link, parts_of
from ringbuf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ringbuf.ring.resource import AttributeValue

__all__ = ["FinishedSpan", "InMemoryEmitter", "SpanReader", "make_ring_dir"]

_SHM = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it


class FinishedSpan(TypedDict):
    """A span as a test looks at it.

    Attributes:
        name: of the span.
        kind: a `SpanKind`.
        status: a `Status`.
        trace_id: 32 hex digits.
        span_id: 16 hex digits.
        parent_span_id: the same, None of a root.
        start_unix_nano: nanoseconds since 1970.
        end_unix_nano: the same.
        attributes: those that are present, by key: a label is its string, a `hex` its digits.
        events: those of `add_event`, and of exceptions; empty in a layout without an `otlp` attribute.
        links: those of `add_link`; the same.
        status_description: of `set_status`; the same.
    """

    name: str
    kind: SpanKind
    status: Status
    trace_id: str
    span_id: str
    parent_span_id: str | None
    start_unix_nano: int
    end_unix_nano: int
    attributes: dict[str, bool | int | float | str | bytes]
    events: list[Event]
    links: list[Link]
    status_description: str


class SpanReader:
    """Takes the spans out of all rings of a directory, which no drain serves.

    Args:
        ring_dir: the directory; of all rings in it, those of other processes, too.
    """

    def __init__(self, ring_dir: str | os.PathLike[str]) -> None:
        self._ring_dir = Path(ring_dir)
        self._finished: list[FinishedSpan] = []

    def finished_spans(self) -> list[FinishedSpan]:
        """Return the spans that have ended since the beginning, or the last `clear`, in the order of their ends.

        Raises:
            RingFormatError: a ring is read by somebody else, or is none.
        """
        fresh: list[FinishedSpan] = []
        for path in sorted(self._ring_dir.glob("*.ring")):
            fresh.extend(_take(path))
        self._finished.extend(sorted(fresh, key=lambda span: span["end_unix_nano"]))
        return list(self._finished)

    def clear(self) -> None:
        """Forget the spans of now, those that were not looked at, too."""
        self.finished_spans()
        self._finished.clear()


class InMemoryEmitter(Emitter):
    """An emitter with a ring in a directory of its own, which goes with it; its spans come back as dicts.

    Args:
        service_name: `service.name` of the resource.
        layout: as for `Emitter`.
        resource_attributes: as for `Emitter`.
        capacity: slots; a test that has more spans asks for them in between, or gives more.

    >>> layout = SpanLayout(span_names=["get"], attributes=[])
    >>> with InMemoryEmitter(layout=layout) as emitter:
    ...     with emitter.site("get", kind=SpanKind.SERVER).span():
    ...         pass
    ...     [(span["name"], span["kind"].name, span["status"].name) for span in emitter.finished_spans()]
    [('get', 'SERVER', 'UNSET')]
    """

    _made_in = 0  # the process whose the directory is: of an emitter that was pickled, none
    _local_at_close = 0  # spans that had no ring before the close; those that come later are another matter

    def __init__(
        self,
        service_name: str = "test",
        *,
        layout: SpanLayout | None = None,
        resource_attributes: Mapping[str, AttributeValue] | None = None,
        capacity: int = 8192,
    ) -> None:
        ring_dir = make_ring_dir()
        self._made_in = os.getpid()
        self._remove = weakref.finalize(self, _remove, ring_dir, self._made_in)
        self._reader = SpanReader(ring_dir)
        super().__init__(
            service_name,
            layout=layout,
            resource_attributes=resource_attributes,
            ring_dir=ring_dir,
            capacity=capacity,
        )

    def finished_spans(self) -> list[FinishedSpan]:
        """Return the spans that have ended since the beginning, or the last `clear`, in the order of their ends.

        Raises:
            RuntimeError: spans found no slot: ask more often, or give a larger capacity; there was no ring for them; or
                they ended after the close.
        """
        stats = self.stats()
        late = stats.local - self._local_at_close if self.closed else 0
        if stats.local - late:
            why = no_extension() or "the logger `ringbuf` says why"
            raise RuntimeError(f"{counted(stats.local - late, 'span')} had no ring to be read back from: {why}")
        if lost := stats.full + stats.contended:
            slots = counted(self._settings.capacity, "slot")
            raise RuntimeError(f"{counted(lost, 'span')} found none of {slots} free: give a larger capacity")
        if late:
            raise RuntimeError(f"{counted(late, 'span')} ended after the close of the emitter, and cannot be read back")
        return self._reader.finished_spans()

    def clear(self) -> None:
        """Forget the spans of now."""
        self._reader.clear()

    def close(self) -> None:
        """End the ring; the spans stay."""
        is_ours = os.getpid() == self._made_in
        try:
            if not self.closed and is_ours:
                self._local_at_close = self.stats().local
                self._reader.finished_spans()
        finally:
            super().close()
            if is_ours:
                self._remove()


def _remove(ring_dir: str, made_in: int) -> None:
    if os.getpid() == made_in:  # a forked child has inherited the finalizer
        shutil.rmtree(ring_dir, ignore_errors=True)


def make_ring_dir() -> str:
    """Make a directory for rings: in /dev/shm, since a ring needs a file system like that."""
    return tempfile.mkdtemp(prefix="ringbuf-test-", dir=_SHM if os.access(_SHM, os.W_OK) else None)


def _take(path: Path) -> Iterator[FinishedSpan]:
    consumer = _attach(path)
    try:
        header = lib.rb_consumer_header(consumer)
        layout = SpanLayout.from_json(document(header, "layout"))
        lib.rb_poll(consumer, ffi.new("rb_lane_view[]", header.lane_count))
        records = bytearray(header.capacity_slots * header.slot_bytes)
        for lane in range(header.lane_count):
            got = lib.rb_copy(consumer, lane, ffi.from_buffer(records), header.capacity_slots)
            if got < 0:
                raise format_error(path, got)
            lib.rb_release(consumer, lane, ffi.new("rb_outcome *", {"delivered": got}))
            for start in range(0, got * layout.slot_bytes, layout.slot_bytes):
                yield _finished(layout, bytes(records[start : start + layout.slot_bytes]))
    finally:
        lib.rb_consumer_free(consumer)


def _attach(path: Path) -> Any:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return attach(descriptor, lib.RB_CONSUME, path)
    finally:
        os.close(descriptor)


def _finished(layout: SpanLayout, record: bytes) -> FinishedSpan:
    core = ffi.from_buffer("rb_record *", record)
    parent = bytes(core.parent_span_id)
    values = layout.values(record)
    carried = {one.key: one.type for one in layout.attributes if one.row.is_carried}
    otlp = next((values[key] for key, kind in carried.items() if kind == "otlp" and key in values), b"")
    return {
        "name": layout.span_names[core.name],
        "kind": SpanKind(core.kind or SpanKind.INTERNAL),  # as OTLP lets receivers take one that is not specified
        "status": Status(core.status),
        "trace_id": bytes(core.trace_id).hex(),
        "span_id": bytes(core.span_id).hex(),
        "parent_span_id": parent.hex() if any(parent) else None,
        "start_unix_nano": core.start_unix_nano,
        "end_unix_nano": core.end_unix_nano,
        "attributes": {key: value for key, value in values.items() if key not in carried},
        **parts_of(otlp if isinstance(otlp, bytes) else b""),
    }
