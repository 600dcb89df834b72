"""What an earlier drain has left in the hold: read with bounds, and each record found in one place."""

from __future__ import annotations

import os
from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from drain.sampling.hold.chunk import (
    SLOT_BITS,
    SLOTS,
    Chunk,
    ChunkError,
    ChunkLostError,
    Fate,
    LaterChunkError,
    RingKey,
    Segment,
    refuse_later,
)
from drain.sampling.hold.files import PART_PREFIX, PASSING, open_own, set_unsound_aside
from drain.sampling.hold.origins import OriginError
from drain.sampling.hold.unreadable import published_in
from drain.sampling.hold.unsafe import Unsafe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from drain.sampling.hold.origins import Origin, Origins

CHUNK_PREFIX: Final = "chunk-"

_LEAST_SLOT_BYTES: Final = 64
_NO_RING: Final = RingKey(0, 0)


class Recovery:
    """The chunks of a folder, as they are found.

    Args:
        folder: of the hold.
        origins: of the same.
        serials: numbers for chunks.
        boot_id: of this boot; what an earlier one has left arrives now.
        now_nano: CLOCK_MONOTONIC.
        log: a line for each file that cannot be used.
        unsafe: by a chunk's name: what of it killed a drain.
        only: the chunks that are looked at, and left as they are; None: all that there are.

    Attributes:
        chunks: those that can be read.
        invalid: by service: records that waited and killed a drain.
        lost: by service: records that waited and cannot be read any more; of an unknown one under "".
        unsound: how many files cannot be used, or not all that is in them.
        has_later: some are of a later version. They stay as they are, and a drain of that version goes on with them.
    """

    def __init__(
        self,
        folder: Path,
        origins: Origins,
        serials: Iterator[int],
        *,
        boot_id: bytes,
        now_nano: int,
        log: FilteringBoundLogger,
        unsafe: Mapping[str, Unsafe] = MappingProxyType({}),
        only: Sequence[Path] | None = None,
    ) -> None:
        self._origins = origins
        self._boot_id = boot_id
        self._now_nano = now_nano
        self._log = log
        self.chunks: list[Chunk] = []
        self.lost: Counter[str] = Counter()
        self.invalid: Counter[str] = Counter()
        self.unsound = 0
        self.has_later = False
        self._moved: list[tuple[Chunk, Any, int]] = []
        self._unsafe = unsafe
        self._is_trial = only is not None
        if only is None:
            for part in folder.glob(f"{PART_PREFIX}*"):  # an earlier drain was killed while it made it
                part.unlink(missing_ok=True)
        for path in sorted(folder.glob(f"{CHUNK_PREFIX}*")) if only is None else only:
            self._take_up(path, next(serials))
        if only is None:
            self._say_again_what_was_moved()

    def _take_up(self, path: Path, serial: int) -> None:
        unsafe = self._unsafe.get(path.name, Unsafe(frozenset()))
        if unsafe.reason:
            self._set_aside(path, unsafe.reason, self._lost_in(path))
            return
        try:
            fd = open_own(path)
            try:
                refuse_later(path, fd)
                chunk = Chunk(path, fd, serial)
            finally:
                os.close(fd)
            if not chunk.take_up():
                self._log.error("a file of the hold has a damaged head; what follows it is sound", file=path.name)
                self.unsound += 1
        except LaterChunkError as error:
            self._log.error("a file of the hold is of a later version: it is left to such a drain", reason=str(error))
            self.unsound += 1
            self.has_later = True
            return
        except (OSError, ChunkError) as error:
            if isinstance(error, OSError) and error.errno in PASSING:
                raise
            self._set_aside(path, str(error), self._lost_in(path))
            return
        if any(other.number == chunk.number for other in self.chunks):
            self._set_aside(path, "a copy of another chunk", 0)
            return
        self.chunks.append(chunk)
        try:
            self._read(chunk)
        except ChunkLostError as error:  # cut in this moment: what was found in it is lost as it is asked for
            self._log.error("a file of the hold was cut", reason=str(error))
            self.unsound += 1
        if unsafe.slots:
            self._pass_over(chunk, sorted(unsafe.slots))

    def _read(self, chunk: Chunk) -> None:
        """Account for the segments of a chunk, without those that are not sound."""
        while True:
            try:
                found = chunk.next_found()
            except ChunkLostError:
                raise
            except ChunkError as error:
                lost = self._skip(chunk)
                self._log.error("a part of the hold is damaged: its records are lost", reason=str(error), lost=lost)
                self.unsound += 1
                continue
            if found is None:
                return
            self._add(chunk, *found)

    def _skip(self, chunk: Chunk) -> int:
        """Go on behind a segment that is not sound; return how many of its records waited."""
        first_slot, (count, _) = chunk.slots, chunk.skip()
        if not count:
            return 0
        segment = Segment(
            origin=None,
            ring=_NO_RING,
            lane=0,
            start=0,
            upto=0,
            invalid=0,
            sampled_out=0,
            is_of_ring=False,
            arrived_nano=self._now_nano,
            slot_bytes=_LEAST_SLOT_BYTES,
            first_slot=first_slot,
            count=count,
            offset=0,
        )
        chunk.add_found(segment)
        return self._lose(chunk, segment)

    def _pass_over(self, chunk: Chunk, slots: list[int]) -> None:
        """Count the records that killed a drain as invalid, once; nobody handles them again."""
        self._log.error("held records killed a drain: they are invalid", file=chunk.path.name, slots=slots)
        for segment in chunk.segments:
            places = chunk.places(segment)
            places = places[np.isin(places & SLOTS, np.array(slots, np.uint64))]
            if len(places):
                chunk.settle(places, Fate.INVALID)
                self.invalid[segment.service] += len(places)

    def _lose(self, chunk: Chunk, segment: Segment) -> int:
        """Count what waits in a segment as lost, once; return how many records that are."""
        places = chunk.places(segment)
        if len(places) and not self._is_trial:
            chunk.settle(places, Fate.LOST)
            self.lost[segment.service] += len(places)
        return len(places)

    def _lost_in(self, path: Path) -> int:
        """Count what waited in a file that cannot be used, as far as it says so; return how many records."""
        published = published_in(path)
        for identity, count in published.items():
            origin = self._origin_of(identity)
            self.lost["" if origin is None else origin.service] += count
        return published.total()

    def _set_aside(self, path: Path, reason: str, lost: int) -> None:
        self._log.error("a file of the hold cannot be used: set aside", file=path.name, reason=reason, lost=lost)
        self.unsound += 1
        if not self._is_trial:
            set_unsound_aside(path)

    def _add(self, chunk: Chunk, found: Any, offset: int, waiting: int) -> None:
        """Account for a segment; its numbers were checked in C, and say nothing that is believed beyond itself."""
        origin = self._origin_of(bytes(found.origin)) if waiting else None
        segment = Segment(
            origin,
            RingKey(found.ring_inode, found.ring_created_unix_nano),
            found.lane,
            found.start,
            found.upto,
            found.invalid,
            found.sampled_out,
            bool(found.is_of_ring),
            min(found.arrived_nano, self._now_nano) if chunk.boot_id == self._boot_id else self._now_nano,
            found.slot_bytes,
            found.first_slot,
            found.count,
            offset,
        )
        chunk.add_found(segment)
        if found.moved_from:
            self._moved.append((chunk, found, offset))
        if waiting and (origin is None or origin.layout.slot_bytes != segment.slot_bytes):
            self._lose(chunk, segment)

    def _origin_of(self, identity: bytes) -> Origin | None:
        try:
            return self._origins.of(identity)
        except OriginError as error:
            self._log.error("held spans cannot be read any more: they are lost", reason=str(error))
            return None

    def _say_again_what_was_moved(self) -> None:
        """Let a record that was moved wait where it was moved to: a kill may have come before its old word said so."""
        by_number = {chunk.number: chunk for chunk in self.chunks}
        for chunk, found, offset in self._moved:
            source = by_number.get(found.moved_from)
            if source is None:
                continue
            try:
                slots = chunk.sources_of(found, offset)
            except ChunkError as error:
                self._log.error("a part of the hold is damaged", reason=str(error))
                self.unsound += 1
                continue
            slots = slots[slots < source.slots]
            waiting = slots[source.fates[slots] == Fate.WAITING].astype(np.uint64)
            if len(waiting):
                source.settle(waiting | np.uint64(source.serial << SLOT_BITS), Fate.MOVED)
