"""ProcessRing: the ring of a process, from its making to its close, over forks, removals and other drains.

    no ring ── open, recover ──► open ── set aside by a drain, or its file removed ──► recover: another one
       ▲                          │ │
       └── fork: in the child ────┘ └── close ──► closed: for good

Only one thread makes a ring; whoever comes meanwhile waits for it, but a signal handler does not.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from ringbuf._hot import lib as hot
from ringbuf._ringbuf import ffi, lib
from ringbuf.environment import is_true
from ringbuf.exceptions import RingBufferError, RingCreateError
from ringbuf.layout.layout import SpanLayout
from ringbuf.log import logger, wait_until_told, warn_aside
from ringbuf.ring.emitter_stats import EmitterStats
from ringbuf.ring.producer import new_producer
from ringbuf.ring.settings import RingSettings, is_required, open_ring, ring_dir_of
from ringbuf.sampling import RootSampler, is_root_sampled, root_sampler
from ringbuf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["PROCESS_RINGS", "WRITTEN", "ProcessRing", "warn_of_no_ring", "words"]

WRITTEN: Final = 1
# A process that cannot have a ring asks again at most this often: each try costs system calls where spans are emitted.
_RETRY_SECONDS: Final = 1.0

PROCESS_RINGS: Final[weakref.WeakValueDictionary[bytes, ProcessRing]] = weakref.WeakValueDictionary()
"""Those of this process by their mark, to close them at exit and to know one that comes back from a pickle."""


class ProcessRing:
    """The ring of this process; a forked child gets one of its own at its first span. `Emitter` has the doors to it.

    Args:
        layout: the schema of the records.
        settings: of the ring.
        mark: of one that was pickled, 16 bytes; None: a new one.

    Attributes:
        producer: the `rb_producer *`.
        owner: keeps the producer's state for as long as it is referred to.
        layout: the schema of the records.
        sites: made for doors that look theirs up.
        is_bound: whether sites rely on the layout.
        closed: whether it was closed, or is disabled by OTEL_SDK_DISABLED.
        root_sampler: of a process that has made a ring.
    """

    def _begin(self, layout: SpanLayout, settings: RingSettings, mark: bytes | None = None) -> None:
        self.producer, self.owner = new_producer()
        self._take_layout(layout)
        self.sites: dict[Any, Any] = {}  # made for doors that look theirs up
        self._settings = settings
        self._path: Path | None = None
        self._tried = (0, 0.0)  # pid and monotonic time of the last making
        # By pid, the thread that makes a ring. No lock: a fork would leave the child one that is held for ever.
        self._makers: dict[int, tuple[int, object]] = {}
        self._next_look = 0.0  # monotonic time from which ring and doorbell may be looked for
        self._warned_in = 0  # pid that was told that it has no ring
        self._warn: Callable[[Exception], None] = warn_of_no_ring
        self._has_told_of_drops = False
        self.is_bound = False  # whether sites rely on the layout
        self.root_sampler: RootSampler | None = None  # read when a ring is made
        self.closed = is_true("OTEL_SDK_DISABLED")
        if self.closed:
            lib.rb_close(self.producer)
        self._mark = mark or os.urandom(16)
        PROCESS_RINGS[self._mark] = self

    def adopt(self, layout: SpanLayout, settings: RingSettings) -> None:
        """Take over what another process has configured, unless this one is configured, or sites rely on its layout."""
        may_be_laid_out = not self.is_bound or layout == self.layout
        if self._settings == RingSettings() and not self._counts().is_open and may_be_laid_out:
            self._take_layout(layout)
            self._settings = settings

    def configure(self, layout: SpanLayout | None, settings: RingSettings) -> None:
        """Give an emitter without a ring (`unopened`, or inherited by a fork) what the constructor would, and a ring.

        One whose ring was made by the same arguments stays as it is: a program's factory may run more than once.

        Raises:
            RuntimeError: it has a ring already by other arguments, or sites were bound to it for another layout.
            ValueError, TypeError, RingCreateError: as the constructor.
        """
        if self._counts().is_open:
            asked = replace(settings, ring_dir=ring_dir_of(settings))
            if layout in (None, self.layout) and asked == self._settings:
                return
            raise RuntimeError(
                "the shared emitter has a ring already, by other arguments: configure it once, before its first span, "
                "or close it first"
            )
        if layout is not None and layout != self.layout:
            if self.is_bound:
                raise RuntimeError("sites of another layout are bound to the shared emitter already")
            self._take_layout(layout)
        self._settings = settings
        self.open_or_tell()

    def _take_layout(self, layout: SpanLayout) -> None:
        if not isinstance(layout, SpanLayout):
            raise TypeError(f"layout: {layout!r} is no SpanLayout")
        self.layout = layout
        self._slot_type = ffi.typeof(f"uint8_t[{layout.slot_bytes}]")

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

    def open_or_tell(self) -> None:
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
        try:
            maker = self._makers.setdefault(pid, mine)
            if maker is mine:
                return self._recover(pid)
        finally:  # also where an interrupt comes right behind the first line: whoever came later would wait for nobody
            if self._makers.get(pid) is mine:
                del self._makers[pid]
        # A signal handler cannot wait for the code that it interrupted.
        return maker[0] != mine[0] and self._wait_for(pid, maker)

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

    def retried(self, count: int, again: Any, *arguments: Any) -> int:
        """Return what a door's C function says once a ring could be made; else RB_NO_RING, and its spans are counted.

        Args:
            count: of its spans.
            again: the C function.
            arguments: its arguments.
        """
        try:
            is_made = self.recover()
        except BaseException:  # an interrupt: it costs the spans
            hot.rb_count_local(self.producer, count)
            raise
        result: int = again(*arguments) if is_made else lib.RB_NO_RING
        if result == lib.RB_NO_RING:
            hot.rb_count_local(self.producer, count)
        return result

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
            result = self.retried(1, again, *arguments)
            if result == lib.RB_NO_RING:
                return False
        if result < 0:
            raise ValueError(words(result))
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
            lost = "it is lost" if stats.pending == 1 else "they are lost"
            logger.warning(
                "%s was removed with %s that no drain had taken: %s", stats.path, counted(stats.pending, "span"), lost
            )
        else:
            logger.warning(
                "%s is closed with %s that no drain has taken: start one (ringbuf-drain --ring-dir %s)",
                stats.path,
                counted(stats.pending, "span"),
                _quoted(stats.path),
            )

    def stats(self) -> EmitterStats:
        """Return the counts of this process, over all rings that it had."""
        if lib.rb_is_removed(self.producer):
            self.recover()
        return EmitterStats.of(self._counts(), self._path)

    def _counts(self) -> Any:
        """Return an `rb_producer_stats *`; in a forked child all begins at zero, whatever Python has inherited."""
        counts = ffi.new("rb_producer_stats *")
        if lib.rb_stats(self.producer, counts) != lib.RB_OK:
            raise RingBufferError(words(lib.RB_BUSY))
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
        if not lib.rb_wake_drain(self.producer) and path is not None:
            lib.rb_find_doorbell(self.producer, os.fsencode(path.parent))  # of a drain that came after the ring
            lib.rb_wake_drain(self.producer)
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
    for reference in PROCESS_RINGS.valuerefs():
        ring = reference()
        if ring is None:
            continue
        try:
            ring.close()
        except Exception as error:  # noqa: BLE001 - the others are closed all the same
            logger.warning("an emitter could not be closed: %s: %s", type(error).__name__, error)


def warn_of_no_ring(error: Exception) -> None:
    """Say why this process has no ring, from another thread."""
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
    reasons = {
        "found the ring full": stats.full,
        "found its lane in use": stats.contended,
        "had no ring": ringless,
    }
    lost = sum(reasons.values())
    if lost:
        logger.warning(
            "%d of %s of process %d dropped: %s",
            lost, counted(stats.attempts, "span"), os.getpid(),
            ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count),
        )  # fmt: skip


def words(status: int) -> str:
    """Return what an `enum rb_status` says."""
    return str(ffi.string(lib.rb_strerror(status)).decode())
