"""Emitter: the doors to a process's ring, for spans of sites and for whole records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

from ringbuf._hot import lib as hot
from ringbuf._ringbuf import ffi, lib
from ringbuf.ring.emitter_stats import EmitterStats
from ringbuf.ring.process_ring import PROCESS_RINGS, WRITTEN, ProcessRing, warn_of_no_ring, words
from ringbuf.ring.resource import given_attributes
from ringbuf.ring.settings import DEFAULT_CAPACITY, RingSettings
from ringbuf.status import SpanKind

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from ringbuf.layout.layout import SpanLayout
    from ringbuf.layout.value import Value
    from ringbuf.ring.resource import AttributeValue
    from ringbuf.sites.site import Site

__all__ = ["SHARED", "Emitter", "EmitterStats"]

_PUBLIC: Final = frozenset(
    {"close", "closed", "emit", "emit_batch", "fill_ids", "layout", "open", "site", "stats", "wait_drained"}
)


class Emitter(ProcessRing):
    """The ring of this process, and the doors to it. A forked child gets a ring of its own at its first emit.

    Emitting never blocks and never raises for conditions: a span that cannot be kept is counted, and the door returns
    False. All methods may be called from any thread.

    Args:
        service_name: `service.name` of the resource; None: OTEL_SERVICE_NAME, then OTEL_RESOURCE_ATTRIBUTES.
        resource_attributes: further attributes of the resource: str, bool, int, float, None, sequences and mappings.
        ring_dir: where the ring is made; None: RINGBUF_DIR, then `/dev/shm/ringbuf-<uid>`.
        layout: the schema of the records; None: `ringbuf.dataplane.DATAPLANE_LAYOUT`.
        capacity: slots per lane, a power of two from 4 to 2**24.
        lanes: 1 to 64; None: one where the interpreter has a GIL, else one per processor, at most 8.
        mode: of the file, 0o600, or 0o660 in the group form; None: RINGBUF_MODE (octal), then what the directory asks
            for: 0o660 where it is setgid and sticky, 0o600 elsewhere.
        emit_unsampled: write unsampled spans too, without the sampled flag.

    Raises:
        ValueError, TypeError: an argument that cannot be; the message names it.
        RingCreateError: the ring cannot be made, and RINGBUF_REQUIRED=1; the message says what to do.

    Without a ring the program goes on: one warning says what to do, every span counts as local, and a ring is tried for
    once a second. With OTEL_SDK_DISABLED=true none is made.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory, Emitter("shop", ring_dir=directory) as emitter:
    ...     emitter.stats().capacity
    8192
    """

    def __init__(
        self,
        service_name: str | None = None,
        *,
        resource_attributes: Mapping[str, AttributeValue] | None = None,
        ring_dir: str | os.PathLike[str] | None = None,
        layout: SpanLayout | None = None,
        capacity: int = DEFAULT_CAPACITY,
        lanes: int | None = None,
        mode: int | None = None,
        emit_unsampled: bool = False,
    ) -> None:
        self._begin(
            _layout_or_default(layout),
            RingSettings(
                service_name, given_attributes(resource_attributes), ring_dir, capacity, lanes, mode, emit_unsampled
            ),
        )
        self.open_or_tell()

    @classmethod
    def unopened(
        cls,
        layout: SpanLayout | None = None,
        settings: RingSettings | None = None,
        warn: Callable[[Exception], None] | None = None,
    ) -> Self:
        """Return an emitter that makes its ring at its first span.

        Args:
            layout: as for `Emitter`.
            settings: of the ring; None: from the environment alone.
            warn: is called, once in each process, when no ring can be made; None: it is logged.
        """
        emitter = cls.__new__(cls)
        emitter._begin(_layout_or_default(layout), settings or RingSettings())  # noqa: SLF001 - our own
        emitter._warn = warn or warn_of_no_ring  # noqa: SLF001 - our own
        return emitter

    def __reduce__(self) -> tuple[Callable[..., Emitter], tuple[Any, ...]]:
        """Pickle as what a process that is spawned needs to make its own ring, at its first span.

        Where the emitter itself is known (here, and in a forked child) it comes back as it is.
        """
        made = (self._mark, self.layout, self._settings, self.closed)
        return (_shared_unpickled, made) if SHARED.get(None) is self else (_unpickled, (type(self), *made))

    @classmethod
    def anew(cls, mark: bytes, layout: SpanLayout, settings: RingSettings, *, closed: bool) -> Self:
        """Return the emitter that a process has pickled, without a ring as yet; the same for the same mark."""
        emitter = cls.__new__(cls)
        emitter._begin(layout, settings, mark)  # noqa: SLF001 - our own
        if closed:
            emitter.close()
        return emitter

    def __enter__(self) -> Self:
        return self

    def __repr__(self) -> str:
        where = "closed" if self.closed else f"ring {self._path}" if self.has_ring() else "without a ring"
        return f"<Emitter {self._settings.service_name or self.layout.scope_name!r}, {where}>"

    def __dir__(self) -> list[str]:
        """Return what users call; the other names are for this package's modules."""
        return [name for name in super().__dir__() if name.startswith("__") or name in _PUBLIC]

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def emit(self, record: np.void) -> bool:
        """Write one record, and return whether it was written.

        Args:
            record: of this emitter's layout, with ids: a numpy record or a zero-dimensional array.

        Raises:
            TypeError: it is of another dtype.
            ValueError: an id is zero, or name, kind, status or the reserved word is out of bounds.
        """
        if getattr(record, "dtype", None) is not self.layout.dtype:
            record = self._taken(record)
        if getattr(record, "shape", None) != ():
            raise TypeError("emit takes one record; emit_batch takes an array of them")
        # As many bytes as a slot has, whatever the object says of itself.
        return self.emit_at(ffi.cast("rb_record *", ffi.from_buffer(self._slot_type, record)))

    def emit_at(self, pointer: Any) -> bool:
        """Write one record, and return whether it was written.

        Args:
            pointer: an `rb_record *`, to as many bytes as a slot has.

        Raises:
            ValueError: as `emit`.
        """
        result = hot.rb_emit(self.producer, pointer)
        return bool(result == WRITTEN) or self.settle(result, hot.rb_emit, self.producer, pointer)

    def emit_batch(self, records: np.ndarray[tuple[int], np.dtype[np.void]]) -> int:
        """Write the longest prefix that fits, and return its length; the rest is counted as dropped.

        Unsampled records of the prefix are counted as such and take no slot.

        Args:
            records: a one-dimensional array of this emitter's layout, with ids (see `fill_ids`).

        Raises:
            TypeError: it is of another dtype.
            ValueError: one record is as `emit` refuses it; nothing is written then.
        """
        records = self._taken(records)
        if getattr(records, "ndim", None) != 1:
            raise TypeError("emit_batch takes a one-dimensional array of records")
        if not records.flags.c_contiguous:
            records = records.copy()
        data = ffi.from_buffer(records)
        count = len(data) // self.layout.slot_bytes
        if count == 0:
            return 0
        pointer = ffi.cast("rb_record *", data)
        taken: int = hot.rb_emit_batch(self.producer, pointer, count)
        if taken == lib.RB_NO_RING:
            taken = self.retried(count, hot.rb_emit_batch, self.producer, pointer, count)
            if taken == lib.RB_NO_RING:
                return 0
        if taken < 0:
            raise ValueError(words(taken))
        if (
            taken < count
            or hot.rb_is_set_aside(self.producer)
            or hot.rb_lacks_doorbell(self.producer)
            or hot.rb_is_unread(self.producer)
        ):
            self.attend()
        return taken

    def fill_ids(self, records: np.ndarray[tuple[int], np.dtype[np.void]]) -> None:
        """Give a random id to every zero span id and zero trace id of an array, in place.

        Raises:
            TypeError: the array is of another dtype, not contiguous or not writable.
        """
        given, records = records, self._taken(records)
        try:
            data = ffi.from_buffer(records, require_writable=True)
        except (BufferError, ValueError):
            raise TypeError("fill_ids takes a contiguous array that may be written") from None
        count = len(data) // self.layout.slot_bytes
        hot.rb_fill_ids(self.producer, ffi.cast("rb_record *", data), count, self.layout.slot_bytes)
        if records is not given:
            try:
                given[...] = records
            except ValueError:
                raise TypeError("fill_ids takes a contiguous array that may be written") from None

    def _taken(self, records: Any) -> Any:
        """Return records as they lie in the ring; those that numpy has packed (`np.concatenate` does) are copied."""
        wanted, dtype = self.layout.dtype, getattr(records, "dtype", None)
        if dtype == wanted:
            return records
        if not _has_the_same_fields(dtype, wanted):
            raise TypeError(f"records of dtype {dtype}, where the emitter's layout has {self.layout!r}")
        import numpy as np  # noqa: PLC0415 - it is there: its records are

        copied = np.zeros(np.shape(records), wanted)  # zeros: what lies between the fields goes into the ring, too
        copied[...] = records
        return copied

    def site(
        self,
        name: str,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        constants: Mapping[str, Value] | None = None,
        varying: Sequence[str] = (),
    ) -> Site:
        """Bind what is constant where spans are emitted.

        Args:
            name: the span name.
            kind: a `SpanKind`, or OpenTelemetry's.
            constants: values by attribute key.
            varying: the keys whose values are given with each span, in this order.

        Raises:
            ValueError, TypeError: an unknown name or key, or a value that does not fit its attribute.
        """
        from ringbuf.sites.site import Site  # noqa: PLC0415 - where spans are OpenTelemetry's there are no sites

        return Site(self, name, constants or {}, varying, kind)


def _unpickled(cls: type[Emitter], mark: bytes, layout: SpanLayout, settings: RingSettings, closed: bool) -> Emitter:
    found = PROCESS_RINGS.get(mark)
    return found if isinstance(found, Emitter) else cls.anew(mark, layout, settings, closed=closed)


def _shared_unpickled(mark: bytes, layout: SpanLayout, settings: RingSettings, closed: bool) -> Emitter:
    """Return the shared emitter where another process has pickled its own: settings go with it, unless it has some."""
    found = SHARED.get(None)
    if found is None:
        found = SHARED.setdefault(None, Emitter.anew(mark, layout, settings, closed=closed))
    found.adopt(layout, settings)
    return found


# One entry at most. A dict's setdefault is atomic, and unlike a lock no thread that a fork left out can hold it.
SHARED: Final[dict[None, Emitter]] = {}
"""The emitter that the whole process shares: `ringbuf.shared` makes it."""


def _layout_or_default(layout: SpanLayout | None) -> SpanLayout:
    if layout is not None:
        return layout
    from ringbuf.phase219 import DATAPLANE_LAYOUT  # noqa: PLC0415 - a program with a layout of its own has no need of it

    return DATAPLANE_LAYOUT


def _has_the_same_fields(dtype: Any, wanted: np.dtype[np.void]) -> bool:
    names = getattr(dtype, "names", None)
    return names == wanted.names and all(dtype[name] == wanted[name] for name in wanted.names or ())
