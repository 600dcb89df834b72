"""The chunks of the hold: which one is filled, which are free, and which are emptied so that they become so."""

from __future__ import annotations

import itertools
import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from drain.log import RepeatedTrouble
from drain.sampling.hold.chunk import SLOT_BITS, SLOTS, Chunk, ChunkError, ChunkLostError, Fate
from drain.sampling.hold.files import whole_file
from drain.sampling.hold.moved import Moved
from drain.sampling.hold.recovery import CHUNK_PREFIX
from ringbuf._ringbuf import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from drain.sampling.hold.owners import Owners

_SHIFT: Final = np.uint64(SLOT_BITS)
_SPARSE_SHARE: Final = 2  # a chunk of which no more than this part waits may be emptied
_SPARE_CHUNKS: Final = 2  # that stay when nothing waits
_NUMBER_BITS: Final = 64
NOBODYS: Final = 2**32 - 1  # of the owners of places


class Chunks:
    """The chunks of one folder.

    Args:
        folder: theirs.
        capacity_bytes: of all of them.
        chunk_bytes: of one.
        boot_id: of this boot, 16 bytes.
        log: a line for each change of state.

    Attributes:
        filled: the chunk to which records are appended; None: there is no room.
        remade: how many files somebody has removed or cut.
    """

    def __init__(
        self, folder: Path, capacity_bytes: int, chunk_bytes: int, boot_id: bytes, log: FilteringBoundLogger
    ) -> None:
        self._folder = folder
        self._most = capacity_bytes // chunk_bytes
        self._chunk_bytes = chunk_bytes
        self._boot_id = boot_id
        self._log = log
        self._trouble = RepeatedTrouble(log, time.monotonic)
        self._by_serial: dict[int, Chunk] = {}
        self._listed: Any = ffi.gc(lib.rb_chunks_new(), lib.rb_chunks_free)  # the same, in C
        self._handles: list[Any] = []  # of those that are listed there: they live as long
        self._moved = Moved()
        self._told_lost: set[int] = set()  # serials of those of which the log has said that they were cut
        self.serials = itertools.count(1)
        self._always_free = 0  # since the last tend
        self.filled: Chunk | None = None
        self.remade = 0

    def __iter__(self) -> Iterator[Chunk]:
        """Yield all that are mapped."""
        return iter(self._by_serial.values())

    def take(self, chunks: Iterable[Chunk]) -> None:
        """Have chunks that were found."""
        self._by_serial |= {chunk.serial: chunk for chunk in chunks}
        self._note_serials()

    @property
    def used_bytes(self) -> int:
        """Of those that are not free."""
        return sum(chunk.file_bytes for chunk in self if not _is_free(chunk))

    def room_left(self, slot_bytes: int) -> int:
        """Return for how many records of a size there is room in the chunk that is filled now."""
        return 0 if self.filled is None else self.filled.room(slot_bytes, is_moved=False)

    def has_room(self, slot_bytes: int, count: int) -> bool:
        """Return whether so many records can be appended, now that what can be done for it is done."""
        while not self._fits(slot_bytes, count):
            if self._begin(spare=1):
                return self._fits(slot_bytes, count)
            if not self._empty_the_sparsest():
                return False
        return True

    def look_at_filled(self) -> None:
        """Go on in another chunk where this one was cut; what is appended next would find it so."""
        if self.filled is not None and not self.filled.is_whole():
            self.filled_is_lost()

    def filled_is_lost(self) -> None:
        """Go on in another chunk."""
        if self.filled is not None:
            self.filled.is_open = False
        self.filled = None

    def replace_lost(self) -> None:
        """Fill another chunk, be it the one that is kept for what is moved: for what there was room, there still is."""
        self.filled_is_lost()
        self._begin(spare=0)

    def now(self, places: np.ndarray) -> np.ndarray:
        """Return where records are that had these places: u64, shape (n,)."""
        return self._moved.now(places)

    def split(self, places: np.ndarray) -> Iterator[tuple[Chunk, slice]]:
        """Yield each chunk and which of these sorted places are its."""
        edges = [0, *(np.flatnonzero(np.diff(places >> _SHIFT)) + 1).tolist(), len(places)]
        for begin, end in itertools.pairwise(edges):
            if end > begin:
                chunk = self._by_serial.get(int(places[begin] >> _SHIFT))
                if chunk is not None:
                    yield chunk, slice(begin, end)

    def settle(self, places: np.ndarray, fate: Fate, owners: Owners) -> None:
        """Say what became of records that wait, wherever they are now; of others it is known.

        Args:
            places: u64, shape (n,).
            fate: of all of them.
            owners: whose they are; each record is counted there.
        """
        now = np.ascontiguousarray(self.now(places))
        counts = ffi.cast("rb_held_counts *", ffi.from_buffer(owners.counts))
        data = ffi.from_buffer("uint64_t[]", now)
        self._check(lib.rb_chunks_settle(self._listed, data, len(now), fate, counts, len(owners.counts)))

    def owners_of(self, places: np.ndarray) -> np.ndarray:
        """Return whose the records are that lie at these places and wait: u32, shape (n,); NOBODYS where none does."""
        owners = np.empty(len(places), np.uint32)
        data = ffi.from_buffer("uint64_t[]", places), ffi.from_buffer("uint32_t[]", owners)
        lib.rb_chunks_owners(self._listed, data[0], len(places), data[1])
        return owners

    def copy(self, places: np.ndarray, slot_bytes: int) -> tuple[np.ndarray, np.ndarray]:
        """Copy records of one size that wait.

        Args:
            places: u64, shape (n,), where they lie now.
            slot_bytes: of each.

        Returns:
            u8, shape (n, slot_bytes), and bool, shape (n,): which of them are lost, as their file was cut.
        """
        records, are_lost = np.empty((len(places), slot_bytes), np.uint8), np.zeros(len(places), np.bool_)
        self._check(
            lib.rb_chunks_copy(
                self._listed,
                ffi.from_buffer("uint64_t[]", places),
                len(places),
                slot_bytes,
                ffi.from_buffer(records, require_writable=True),
                ffi.from_buffer("uint8_t[]", are_lost),
            )
        )
        return records, are_lost

    def tend(self) -> None:
        """Bring home what lies in files that were removed, give memory back, and empty a sparse chunk in time."""
        for chunk in [*self]:
            has_its_name = chunk.look()
            if chunk.is_lost:
                self._tell_lost(chunk)
            elif not has_its_name:
                self._bring_home(chunk)
            if chunk.is_lost and chunk is self.filled:
                self.filled_is_lost()
            if chunk.is_lost and not chunk.waiting:
                self._drop(chunk)
        if self.used_bytes * 2 > self._most * self._chunk_bytes:
            self._empty_the_sparsest()
        free = [chunk for chunk in self if _is_free(chunk)]
        # What was in use within the last second will be again: to make a file anew takes its pages one by one.
        for chunk in free[_SPARE_CHUNKS:][: max(0, self._always_free - _SPARE_CHUNKS)]:
            self._drop(chunk)
            free.remove(chunk)
        self._always_free = len(free)
        self._moved.forget_settled(self._waits)

    def close(self) -> None:
        """Unmap them all; the files stay."""
        self._by_serial.clear()
        self._note_serials()
        self.filled = None

    def _fits(self, slot_bytes: int, count: int, *, is_moved: bool = False) -> bool:
        return self.filled is not None and self.filled.room(slot_bytes, is_moved=is_moved) >= count

    def _begin(self, *, spare: int) -> bool:
        """Fill another chunk: a free one, or a new one; return whether there was one beside those that are spared."""
        # The one that is filled, too, once nothing waits in it: on a full file system there may be no other.
        free = [chunk for chunk in self if _is_free(chunk) or (chunk is self.filled and _is_used_up(chunk))]
        to_make = max(0, self._most - len(self._by_serial))
        if len(free) + to_make <= spare:
            return False
        self._always_free = min(self._always_free, max(0, len(free) - 1))
        chunk = free[0] if free else self._made()
        if chunk is None:
            return False
        if self.filled is not None:
            self.filled.is_open = False
        try:
            self._by_serial.pop(chunk.serial, None)
            chunk.begin(secrets.randbits(_NUMBER_BITS) | 1, self._boot_id, next(self.serials))
        except ChunkLostError:
            self._drop(chunk)
            self.filled = None
            return False
        self._by_serial[chunk.serial] = self.filled = chunk
        self._note_serials()
        return True

    def _made(self) -> Chunk | None:
        """Make a file, all of it allocated; no room for it is no error."""
        path = self._folder / f"{CHUNK_PREFIX}{secrets.token_hex(8)}"
        try:
            with whole_file(path, self._chunk_bytes) as fd:
                chunk = Chunk(path, fd, next(self.serials))
                # A file that has a name has a head: one without is no chunk for the next drain.
                chunk.begin(secrets.randbits(_NUMBER_BITS) | 1, self._boot_id, chunk.serial)
                chunk.is_open = False
        except (OSError, ChunkError) as error:
            self._trouble.warn("the hold cannot grow", reason=str(error))
            return None
        return chunk

    def _empty_the_sparsest(self) -> bool:
        """Move what waits in the chunk of which the least does, if that is little; return whether it is free now."""
        sparse = [
            chunk
            for chunk in self
            if 0 < chunk.waiting_bytes * _SPARSE_SHARE <= chunk.file_bytes
            and not (chunk.is_open or chunk.pins or chunk.is_lost)
        ]
        return bool(sparse) and self._move_out(min(sparse, key=lambda chunk: chunk.waiting_bytes))

    def _move_out(self, chunk: Chunk) -> bool:
        """Move all that waits in a chunk; return whether there was room for it.

        The new place is published, then the old word says so: who finds both after a kill says it again.
        """
        for segment in chunk.segments:
            places = chunk.places(segment)
            while len(places):
                if not (self._fits(segment.slot_bytes, 1, is_moved=True) or self._begin(spare=0)):
                    return False
                to = self.filled
                room = 0 if to is None else to.room(segment.slot_bytes, is_moved=True)
                if to is None or not room:
                    return False
                mine, places = places[:room], places[room:]
                slots = (mine & SLOTS).astype(np.int64)
                try:
                    records = chunk.copy(slots, segment.slot_bytes)
                    as_moved = replace(segment, is_of_ring=False, invalid=0, sampled_out=0, count=len(mine))
                    to.append(
                        as_moved,
                        records,
                        int(chunk.owners[slots[0]]),
                        moved_from=chunk.number,
                        sources=slots.astype(np.uint32),
                    )
                except ChunkLostError:
                    if to.is_lost:
                        self.filled_is_lost()
                    return False
                chunk.settle(mine, Fate.MOVED)
                self._moved.add(mine, to.places(as_moved))
        return True

    def _bring_home(self, chunk: Chunk) -> None:
        """Make a file anew that has lost its name: it is still mapped, and gone with this process.

        It is copied as it is. What says how far a lane is held has to be in it, also where nothing waits any more.
        """
        try:
            with whole_file(chunk.path, chunk.file_bytes) as fd:
                chunk.take_home(fd)
        except (OSError, ChunkError) as error:
            self._trouble.warn(
                "a file of the hold was removed, and cannot be made anew", waiting=chunk.waiting, reason=str(error)
            )
            return
        self.remade += 1
        self._log.error("a file of the hold was removed: it is made anew", waiting=chunk.waiting)

    def _tell_lost(self, chunk: Chunk) -> None:
        """Say once that a file was cut, whoever has noticed it: this look, or an access before it."""
        if chunk.serial not in self._told_lost:
            self._told_lost.add(chunk.serial)
            self.remade += 1
            self._log.error("a file of the hold was cut: what is asked for of it is lost", waiting=chunk.waiting)

    def _drop(self, chunk: Chunk) -> None:
        self._by_serial.pop(chunk.serial, None)
        self._told_lost.discard(chunk.serial)
        self._note_serials()
        if chunk.has_its_name():
            chunk.path.unlink(missing_ok=True)

    def _check(self, status: int) -> None:
        if status < 0:
            raise ChunkError(f"{self._folder}: {ffi.string(lib.rb_strerror(status)).decode()}")

    def _note_serials(self) -> None:
        serials, handles = [*self._by_serial], [chunk.handle for chunk in self]
        if lib.rb_chunks_set(self._listed, serials, handles, len(serials)) != lib.RB_OK:
            raise MemoryError
        self._handles = handles

    def _waits(self, places: np.ndarray) -> bool:
        """Return whether one of these records does; a chunk that was begun again has other places."""
        places = np.sort(places)
        return any(
            (chunk.fates[(places[mine] & SLOTS).astype(np.int64)] == Fate.WAITING).any()
            for chunk, mine in self.split(places)
        )


def _is_free(chunk: Chunk) -> bool:
    return not chunk.is_open and _is_settled(chunk)


def _is_used_up(chunk: Chunk) -> bool:
    return chunk.slots > 0 and _is_settled(chunk)


def _is_settled(chunk: Chunk) -> bool:
    return not (chunk.waiting or chunk.pins or chunk.is_lost)
