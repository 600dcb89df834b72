"""One file of the hold, and the drain's own account of it: which records wait there, and whose they are."""

from __future__ import annotations

import contextlib
import enum
import itertools
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from ringbuf._ringbuf import ffi, lib
from ringbuf.exceptions import RingBufferError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from drain.sampling.hold.origins import Origin

SLOT_BITS: Final = 32
SLOTS: Final = np.uint64((1 << SLOT_BITS) - 1)


class Fate(enum.IntEnum):
    """What became of a held record."""

    WAITING = lib.RB_HELD_WAITING
    DELIVERED = lib.RB_HELD_DELIVERED
    SPOOLED = lib.RB_HELD_SPOOLED
    REJECTED = lib.RB_HELD_REJECTED
    DEAD_LETTERED = lib.RB_HELD_DEAD_LETTERED
    SAMPLED_OUT = lib.RB_HELD_SAMPLED_OUT
    INVALID = lib.RB_HELD_INVALID
    MOVED = lib.RB_HELD_MOVED
    LOST = lib.RB_HELD_LOST


_MAGIC_AND_VERSION: Final = struct.Struct("<8sI")  # the first of `rb_chunk_head`, in all versions
_MAGIC: Final = b"rb-hold\0"
_NO_ORIGIN: Final = bytes(16)  # of fewer bytes the others would stay those of the segment before
_WAITING: Final = int(Fate.WAITING)  # numpy asks a member of an enumeration for a dozen attributes


class ChunkError(RingBufferError):
    """A file that is no chunk of this version, or was damaged."""


class LaterChunkError(ChunkError):
    """A chunk of a later version: sound, but not for this drain."""


class ChunkLostError(ChunkError):
    """The file was cut while it was mapped: what was in it is gone."""


class RingKey(NamedTuple):
    """Which ring records came out of, whatever its name is, over restarts of the drain."""

    inode: int
    created_unix_nano: int


@dataclass(slots=True, eq=False)
class Segment:
    """Records that came into a chunk at once.

    Attributes:
        origin: of all of them; None: of such that an earlier drain has settled, or that nobody can read.
        ring: out of which they came.
        lane: of it.
        start: position at which that look at the lane began.
        upto: position at which it ended.
        invalid: records of the look that were no spans, and are not here.
        sampled_out: spans of it that were decided at once, and are not here.
        is_of_ring: False: they were moved here, and the positions say nothing any more.
        arrived_nano: CLOCK_MONOTONIC at the look.
        slot_bytes: of a record.
        first_slot: of the first one.
        count: how many.
        offset: of the first one in the file.
    """

    origin: Origin | None
    ring: RingKey
    lane: int
    start: int
    upto: int
    invalid: int
    sampled_out: int
    is_of_ring: bool
    arrived_nano: int
    slot_bytes: int
    first_slot: int
    count: int
    offset: int

    @property
    def service(self) -> str:
        """Whose spans these are."""
        return "" if self.origin is None else self.origin.service


class Chunk:
    """A chunk that is mapped.

    Args:
        path: of the file.
        fd: of it, open; the caller closes it.
        serial: the upper half of its records' places: no other use of a chunk in this process has it.

    Attributes:
        segments: in the order of their slots.
        fates: of each slot, a `Fate`; this drain's own account, of which the file has a copy.
        owners: of each slot, u32: whose record it is, see `Owners`.
        pins: how many lanes need it since the ring does not know yet that it was released so far.
        is_open: whether records are appended to it.

    Raises:
        ChunkError: it can be no chunk.
        OSError: it cannot be mapped.
    """

    def __init__(self, path: Path, fd: int, serial: int) -> None:
        self.path = path
        self.serial = serial
        status = os.fstat(fd)
        self._file = (status.st_dev, status.st_ino)
        self.file_bytes = status.st_size
        handle: Any = ffi.new("rb_chunk **")
        error: Any = ffi.new("rb_error *")
        self._check(lib.rb_chunk_open(fd, handle, error), error)
        self._handle: Any = ffi.gc(handle[0], lib.rb_chunk_free)
        self.number = 0
        self.boot_id = b""
        self.segments: list[Segment] = []
        self._account: Any = lib.rb_chunk_account(self._handle)
        room = int(self._account.room)
        self.fates = np.frombuffer(ffi.buffer(self._account.fates, room), np.uint8)
        self.owners = np.frombuffer(ffi.buffer(self._account.owners, 4 * room), np.uint32)
        self.slots = 0
        self._record_bytes = 0
        self.pins = 0
        self.is_open = False
        # Of the segment that is appended now.
        self._head: Any = ffi.new("rb_segment *")
        self._added: Any = ffi.new("rb_new_segment *")
        self._offset: Any = ffi.new("uint64_t *")

    @property
    def handle(self) -> Any:
        """The `rb_chunk *`, which lives as long as this."""
        return self._handle

    @property
    def waiting(self) -> int:
        """How many records wait."""
        return int(self._account.waiting)

    @property
    def is_lost(self) -> bool:
        """The file was cut: only the account is left."""
        return bool(self._account.is_lost)

    def lose(self) -> None:
        """Note that the file was cut."""
        self._account.is_lost = 1

    def begin(self, number: int, boot_id: bytes, serial: int) -> None:
        """Void what was in it, of which nothing waits, and let records be appended.

        Args:
            number: random, not zero, and never a chunk's before.
            boot_id: of this boot, 16 bytes.
            serial: see above.
        """
        self._check(lib.rb_chunk_begin(self._handle, number, boot_id))
        self.number, self.boot_id, self.serial = number, boot_id, serial
        self.segments.clear()
        self.slots = self._record_bytes = 0
        self.is_open = True

    def take_up(self) -> bool:
        """Read what an earlier drain has begun; return whether its head is sound, or was taken from what follows it.

        Raises:
            ChunkError: it is no chunk that this drain can read.
        """
        head: Any = ffi.new("rb_chunk_head *")
        error: Any = ffi.new("rb_error *")
        status = lib.rb_chunk_take_up(self._handle, head, error)
        self._check(status, error)
        self.number = int(head.number)
        self.boot_id = bytes(head.boot_id) if status == lib.RB_OK else b""
        return bool(status == lib.RB_OK)

    def next_found(self) -> tuple[Any, int, int] | None:
        """Return the next segment of a chunk that was taken up: its `rb_segment`, its offset, how many records wait.

        Raises:
            ChunkError: what comes next is not sound.
        """
        found: Any = ffi.new("rb_segment *")
        offset: Any = ffi.new("uint64_t *")
        status = lib.rb_chunk_next(self._handle, found, offset)
        if status == 0:
            return None
        self._check(status)
        at = int(offset[0])
        return found, at, self._account_found(found, at)

    def skip(self) -> tuple[int, int]:
        """Go on behind a segment that is not sound; return how many records lie between, and how many of them wait.

        Raises:
            ChunkLostError: the file was cut.
        """
        missing: Any = ffi.new("uint32_t *")
        self._check(lib.rb_chunk_skip(self._handle, missing))
        between: Any = ffi.new("rb_segment *", {"first_slot": self.slots, "count": missing[0]})
        return int(missing[0]), self._account_found(between, 0)

    def take_home(self, fd: int) -> None:
        """Go on in another file, of which `fd` is, with all that is in this one: its name was taken away.

        Raises:
            ChunkLostError: this one was cut, too.
            OSError: the other cannot be mapped.
        """
        error: Any = ffi.new("rb_error *")
        self._check(lib.rb_chunk_take_home(self._handle, fd, error), error)
        status = os.fstat(fd)
        self._file = (status.st_dev, status.st_ino)

    def sources_of(self, found: Any, offset: int) -> np.ndarray:
        """Return the slots that the records of a moved segment had: u32, shape (n,)."""
        sources = np.empty(found.count, np.uint32)
        self._check(lib.rb_chunk_sources(self._handle, found, offset, ffi.from_buffer("uint32_t[]", sources)))
        return sources

    def add_found(self, segment: Segment) -> None:
        """Have a segment that was found, or what lies where one was."""
        self._add(segment)

    def own(self, segment: Segment, owner: int) -> None:
        """Say whose the records of a segment are that was found."""
        self.owners[segment.first_slot : segment.first_slot + segment.count] = owner

    def is_whole(self) -> bool:
        """Return whether its file was not cut, as far as that is known now."""
        return bool(lib.rb_chunk_is_whole(self._handle))

    def room(self, slot_bytes: int, *, is_moved: bool) -> int:
        """Return how many records of a size one more segment may have."""
        return int(lib.rb_chunk_room(self._handle, slot_bytes, is_moved)) if self.is_open and not self.is_lost else 0

    def append(
        self,
        segment: Segment,
        records: np.ndarray,
        owner: int,
        *,
        which: np.ndarray | None = None,
        moved_from: int = 0,
        sources: np.ndarray | None = None,
    ) -> None:
        """Publish records.

        Args:
            segment: what they are, `count` of them; its first slot and offset become those that they have.
            records: their bytes, contiguous.
            owner: whose they are.
            which: u32, shape (count,): the numbers of those that are meant; None: all.
            moved_from: the number of the chunk in which they were.
            sources: the slots that they had there, u32, shape (count,).

        Raises:
            ChunkLostError: the file was cut.
        """
        head, added = self._head, self._added
        head.count, head.slot_bytes, head.lane = segment.count, segment.slot_bytes, segment.lane
        head.ring_inode, head.ring_created_unix_nano = segment.ring
        head.start, head.upto, head.is_of_ring = segment.start, segment.upto, segment.is_of_ring
        head.invalid, head.sampled_out = segment.invalid, segment.sampled_out
        head.moved_from, head.arrived_nano = moved_from, segment.arrived_nano
        head.origin = _NO_ORIGIN if segment.origin is None else segment.origin.id
        parts = [
            ffi.NULL if part is None else ffi.from_buffer(c_type, part)
            for c_type, part in (("uint8_t[]", records.view(np.uint8)), ("uint32_t[]", which), ("uint32_t[]", sources))
        ]
        added.records, added.which, added.sources = parts
        added.owner = owner
        slot = lib.rb_chunk_append(self._handle, head, added, self._offset)
        self._check(slot)
        segment.first_slot, segment.offset = int(slot), int(self._offset[0])
        self._add(segment)

    @property
    def waiting_bytes(self) -> int:
        """How many bytes of records wait, about."""
        return self._record_bytes * self.waiting // self.slots if self.slots else 0

    def places_by_segment(self) -> Iterator[tuple[Segment, np.ndarray]]:
        """Yield each segment, and the places of those of its records that wait: u64, shape (n,)."""
        slots = np.flatnonzero(self.fates[: self.slots] == _WAITING)
        places = slots.astype(np.uint64) | np.uint64(self.serial << SLOT_BITS)
        edges = np.searchsorted(slots, [*(segment.first_slot for segment in self.segments), self.slots]).tolist()
        for segment, (begin, end) in zip(self.segments, itertools.pairwise(edges), strict=True):
            yield segment, places[begin:end]

    def places(self, segment: Segment) -> np.ndarray:
        """Return the places of those records of a segment that wait: u64, shape (n,)."""
        fates = self.fates[segment.first_slot : segment.first_slot + segment.count]
        slots = np.flatnonzero(fates == _WAITING) + segment.first_slot
        return slots.astype(np.uint64) | np.uint64(self.serial << SLOT_BITS)

    def settle(self, places: np.ndarray, fate: Fate) -> None:
        """Say what became of records that wait, in the file and in the account.

        Args:
            places: u64, whose lower halves are the slots.
            fate: of all of them.
        """
        status = lib.rb_chunk_settle(self._handle, ffi.from_buffer("uint64_t[]", places), len(places), fate)
        if status != lib.RB_E_TRUNCATED:
            self._check(status)

    def copy(self, slots: np.ndarray, slot_bytes: int) -> np.ndarray:
        """Copy records of one size out of the file.

        Args:
            slots: of them, shape (n,); or places.
            slot_bytes: of each.

        Returns:
            u8, shape (n, slot_bytes).

        Raises:
            ChunkLostError: the file was cut.
        """
        if self.is_lost:
            raise ChunkLostError(f"{self.path}: the file was cut")
        where = np.ascontiguousarray(slots, np.uint64)
        records = np.empty((len(slots), slot_bytes), np.uint8)
        self._check(
            lib.rb_chunk_copy(
                self._handle,
                ffi.from_buffer("uint64_t[]", where),
                len(slots),
                slot_bytes,
                ffi.from_buffer(records, require_writable=True),
            )
        )
        return records

    def _account_found(self, found: Any, offset: int) -> int:
        waiting: int = lib.rb_chunk_account_found(self._handle, found, offset)
        self._check(waiting)
        return waiting

    def _add(self, segment: Segment) -> None:
        self.segments.append(segment)
        self.slots = segment.first_slot + segment.count
        self._record_bytes += segment.count * segment.slot_bytes

    def has_its_name(self) -> bool:
        """Return whether its path leads to it."""
        try:
            status = self.path.lstat()
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._file

    def look(self) -> bool:
        """Return whether the file still has its name; where it was cut, what was in it is lost."""
        if not self.has_its_name():
            return False
        with contextlib.suppress(OSError):
            if self.path.lstat().st_size < self.file_bytes:
                self.lose()
        return True

    def _check(self, status: int, error: Any = None) -> None:
        if status >= 0:
            return
        detail = "" if error is None else ffi.string(error.detail).decode(errors="replace")
        if status == lib.RB_E_SYSTEM:
            raise OSError(error.os_errno, detail, str(self.path))
        if status == lib.RB_E_TRUNCATED:
            self.lose()
            raise ChunkLostError(f"{self.path}: the file was cut")
        raise ChunkError(f"{self.path}: {detail or ffi.string(lib.rb_strerror(status)).decode()}")


def refuse_later(path: Path, fd: int) -> None:
    """See that a file is no chunk of a later version, whatever else that has changed.

    Raises:
        LaterChunkError: it is one.
    """
    head = os.pread(fd, _MAGIC_AND_VERSION.size, 0)
    magic, version = _MAGIC_AND_VERSION.unpack(head.ljust(_MAGIC_AND_VERSION.size, b"\0"))
    if magic == _MAGIC and version > lib.RB_CHUNK_VERSION:
        raise LaterChunkError(f"{path}: version {version}, this drain knows up to {lib.RB_CHUNK_VERSION}")
