"""Emitter: one process's ring, from its making to its close, and the doors for whole records."""

from __future__ import annotations

import atexit
import errno
import os
import sys
import threading
import time
import weakref
from dataclasses import dataclass, field, replace
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from ringbuf import __version__
from ringbuf._hot import lib as hot
from ringbuf._ringbuf import ffi, lib
from ringbuf.directory import DEFAULT_MAX_BYTES, GROUP_MODE, check_room, default_ring_dir, ensure_ring_dir
from ringbuf.exceptions import RingBufferError, RingCreateError
from ringbuf.layout import SpanLayout
from ringbuf.producer import new_producer
from ringbuf.resource import AttributeValue, build_resource, resource_to_json
from ringbuf.sampling import is_root_sampled, root_sampling_bound

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from ringbuf.site import Site

__all__ = ["Emitter", "EmitterStats"]

WRITTEN: Final = 1
DEFAULT_CAPACITY: Final = 8192
_ALWAYS: Final = 1 << 64
_PRIVATE_MODE: Final = 0o600
_MAX_LANES_BY_DEFAULT: Final = 8
# A process that cannot have a ring asks again at most this often: each try costs system calls where spans are emitted.
_RETRY_SECONDS: Final = 1.0
_ADVICE: Final = {
    errno.ENOSPC: "the file system is full: free room in it, or give the emitter a smaller capacity",
    errno.EACCES: "the directory may not be written by this user: set RINGBUF_DIR to one that may",
    errno.EPERM: "the directory may not be written by this user: set RINGBUF_DIR to one that may",
    errno.EOPNOTSUPP: "the file system has no O_TMPFILE: use a tmpfs such as /dev/shm",
    errno.EISDIR: "the file system has no O_TMPFILE: use a tmpfs such as /dev/shm",
    errno.EFBIG: "RLIMIT_FSIZE is below the ring's size: raise it, or give the emitter a smaller capacity",
    errno.EMFILE: "this process has no file descriptor left",
    errno.ENOMEM: "memory is short: give the emitter a smaller capacity",
}

_logger = getLogger("ringbuf")

# Those to close at exit, by their id: an emitter that is gone leaves no entry.
_at_exit: Final[weakref.WeakValueDictionary[int, Emitter]] = weakref.WeakValueDictionary()


@dataclass(frozen=True, slots=True)
class EmitterStats:
    """What an emitter did in this process: the producer's side of the conservation law, in spans.

    Attributes:
        attempts: `local + unsampled + full + contended + oversized + published`.
        published: written to a ring.
        unsampled: not written because the parent or the sampler said so.
        full: dropped because every lane was full, or the last that was tried.
        contended: dropped because every lane was in use by another thread.
        oversized: dropped because the span does not fit a slot.
        local: dropped without a ring, or after the close.
        truncated: values (not spans) that were cut to their field.
        pending: published in the present ring and not yet taken by a drain.
        capacity: slots of the present ring, 0 without one.
        drain_attached: whether a drain reads the present ring (or was killed while it did).
        path: the present ring's file, None without one.
    """

    attempts: int
    published: int
    unsampled: int
    full: int
    contended: int
    oversized: int
    local: int
    truncated: int
    pending: int
    capacity: int
    drain_attached: bool
    path: Path | None


@dataclass(frozen=True, slots=True)
class _Settings:
    """The constructor's arguments, kept for the rings that are made later."""

    service_name: str | None = None
    resource_attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    ring_dir: str | os.PathLike[str] | None = None
    capacity: int = DEFAULT_CAPACITY
    lanes: int | None = None
    mode: int | None = None
    emit_unsampled: bool = False


class Emitter:
    """The ring of this process, and the doors to it. A forked child gets a ring of its own at its first emit.

    Emitting never blocks and never raises for conditions: a span that cannot be kept is counted, and the door returns
    False. All methods may be called from any thread.

    Args:
        service_name: `service.name` of the resource; None: OTEL_SERVICE_NAME, then OTEL_RESOURCE_ATTRIBUTES.
        resource_attributes: further attributes of the resource: str, bool, int, float or a sequence of one of them.
        ring_dir: where the ring is made; None: RINGBUF_DIR, then `/dev/shm/ringbuf-<uid>`.
        layout: the schema of the records; None: `ringbuf.dataplane.DATAPLANE_LAYOUT`.
        capacity: slots per lane, a power of two from 4 to 2**24.
        lanes: 1 to 64; None: one where the interpreter has a GIL, else one per processor, at most 8.
        mode: of the file, 0o600, or 0o660 in the group form; None: RINGBUF_MODE (octal), then 0o600.
        emit_unsampled: write unsampled spans too, without the sampled flag.

    Raises:
        ValueError, TypeError: an argument that cannot be; the message names it.
        RingCreateError: the ring cannot be made; the message says what to do.

    With OTEL_SDK_DISABLED=true no ring is made, and every span counts as local.

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
            _Settings(service_name, dict(resource_attributes or {}), ring_dir, capacity, lanes, mode, emit_unsampled),
        )
        if not self.closed:
            try:
                self.open()
            except RingCreateError:
                if not self.closed:  # by the interpreter's end, while another thread was here
                    raise

    @classmethod
    def unopened(cls) -> Self:
        """Return an emitter that makes its ring, from the environment alone, at its first span."""
        emitter = cls.__new__(cls)
        emitter._begin(None, _Settings())  # noqa: SLF001 - our own
        return emitter

    def _begin(self, layout: SpanLayout | None, settings: _Settings) -> None:
        self.producer, self.owner = new_producer()
        self._take_layout(layout if layout is not None else _dataplane_layout())
        self.sites: dict[Any, Any] = {}  # made for doors that look theirs up
        self._settings = settings
        self._path: Path | None = None
        self._inode: tuple[int, int] | None = None
        self._tried = (0, 0.0)  # pid and monotonic time of the last making
        # By pid, the thread that makes a ring. No lock: a fork would leave the child one that is held for ever.
        self._makers: dict[int, tuple[int, object]] = {}
        self._next_search = 0.0  # monotonic time from which the doorbell may be looked for
        self._warned_in = 0  # pid
        self.is_bound = False  # whether sites rely on the layout
        self.root_bound: int | None = None  # of the sampler, read when a ring is made
        self.closed = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
        if self.closed:
            lib.rb_close(self.producer)
        _at_exit[id(self)] = self

    def configure(
        self,
        service_name: str | None,
        *,
        layout: SpanLayout | None = None,
        resource_attributes: Mapping[str, AttributeValue] | None = None,
        ring_dir: str | os.PathLike[str] | None = None,
        capacity: int = DEFAULT_CAPACITY,
        lanes: int | None = None,
        mode: int | None = None,
        emit_unsampled: bool = False,
    ) -> None:
        """Give an emitter without a ring (`unopened`, or inherited by a fork) the constructor's arguments and a ring.

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
        self._settings = _Settings(
            service_name, dict(resource_attributes or {}), ring_dir, capacity, lanes, mode, emit_unsampled
        )
        self.open()

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
        settings = self._settings
        ring_dir = (default_ring_dir() if settings.ring_dir is None else Path(settings.ring_dir)).absolute()
        ensure_ring_dir(ring_dir)
        check_room(ring_dir, _max_bytes())
        resource = build_resource(settings.service_name, settings.resource_attributes, version=__version__)
        resource_json = resource_to_json(resource)
        layout_json = self.layout.to_json()
        self.root_bound = root_sampling_bound()
        # The config only points to these: they must live until rb_open returns.
        strings = [
            ffi.new("char[]", text)
            for text in (os.fsencode(ring_dir), str(resource["service.name"]).encode(), layout_json, resource_json)
        ]
        config = ffi.new(
            "rb_config *",
            {
                "ring_dir": strings[0],
                "service_name": strings[1],
                "layout_json": strings[2],
                "resource_json": strings[3],
                "layout_bytes": len(layout_json),
                "resource_bytes": len(resource_json),
                "slot_bytes": self.layout.slot_bytes,
                "span_name_count": len(self.layout.span_names),
                "lane_count": _in_range(
                    "lanes", _default_lanes() if settings.lanes is None else settings.lanes, 1, lib.RB_MAX_LANES
                ),
                "capacity_slots": _power_of_two("capacity", settings.capacity),
                "file_mode": _file_mode(settings.mode),
                "emit_unsampled": settings.emit_unsampled,
                "root_always": self.root_bound == _ALWAYS,
                "root_bound": self.root_bound % _ALWAYS,
            },
        )
        path = ffi.new("char[]", lib.RB_MAX_PATH_BYTES)
        error = ffi.new("rb_error *")
        status = lib.rb_open(self.producer, config, path, error)
        if status != lib.RB_OK:
            raise _create_error(ring_dir, error)
        # Later rings go where the first one is, whatever becomes the working directory.
        self._settings = replace(settings, ring_dir=ring_dir)
        self._path = Path(os.fsdecode(ffi.string(path)))
        found = self._path.stat()
        self._inode = (found.st_dev, found.st_ino)

    def recover(self) -> bool:
        """Make a ring where a door found none or one that the drain set aside; at most once a second, never raising.

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
        return self._has_ring()

    def _has_ring(self) -> bool:
        try:
            return bool(self._counts().is_open)
        except RingBufferError:  # held by a thread that opens it for a second already
            return False

    def _recover(self, pid: int) -> bool:
        tried_in, tried_at = self._tried
        if self.closed:
            return False
        if tried_in == pid and time.monotonic() - tried_at < _RETRY_SECONDS:
            return self._has_ring()  # made since the caller looked, perhaps
        self._tried = (pid, time.monotonic())
        try:
            self.open()
        except (RingBufferError, ValueError, TypeError, OSError) as error:
            if self._warned_in != pid and not self.closed:
                self._warned_in = pid
                _logger.warning("no ring in process %d, spans are counted as local: %s", pid, error)
            return False
        return True

    def samples_root(self, trace_id: bytes) -> bool:
        """Return whether the sampler wants the root of a trace; a ring is made to know it."""
        if self.root_bound is None:
            self.recover()
        return self.root_bound is None or is_root_sampled(trace_id, self.root_bound)

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
        return bool(result & WRITTEN)

    def attend(self) -> None:
        """Do what a door found to be done: another ring where the drain set this one aside, else find its doorbell."""
        if hot.rb_is_set_aside(self.producer):
            self.recover()
        elif self._path is not None and time.monotonic() >= self._next_search:
            self._next_search = time.monotonic() + _RETRY_SECONDS
            lib.rb_find_doorbell(self.producer, os.fsencode(self._path.parent))

    def close(self) -> None:
        """End the ring: threads that still emit get False from now on, and the drain removes it when it is empty."""
        if self.closed:
            return
        self.closed = True
        lib.rb_close(self.producer)
        stats = self.stats()
        if stats.pending and not stats.drain_attached:
            _logger.warning(
                "%s is closed with %d spans that no drain has taken: start one (ringbuf-drain --ring-dir %s)",
                stats.path,
                stats.pending,
                stats.path.parent if stats.path else "",
            )

    def __enter__(self) -> Self:
        return self

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
            self._check_dtype(record)
        if getattr(record, "shape", None) != ():
            raise TypeError("emit takes one record; emit_batch takes an array of them")
        # As many bytes as a slot has, whatever the object says of itself.
        pointer = ffi.cast("rb_record *", ffi.from_buffer(self._slot_type, record))
        result = hot.rb_emit(self.producer, pointer)
        return bool(result) and (result == WRITTEN or self.settle(result, hot.rb_emit, self.producer, pointer))

    def emit_batch(self, records: np.ndarray[tuple[int], np.dtype[np.void]]) -> int:
        """Write the longest prefix that fits, and return its length; the rest is counted as dropped.

        Unsampled records of the prefix are counted as such and take no slot.

        Args:
            records: a one-dimensional array of this emitter's layout, with ids (see `fill_ids`).

        Raises:
            TypeError: it is of another dtype.
            ValueError: one record is as `emit` refuses it; nothing is written then.
        """
        self._check_dtype(records)
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
        if hot.rb_is_set_aside(self.producer) or hot.rb_lacks_doorbell(self.producer):
            self.attend()
        return taken

    def fill_ids(self, records: np.ndarray[tuple[int], np.dtype[np.void]]) -> None:
        """Give a random id to every zero span id and zero trace id of an array, in place.

        Raises:
            TypeError: the array is of another dtype, not contiguous or not writable.
        """
        self._check_dtype(records)
        try:
            data = ffi.from_buffer(records, require_writable=True)
        except (BufferError, ValueError):
            raise TypeError("fill_ids takes a contiguous array that may be written") from None
        count = len(data) // self.layout.slot_bytes
        hot.rb_fill_ids(self.producer, ffi.cast("rb_record *", data), count, self.layout.slot_bytes)

    def _check_dtype(self, records: Any) -> None:
        dtype = getattr(records, "dtype", None)
        if dtype != self.layout.dtype:
            raise TypeError(f"records of dtype {dtype}, where the emitter's layout has {self.layout!r}")

    def site(self, name: str, *, constants: Mapping[str, object] | None = None, varying: Sequence[str] = ()) -> Site:
        """Bind what is constant where spans are emitted.

        Args:
            name: the span name.
            constants: values by attribute key.
            varying: the keys whose values are given with each span, in this order.

        Raises:
            ValueError, TypeError: an unknown name or key, or a value that does not fit its attribute.
        """
        from ringbuf.site import Site  # noqa: PLC0415 - it imports this module

        return Site(self, name, constants or {}, varying)

    # ---- looking ----

    def stats(self) -> EmitterStats:
        """Return the counts of this process, over all rings that it had."""
        counts = self._counts()
        if self._is_ring_gone(counts) and self.recover():
            counts = self._counts()
        return EmitterStats(
            attempts=counts.published
            + counts.full
            + counts.contended
            + counts.oversized
            + counts.unsampled
            + counts.local,
            published=counts.published,
            unsampled=counts.unsampled,
            full=counts.full,
            contended=counts.contended,
            oversized=counts.oversized,
            local=counts.local,
            truncated=counts.truncated,
            pending=counts.pending,
            capacity=counts.capacity_slots,
            drain_attached=counts.consumer_state == lib.RB_CONSUMER_ATTACHED,
            path=self._path if counts.capacity_slots else None,
        )

    def _counts(self) -> Any:
        """Return an `rb_producer_stats *`; in a forked child all begins at zero, whatever Python has inherited."""
        counts = ffi.new("rb_producer_stats *")
        if lib.rb_stats(self.producer, counts) != lib.RB_OK:
            raise RingBufferError(_words(lib.RB_BUSY))
        return counts

    def _is_ring_gone(self, counts: Any) -> bool:
        """Whether the file was removed or replaced while we write to it: then no drain will ever find it."""
        if self._path is None or self.closed or not counts.is_open:
            return False
        try:
            found = self._path.stat()
        except OSError:
            return True
        return (found.st_dev, found.st_ino) != self._inode

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
        inode = self._inode
        counts = self._counts()
        if not counts.pending:
            return True
        while counts.pending and not self._is_ring_gone(counts) and self._inode == inode:
            left = end - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(2 * pause, 0.02)
            counts = self._counts()
        return not self._is_ring_gone(counts) and self._inode == inode


@atexit.register
def _close_at_exit() -> None:
    for reference in _at_exit.valuerefs():
        emitter = reference()
        if emitter is not None:
            emitter.close()


def _dataplane_layout() -> SpanLayout:
    from ringbuf.dataplane import DATAPLANE_LAYOUT  # noqa: PLC0415 - it imports this module

    return DATAPLANE_LAYOUT


def _default_lanes() -> int:
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)
    if has_gil():
        return 1
    return min(len(os.sched_getaffinity(0)), _MAX_LANES_BY_DEFAULT)


def _max_bytes() -> int:
    text = os.environ.get("RINGBUF_MAX_BYTES") or DEFAULT_MAX_BYTES
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"RINGBUF_MAX_BYTES: {text!r} is no number of bytes") from None


def _in_range(name: str, value: int, low: int, high: int) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{name}: {value!r} is no int")
    if not low <= value <= high:
        raise ValueError(f"{name}: {value} is not between {low} and {high}")
    return value


def _power_of_two(name: str, value: int) -> int:
    _in_range(name, value, lib.RB_MIN_CAPACITY_SLOTS, lib.RB_MAX_CAPACITY_SLOTS)
    if value & (value - 1):
        raise ValueError(f"{name}: {value} is no power of two")
    return value


def _file_mode(mode: int | None) -> int:
    if mode is None:
        text = os.environ.get("RINGBUF_MODE") or "600"
        try:
            mode = int(text, 8)
        except ValueError:
            raise ValueError(f"RINGBUF_MODE: {text!r} is no octal number") from None
    if not isinstance(mode, int):
        raise TypeError(f"mode: {mode!r} is no int")
    if mode not in (_PRIVATE_MODE, GROUP_MODE):
        raise ValueError(f"mode: {mode:#o}; a ring is 0o600, or 0o660 in the group form")
    return mode


def _words(status: int) -> str:
    return str(ffi.string(lib.rb_strerror(status)).decode())


def _create_error(ring_dir: Path, error: Any) -> Exception:
    detail = ffi.string(error.detail).decode(errors="replace")
    if error.status == lib.RB_E_ARGUMENT:
        return ValueError(detail)
    advice = _ADVICE.get(error.os_errno)
    return RingCreateError(f"{ring_dir}: {detail}" + (f"; {advice}" if advice else ""))
