"""A ring that is looked at: mapped read-only, without a lock, beside its producer and its drain."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self
from urllib.parse import unquote

import numpy as np

from drain.accounting.sums import Sums
from ringbuf._ringbuf import ffi, lib
from ringbuf.exceptions import LayoutError, RingFormatError
from ringbuf.layout.layout import SpanLayout
from ringbuf.ring.attaching import attach, document, format_error
from ringbuf.ring.resource import SERVICE_NAME, resource_from_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from ringbuf.ring.resource import AttributeValue

OUTCOMES: Final = ("delivered", "spooled", "rejected", "dead_lettered", "invalid", "sampled_out")
"""The words of a lane that say what became of its records."""

COUNTERS: Final = ("full", "contended", "unsampled", "truncated", "invalid_values", *OUTCOMES)
"""The words of a lane that the tools show, beside its positions."""

_POSITIONS: Final = 1 << 64
_OPEN_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SCRATCH_BYTES: Final = 1 << 20
_BLOCK_BYTES: Final = 512  # of st_blocks
_STATES: Final = {
    lib.RB_CONSUMER_NONE: "none",
    lib.RB_CONSUMER_ATTACHED: "attached",
    lib.RB_CONSUMER_DETACHED: "set aside",
}


class Peeked(NamedTuple):
    """What a look at a lane gave.

    Attributes:
        records: array of the layout's dtype, one dimension; good until the next look at any lane of this ring.
        missed: records that the drain released before they could be looked at.
    """

    records: np.ndarray
    missed: int


class ObservedRing:
    """A ring that this process only looks at.

    Args:
        path: the file; links are not followed.

    Attributes:
        header: the `rb_header` as it was checked.
        uid: of the file's owner.
        views: what the last `poll` saw, an `rb_lane_view` for each lane.
        service: `service.name` of the resource.
        positions: by lane: where the next look begins; at first the oldest record that is not released.

    Raises:
        RingVersionError: a newer version of the format.
        RingFormatError: the file is no sound ring.
        OSError: it cannot be opened or mapped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, _OPEN_FLAGS)
        try:
            status = _checked_status(self._fd, path)
            self.uid = status.st_uid
            self._consumer: Any = attach(self._fd, lib.RB_OBSERVE, path)
        except BaseException:
            os.close(self._fd)
            raise
        try:
            self.header: Any = lib.rb_consumer_header(self._consumer)
            self.layout = self._read_layout()
            self.resource = self._read_resource()
            self.views: Any = ffi.new("rb_lane_view[]", self.header.lane_count)
            self._missed: Any = ffi.new("uint64_t *")
            self._position: Any = ffi.new("uint64_t *")
            self._memory: np.ndarray | None = None
            self.poll()
        except BaseException:
            self.close()
            raise
        service = self.resource.get(SERVICE_NAME)
        self.service = service if isinstance(service, str) else ""
        self.positions: list[int] = [view.released for view in self.views]

    @property
    def name(self) -> str:
        """The file's name without `.ring`: `<service, percent-encoded>-<pid>-<8 hex digits>`."""
        return self.path.name.removesuffix(".ring")

    @property
    def shown_name(self) -> str:
        """The name for people, the service in it decoded: every command takes it as it takes `name`."""
        return unquote(self.name)

    @property
    def lanes(self) -> range:
        """The indices of the lanes."""
        return range(self.header.lane_count)

    def poll(self) -> None:
        """Look at all lanes.

        Raises:
            RingFormatError: the file has lost pages.
        """
        ready = lib.rb_poll(self._consumer, self.views)
        if ready < 0:
            raise format_error(self.path, ready)

    def peek(self, lane: int, most: int | None = None) -> Peeked:
        """Look at records of a lane from `positions[lane]` on, which moves behind them; they stay where they are.

        Args:
            lane: which.
            most: how many at most; None: as many as fit a megabyte.

        Raises:
            RingFormatError: the file has lost pages, or positions that cannot be.
        """
        slot_bytes = self.header.slot_bytes
        if self._memory is None:
            self._memory = np.empty(max(_SCRATCH_BYTES // slot_bytes, 1) * slot_bytes, np.uint8)
        room = self._memory.size // slot_bytes
        self._position[0] = self.positions[lane]
        kept = lib.rb_peek(
            self._consumer,
            lane,
            self._position,
            ffi.from_buffer("char[]", self._memory),
            room if most is None else min(most, room),
            self._missed,
        )
        if kept < 0:
            raise format_error(self.path, kept)
        self.positions[lane] = self._position[0]
        return Peeked(self._memory[: kept * slot_bytes].view(self.layout.dtype), self._missed[0])

    def rest(self, lane: int) -> Iterator[Peeked]:
        """Look at a lane's records up to its tail as of the last poll: a producer may write faster than one reads.

        Raises:
            RingFormatError: as `peek`.
        """
        last = self.views[lane].tail
        while 0 < (left := (last - self.positions[lane]) % _POSITIONS) < _POSITIONS // 2:
            peeked = self.peek(lane, left)
            yield peeked
            if not len(peeked.records) and not peeked.missed:
                return

    def skip_to(self, lane: int, newest: int) -> int:
        """Move on in a lane to its `newest` last records, as of the last poll; return how many were passed over."""
        ahead = (self.views[lane].tail - self.positions[lane]) % _POSITIONS
        if not newest < ahead < _POSITIONS // 2:
            return 0
        self.positions[lane] = (self.positions[lane] + ahead - newest) % _POSITIONS
        return int(ahead - newest)

    def oldest_unix_nano(self) -> int | None:
        """Return when the oldest span that is not released ended; None without one.

        No span has waited for longer than the ring is there, whatever its record says.
        """
        ends: list[int] = []
        for lane in self.lanes:
            before = self.positions[lane]
            self.positions[lane] = self.views[lane].released
            try:
                ends += self.peek(lane, 1).records["end_unix_nano"].tolist()
            finally:
                self.positions[lane] = before
        return max(min(ends), int(self.header.created_unix_nano)) if ends else None

    @property
    def life(self) -> str:
        """`alive`, `closed` (by its producer, in good order) or `dead` (its producer is gone without that)."""
        if all(view.closed for view in self.views):
            return "closed"
        alive = lib.rb_producer_alive(self._fd)
        return "unknown" if alive < 0 else "alive" if alive else "dead"

    @property
    def drain(self) -> str:
        """`attached`, `none` or `set aside`, by the ring's own word; a killed drain leaves `attached`."""
        return _STATES.get(self.views[0].consumer_state, "unknown")

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode of the file, whatever its name stands for now."""
        status = os.fstat(self._fd)
        return status.st_dev, status.st_ino

    @property
    def is_named(self) -> bool:
        """Whether the file still has a name: the drain removes it when the ring has ended."""
        return os.fstat(self._fd).st_nlink > 0

    @property
    def process(self) -> str:
        """The name of the process that writes, as far as this machine and PID namespace know it, else empty."""
        if self.life == "dead":
            return ""
        folder = Path(f"/proc/{self.header.pid}")
        try:
            # In another PID namespace the number may be anybody's: at least it is to be the owner's.
            return (folder / "comm").read_text(errors="replace").strip() if folder.stat().st_uid == self.uid else ""
        except OSError:
            return ""

    @property
    def pending(self) -> int:
        """Records that are not released, as of the last poll."""
        return sum((view.tail - view.released) % _POSITIONS for view in self.views)

    @property
    def fill(self) -> float:
        """The share of the fullest lane that is taken, 0 to 1: it is the one that drops first."""
        fullest: int = max((view.tail - view.released) % _POSITIONS for view in self.views)
        return fullest / int(self.header.capacity_slots)

    @property
    def published(self) -> int:
        """Records written since the ring was made."""
        return sum((view.tail - self.header.first_position) % _POSITIONS for view in self.views)

    def sums(self) -> Sums:
        """Return what became of the ring's spans, as of the last poll."""
        sums = Sums(rings=1, published=self.published, pending=self.pending)
        for view in self.views:
            for name in COUNTERS:
                setattr(sums, name, getattr(sums, name) + getattr(view, name))
        # The drain stores the outcome first and moves `head` then: between the two a record is in both.
        sums.pending -= min(max(0, -sums.unaccounted), sums.pending)
        return sums

    def close(self) -> None:
        """Unmap the ring."""
        lib.rb_consumer_free(self._consumer)
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_layout(self) -> SpanLayout:
        try:
            layout = SpanLayout.from_json(document(self.header, "layout"))
        except LayoutError as error:
            raise RingFormatError(str(self.path), f"layout: {error}") from error
        if layout.slot_bytes != self.header.slot_bytes:
            raise RingFormatError(str(self.path), "layout: its records are not of the slots' size", lib.RB_E_GEOMETRY)
        return layout

    def _read_resource(self) -> dict[str, AttributeValue]:
        try:
            return resource_from_json(document(self.header, "resource"))
        except ValueError as error:
            raise RingFormatError(str(self.path), f"resource: {error}") from error


def _checked_status(fd: int, path: Path) -> os.stat_result:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise RingFormatError(str(path), "not a regular file", lib.RB_E_NOT_A_RING)
    if status.st_blocks * _BLOCK_BYTES < status.st_size and _is_on_tmpfs(status.st_dev):
        # To read a hole of such a file is to allocate it. A copy on disk may have holes.
        raise RingFormatError(str(path), "the file has holes", lib.RB_E_SPARSE)
    return status


def _is_on_tmpfs(device: int) -> bool:
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with Path("/proc/self/mountinfo").open(encoding="utf-8", errors="replace") as mounts:
        lines = [line.split() for line in mounts]
    return any(fields[2] == wanted and fields[fields.index("-") + 1] == "tmpfs" for fields in lines)
