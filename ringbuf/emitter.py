"""Emitter: one process's ring, from its making to its close, and the doors for whole records."""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self

from ringbuf._hot import lib as hot
from ringbuf._ringbuf import ffi, lib
from ringbuf.emitter_stats import EmitterStats
from ringbuf.exceptions import RingBufferError, RingCreateError
from ringbuf.layout.layout import SpanLayout
from ringbuf.log import logger, wait_until_told, warn_aside
from ringbuf.producer import new_producer
from ringbuf.ring_settings import DEFAULT_CAPACITY, RingSettings, is_required, open_ring
from ringbuf.sampling import RootSampler, is_root_sampled, root_sampler
from ringbuf.status import SpanKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from ringbuf.layout.value import Value
    from ringbuf.resource import AttributeValue
    from ringbuf.site import Site

__all__ = ["Emitter", "EmitterStats"]

WRITTEN: Final = 1
_PUBLIC: Final = frozenset(
    {"close", "closed", "emit", "emit_batch", "fill_ids", "layout", "open", "site", "stats", "wait_drained"}
)
# A process that cannot have a ring asks again at most this often: each try costs system calls where spans are emitted.
_RETRY_SECONDS: Final = 1.0

# Those of this process by their mark, to close them at exit and to know one that comes back from a pickle.
_emitters: Final[weakref.WeakValueDictionary[bytes, Emitter]] = weakref.WeakValueDictionary()


class Emitter:
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
            layout,
            RingSettings(
                service_name, dict(resource_attributes or {}), ring_dir, capacity, lanes, mode, emit_unsampled
            ),
        )
        self._open_or_tell()

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
        emitter._begin(layout, settings or RingSettings())  # noqa: SLF001 - our own
        emitter._warn = warn or _warn_of_no_ring  # noqa: SLF001 - our own
        return emitter

    def _begin(self, layout: SpanLayout | None, settings: RingSettings, mark: bytes | None = None) -> None:
        self.producer, self.owner = new_producer()
        self._take_layout(layout if layout is not None else _dataplane_layout())
        self.sites: dict[Any, Any] = {}  # made for doors that look theirs up
        self._settings = settings
        self._path: Path | None = None
        self._tried = (0, 0.0)  # pid and monotonic time of the last making
        # By pid, the thread that makes a ring. No lock: a fork would leave the child one that is held for ever.
        self._makers: dict[int, tuple[int, object]] = {}
        self._next_look = 0.0  # monotonic time from which ring and doorbell may be looked for
        self._warned_in = 0  # pid that was told that it has no ring
        self._warn: Callable[[Exception], None] = _warn_of_no_ring
        self._has_told_of_drops = False
        self.is_bound = False  # whether sites rely on the layout
        self.root_sampler: RootSampler | None = None  # read when a ring is made
        self.closed = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
        if self.closed:
            lib.rb_close(self.producer)
        self._mark = mark or os.urandom(16)
        _emitters[self._mark] = self

    def __reduce__(self) -> tuple[Callable[..., Emitter], tuple[Any, ...]]:
        """Pickle as what a process that is spawned needs to make its own ring, at its first span.

        Where the emitter itself is known (here, and in a forked child) it comes back as it is.
        """
        from ringbuf import shared  # noqa: PLC0415 - it imports this module

        made = (self._mark, self.layout, self._settings, self.closed)
        return (shared.unpickled, made) if shared.SHARED.get(None) is self else (_unpickled, (type(self), *made))

    @classmethod
    def anew(cls, mark: bytes, layout: SpanLayout, settings: RingSettings, *, closed: bool) -> Self:
        """Return the emitter that a process has pickled, without a ring as yet; the same for the same mark."""
        emitter = cls.__new__(cls)
        emitter._begin(layout, settings, mark)  # noqa: SLF001 - our own
        if closed:
            emitter.close()
        return emitter

    def adopt(self, layout: SpanLayout, settings: RingSettings) -> None:
        """Take over what another process has configured, unless this one is configured, or sites rely on its layout."""
        may_be_laid_out = not self.is_bound or layout == self.layout
        if self._settings == RingSettings() and not self._counts().is_open and may_be_laid_out:
            self._take_layout(layout)
            self._settings = settings

    def configure(self, layout: SpanLayout | None, settings: RingSettings) -> None:
        """Give an emitter without a ring (`unopened`, or inherited by a fork) what the constructor would, and a ring.

        Raises:
            RuntimeError: it has a ring already, or sites were bound to it for another layout.
            ValueError, TypeError, RingCreateError: as the constructor.
        """
        if self._counts().is_open:
            raise RuntimeError("the shared emitter has a ring already: configure it once, before its first span")
        if layout is not None and layout != self.layout:
            if self.is_bound:
                raise RuntimeError("sites of another layout are bound to the shared emitter already")
            self._take_layout(layout)
        self._settings = settings
        self._open_or_tell()

    def _take_layout(self, layout: SpanLayout) -> None:
        if not isinstance(layout, SpanLayout):
            raise TypeError(f"layout: {layout!r} is no SpanLayout")
        self.layout = layout
        self._slot_type = ffi.typeof(f"uint8_t[{layout.slot_bytes}]")

    # ---- the ring's life ----

    def open(self) -> None:
        """Make a ring; one that is there already is left to the drain.

        Raises:
            ValueError, TypeError, RingCreateError: as the constructor.
        """
        self.root_sampler = root_sampler()
        self._path = open_ring(self.producer, self._settings, self.layout, self.root_sampler)
        # Later rings go where the first one is, whatever becomes the working directory.
        self._settings = replace(self._settings, ring_dir=self._path.parent)
        self._has_told_of_drops = False  # a forked child has its own to tell of

    def _open_or_tell(self) -> None:
        """Make a ring at the beginning; where that cannot be, the program goes on without, unless it says otherwise."""
        if self.closed:
            return
        try:
            self.open()
        except RingCreateError as error:
            self._tried = (os.getpid(), time.monotonic())
            if is_required() and not self.closed:  # by the interpreter's end, while another thread was here
                raise
            self._tell_of_no_ring(os.getpid(), error)

    def _tell_of_no_ring(self, pid: int, error: Exception) -> None:
        if self._warned_in == pid or self.closed:
            return
        self._warned_in = pid
        if self.has_ring():
            error = RingCreateError(f"{self._path} was removed, what it still takes is lost: {error}")
        self._warn(error)

    def recover(self) -> bool:
        """Make a ring where a door found none, or one set aside or removed; at most once a second, never raising.

        A thread that comes while another makes it waits for that one: else it would lose its first spans.

        Returns:
            Whether there is a ring now.
        """
        pid = os.getpid()
        mine = (threading.get_ident(), object())
        maker = self._makers.setdefault(pid, mine)
        if maker is not mine:
            # A signal handler cannot wait for the code that it interrupted.
            return maker[0] != mine[0] and self._wait_for(pid, maker)
        try:
            return self._recover(pid)
        finally:
            self._makers.pop(pid, None)

    def _wait_for(self, pid: int, maker: tuple[int, object]) -> bool:
        end = time.monotonic() + _RETRY_SECONDS
        while self._makers.get(pid) is maker:
            if time.monotonic() > end:
                return False
            time.sleep(0.0002)
        return self.has_ring()

    def has_ring(self) -> bool:
        """Return whether there is a ring in this process."""
        try:
            return bool(self._counts().is_open)
        except RingBufferError:  # held by a thread that opens it for a second already
            return False

    def _recover(self, pid: int) -> bool:
        tried_in, tried_at = self._tried
        if self.closed:
            return False
        if tried_in == pid and time.monotonic() - tried_at < _RETRY_SECONDS:
            return self.has_ring()  # made since the caller looked, perhaps
        self._tried = (pid, time.monotonic())
        try:
            self.open()
        except Exception as error:  # noqa: BLE001 - a MemoryError, too: the application goes on without a ring
            self._tell_of_no_ring(pid, error)
            return False
        return True

    def samples_root(self, trace_id: bytes) -> bool:
        """Return whether the sampler wants the root of a trace; a ring is made to know it."""
        if self.root_sampler is None:
            self.recover()
        return self.root_sampler is None or is_root_sampled(trace_id, self.root_sampler)

    def settle(self, result: int, again: Any, *arguments: Any) -> bool:
        """Return what a door returns when C said anything but 1, see ringbuf.h.

        Args:
            result: what the C function returned.
            again: that function; called once more when a ring could be made.
            arguments: its arguments.

        Raises:
            ValueError: for a programming error: a zero id, a record out of bounds, an unknown outcome.
        """
        if result == lib.RB_NO_RING:
            result = again(*arguments) if self.recover() else result
            if result == lib.RB_NO_RING:
                hot.rb_count_local(self.producer, 1)
                return False
        if result < 0:
            raise ValueError(_words(result))
        if result > WRITTEN:
            self.attend()
        elif result != WRITTEN:
            self._tell_of_drops()
        return bool(result & WRITTEN)

    def attend(self) -> None:
        """Do what a door found to be done.

        Say once that spans are dropped; make another ring where this is set aside or removed, else find the doorbell.
        """
        self._tell_of_drops()
        if hot.rb_is_set_aside(self.producer):
            self.recover()
        elif self._path is not None and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _RETRY_SECONDS
            if lib.rb_is_removed(self.producer):
                self.recover()
            else:
                lib.rb_find_doorbell(self.producer, os.fsencode(self._path.parent))

    def _tell_of_drops(self) -> None:
        if self._has_told_of_drops or not hot.rb_dropped(self.producer):
            return
        self._has_told_of_drops = True
        warn_aside(
            "spans of process %d are dropped: no slot of %s is free; is a drain running (ringbuf-drain --ring-dir %s)? "
            "This is told once, EmitterStats counts on",
            os.getpid(), self._path, _quoted(self._path),
        )  # fmt: skip

    def close(self) -> None:
        """End the ring: threads that still emit get False from now on, and the drain removes it when it is empty.

        A ring that never had a span, and that no drain reads, is removed here: short processes would leave theirs.
        """
        if self.closed:
            return
        is_set_aside = hot.rb_is_set_aside(self.producer)  # a drain has them, and has said so
        is_removed = lib.rb_is_removed(self.producer)
        self.closed = True
        try:
            ringless = self._counts().local  # what comes after the close is nobody's loss
            is_whole = lib.rb_close(self.producer) == lib.RB_OK
            stats = self.stats()
        except RingBufferError:  # another thread makes a ring for a second already
            lib.rb_close(self.producer)
            return
        if is_whole and not is_removed and not stats.published + stats.unsampled + stats.full + stats.contended:
            _remove_ring(stats)
        _tell_of_losses(stats, ringless)
        if not stats.pending or stats.drain_attached or is_set_aside:
            return
        if is_removed:
            logger.warning(
                "%s was removed with %d spans that no drain had taken: they are lost", stats.path, stats.pending
            )
        else:
            logger.warning(
                "%s is closed with %d spans that no drain has taken: start one (ringbuf-drain --ring-dir %s)",
                stats.path,
                stats.pending,
                _quoted(stats.path),
            )

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

    # ---- doors for whole records ----

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
        if taken == lib.RB_NO_RING and self.recover():
            taken = hot.rb_emit_batch(self.producer, pointer, count)
        if taken == lib.RB_NO_RING:
            hot.rb_count_local(self.producer, count)
            return 0
        if taken < 0:
            raise ValueError(_words(taken))
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
        from ringbuf.site import Site  # noqa: PLC0415 - it imports this module

        return Site(self, name, constants or {}, varying, kind)

    # ---- looking ----

    def stats(self) -> EmitterStats:
        """Return the counts of this process, over all rings that it had."""
        if lib.rb_is_removed(self.producer):
            self.recover()
        return EmitterStats.of(self._counts(), self._path)

    def _counts(self) -> Any:
        """Return an `rb_producer_stats *`; in a forked child all begins at zero, whatever Python has inherited."""
        counts = ffi.new("rb_producer_stats *")
        if lib.rb_stats(self.producer, counts) != lib.RB_OK:
            raise RingBufferError(_words(lib.RB_BUSY))
        return counts

    def wait_drained(self, timeout: float) -> bool:
        """Wait until a drain has taken everything that this process has published in its present ring.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether nothing is pending. False at once, when the ring is removed or set aside with spans in it: what
            becomes of those cannot be seen from here.
        """
        end = time.monotonic() + timeout
        pause = 0.001
        path = self._path
        counts = self._counts()
        if not counts.pending:
            return True
        while counts.pending and self._is_still_at(path):
            left = end - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(2 * pause, 0.02)
            counts = self._counts()
        return self._is_still_at(path)

    def _is_still_at(self, path: Path | None) -> bool:
        """Whether the ring is the one that was made at `path`, and neither removed nor replaced there."""
        return self._path is path and not lib.rb_is_removed(self.producer)


@atexit.register
def _close_at_exit() -> None:
    wait_until_told(_RETRY_SECONDS)
    for reference in _emitters.valuerefs():
        emitter = reference()
        if emitter is not None:
            emitter.close()


def _warn_of_no_ring(error: Exception) -> None:
    warn_aside("no ring in process %d, spans are counted as local: %s", os.getpid(), str(error))


def _quoted(path: Path | None) -> str:
    """Return the directory of a ring as a shell takes it."""
    import shlex  # noqa: PLC0415 - for a warning that is rare

    return shlex.quote(str(path.parent)) if path else ""


def _remove_ring(stats: EmitterStats) -> None:
    """Remove a ring that never had a span, unless a drain reads it: then that does."""
    # Of a ring that a forked child has inherited, its own stats have no path.
    if stats.path is None or stats.drain_attached:
        return
    with suppress(OSError):  # gone, or in the hands of a drain that will remove it
        stats.path.unlink()


def _tell_of_losses(stats: EmitterStats, ringless: int) -> None:
    lost = stats.full + stats.contended + ringless
    if lost:
        logger.warning(
            "%d of %d spans of process %d were dropped: %d found the ring full, %d in use, %d no ring",
            lost, stats.attempts, os.getpid(), stats.full, stats.contended, ringless,
        )  # fmt: skip


def _unpickled(cls: type[Emitter], mark: bytes, layout: SpanLayout, settings: RingSettings, closed: bool) -> Emitter:
    found = _emitters.get(mark)
    return found if found is not None else cls.anew(mark, layout, settings, closed=closed)


def _dataplane_layout() -> SpanLayout:
    from ringbuf.dataplane import DATAPLANE_LAYOUT  # noqa: PLC0415 - it imports this module

    return DATAPLANE_LAYOUT


def _has_the_same_fields(dtype: Any, wanted: np.dtype[np.void]) -> bool:
    names = getattr(dtype, "names", None)
    return names == wanted.names and all(dtype[name] == wanted[name] for name in wanted.names or ())


def _words(status: int) -> str:
    return str(ffi.string(lib.rb_strerror(status)).decode())
