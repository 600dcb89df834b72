"""The hold: spans that were taken out of the rings, and wait for the decision on their trace or for their delivery.

One thread uses it. A record has a place, a u64 that stays its own for as long as this process lives, wherever the
record is moved to.
"""

from __future__ import annotations

import errno
import time
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from drain.log import RepeatedTrouble
from drain.private_folder import ensure_private_folder
from drain.sampling.hold.chunk import SLOT_BITS, ChunkLostError, Fate, RingKey, Segment
from drain.sampling.hold.chunks import NOBODYS, Chunks
from drain.sampling.hold.decisions import Decisions
from drain.sampling.hold.origins import Origin, Origins
from drain.sampling.hold.owners import Owners
from drain.sampling.hold.recovery import Recovery
from drain.sampling.hold.unreleased import Unreleased
from ringbuf.exceptions import RingBufferError
from ringbuf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from structlog.typing import FilteringBoundLogger

    from drain.accounting.hold_sums import HoldSums
    from drain.sampling.hold.unsafe import Unsafe

CHUNK_BYTES: Final = 4 << 20
LEAST_CHUNKS: Final = 4
"""One that is filled, one that is emptied, one that is kept for what is moved, and one for what waits."""


class HoldFullError(RingBufferError):
    """There is no room: something is to be decided early, or stays in the rings."""


class Group(NamedTuple):
    """Records of one origin.

    Attributes:
        origin: of all of them.
        places: u64, shape (n,).
        records: array of the origin's layout, shape (n,): a copy.
    """

    origin: Origin
    places: np.ndarray
    records: np.ndarray


class Found(NamedTuple):
    """Records that waited when the drain began, of one look at a lane.

    Attributes:
        origin: of all of them.
        ring: out of which they came.
        places: u64, shape (n,).
        arrived_nano: CLOCK_MONOTONIC at the look.
    """

    origin: Origin
    ring: RingKey
    places: np.ndarray
    arrived_nano: int


class Hold:
    """The hold in a folder of its own.

    Args:
        folder: made with mode 0700 if it is not there.
        capacity_bytes: of its chunks and origins.
        chunk_bytes: of one file.
        log: a line for each change of state.
        unsafe: by a chunk's name: what of it killed a drain.
        clock_nano: CLOCK_MONOTONIC.

    Attributes:
        folder: as given.
        decisions: on traces.
        found: what waited when it was opened; taken once.
        unreleased: lanes of which the ring does not know yet how far they are held.
        unsound: files that were found and cannot be used, or not all that is in them.
        has_later: some of these are of a later version: the folder is to stay.

    Raises:
        RingBufferError: the folder is not ours alone.
        OSError: a file cannot be opened or mapped for want of memory or descriptors.
    """

    def __init__(
        self,
        folder: Path,
        capacity_bytes: int,
        *,
        chunk_bytes: int = CHUNK_BYTES,
        log: FilteringBoundLogger,
        unsafe: Mapping[str, Unsafe] = MappingProxyType({}),
        clock_nano: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.folder = folder
        self._trouble = RepeatedTrouble(log, time.monotonic)
        self._clock_nano = clock_nano
        self.capacity_bytes = max(capacity_bytes, LEAST_CHUNKS * chunk_bytes)
        boot_id = bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip().replace("-", ""))
        self._ensure_folder()
        self._origins = Origins(folder, self.capacity_bytes // LEAST_CHUNKS)
        self.decisions = Decisions(folder)
        self.unreleased = Unreleased()
        self._owners = Owners()
        self._chunks = Chunks(folder, self.capacity_bytes, chunk_bytes, boot_id, log)
        recovery = Recovery(
            *(folder, self._origins, self._chunks.serials),
            boot_id=boot_id,
            now_nano=clock_nano(),
            log=log,
            unsafe=unsafe,
        )
        self.unsound = recovery.unsound + self.decisions.is_anew
        self.has_later = recovery.has_later or self.decisions.has_later
        if recovery.has_later:
            self._origins.leave_found()
        if self.decisions.has_later:
            log.error("the hold's decisions are of a later version: they are kept as later-decisions")
        self._chunks.take(recovery.chunks)
        for service, lost in recovery.lost.items():
            self._owners.lose(service, lost)
        for service, invalid in recovery.invalid.items():
            self._owners.refuse(service, invalid)
        self.found = list(self._take_up())

    @property
    def used_bytes(self) -> int:
        """What is taken up by chunks in use, and by origins."""
        return self._origins.stored_bytes + self._chunks.used_bytes

    @property
    def remade(self) -> int:
        """How many of its files somebody has removed or cut."""
        return self._chunks.remade

    def waiting_bytes(self, ring: RingKey) -> int:
        """Return how many bytes of a ring's records wait."""
        return self._owners.waiting_bytes(ring)

    def sums(self) -> dict[str, HoldSums]:
        """Return what became of the held spans of each service, since the drain began."""
        return self._owners.sums()

    def has_room(self, slot_bytes: int, count: int) -> bool:
        """Return whether there is room for a look, now that what can be done for it is done.

        Where there is, records are looked at and counted: in a file that was cut until now there is none. Where one is
        cut in the moment between, and there is no room for another, they are counted by rule once more later.

        Args:
            slot_bytes: of a record.
            count: of its records.
        """
        self._chunks.look_at_filled()
        return self._chunks.has_room(slot_bytes, count)

    def room_left(self, slot_bytes: int) -> int:
        """Return for how many records of a size there is room in the chunk that is filled now."""
        return self._chunks.room_left(slot_bytes)

    def origin(self, layout: bytes, resource: bytes, root_threshold: int, owner: int | None = None) -> Origin:
        """Return the origin of a ring's records; it is kept as long as somebody refers to it.

        Args:
            layout: the JSON of the ring's header.
            resource: the same.
            root_threshold: the same.
            owner: uid of the ring's file; None: nobody's.

        Raises:
            HoldFullError: there is no room for it, or what is this owner's takes too much.
            ValueError: they are none.
        """
        try:
            return self._origins.keep(layout, resource, root_threshold, owner)
        except OSError as error:
            raise HoldFullError(f"{self.folder}: {error.strerror}") from error

    def append(
        self,
        origin: Origin,
        ring: RingKey,
        lane: int,
        start: int,
        upto: int,
        records: np.ndarray,
        *,
        which: np.ndarray | None = None,
        invalid: int = 0,
        sampled_out: int = 0,
    ) -> int:
        """Hold records of one look at a lane; then its ring is to be released up to `upto`, and that be said here.

        Args:
            origin: of the ring.
            ring: out of which they come.
            lane: of it.
            start: position at which the look began.
            upto: position at which it ended.
            records: array of the origin's layout, at least one.
            which: u32, shape (n,), at least one: the numbers of those that are to be held; None: all.
            invalid: records of the look that are no spans.
            sampled_out: spans of it that were decided at once.

        Returns:
            the place of the first record; those of the others follow it.

        Raises:
            HoldFullError: there is no room (see `has_room`); nothing was held.
        """
        slot_bytes, count = origin.layout.slot_bytes, len(records if which is None else which)
        decided = (invalid, sampled_out)
        look = Segment(origin, ring, lane, start, upto, *decided, True, self._clock_nano(), slot_bytes, 0, count, 0)
        owner = self._owners.number(origin, ring)
        while self._chunks.has_room(slot_bytes, count) and (chunk := self._chunks.filled) is not None:
            try:
                chunk.append(look, np.ascontiguousarray(records), owner, which=which)
            except ChunkLostError:
                self._chunks.replace_lost()
                continue
            self.unreleased.add(chunk, look)
            self._owners.hold(owner, count)
            return chunk.serial << SLOT_BITS | look.first_slot
        raise HoldFullError(f"{self.folder}: no room for {counted(count, 'record')}")

    def settle(self, places: np.ndarray, fate: Fate) -> None:
        """Say what became of records, by one store into each one's own word; in any order, and once.

        Args:
            places: u64, shape (n,).
            fate: of all of them.
        """
        self._chunks.settle(places, fate, self._owners)

    def records(self, places: np.ndarray) -> list[Group]:
        """Copy records out of the hold; those that cannot be read any more are lost, and not returned.

        Args:
            places: u64, shape (n,), of records that wait.
        """
        now = np.ascontiguousarray(self._chunks.now(places))
        owners = self._chunks.owners_of(now)
        numbers: dict[Origin, list[int]] = {}
        for number in sorted({*owners.tolist()}):  # np.unique imports numpy.ma: 27 ms
            if number != NOBODYS:
                numbers.setdefault(self._owners.origin(number), []).append(number)
        groups = []
        for origin, its in numbers.items():
            mine = owners == its[0] if len(its) == 1 else np.isin(owners, its)
            records, are_lost = self._chunks.copy(now[mine], origin.layout.slot_bytes)
            read = places[mine]
            if are_lost.any():
                self.settle(now[mine][are_lost], Fate.LOST)
                read, records = read[~are_lost], records[~are_lost]
            if len(read):
                groups.append(Group(origin, read, records.view(origin.layout.dtype).reshape(-1)))
        return groups

    def tend(self) -> bool:
        """Do what is to be done once a second: give memory back, and make anew what somebody has removed.

        Returns:
            whether the file of decisions is what it was; else the caller writes it anew.
        """
        try:
            ensure_private_folder(self.folder)
        except (OSError, RingBufferError) as error:
            self._trouble.warn("the hold's folder cannot be made anew", reason=str(error))
            return True
        try:
            self._origins.look()
        except OSError as error:  # no reason to leave the rest: it may give room back
            self._trouble.warn("what says how held spans are read cannot be made anew", reason=str(error))
        self._chunks.tend()
        self._origins.sweep()
        self._owners.forget_idle()
        return self.decisions.look()

    def close(self) -> None:
        """Let go of it, though a part raises; what waits is for the next drain."""
        try:
            self._chunks.close()
        finally:
            self.decisions.close()

    def _ensure_folder(self) -> None:
        try:
            ensure_private_folder(self.folder)
        except RingBufferError as error:
            if not isinstance(error.__cause__, OSError) or error.__cause__.errno != errno.ENOSPC:
                raise
            self._trouble.warn("the hold's folder cannot be made", reason=str(error))

    def _take_up(self) -> Iterator[Found]:
        for chunk in self._chunks:
            for segment, places in chunk.places_by_segment():
                if segment.is_of_ring:
                    self.unreleased.add(chunk, segment)
                if segment.origin is None or not len(places):
                    continue
                owner = self._owners.number(segment.origin, segment.ring)
                chunk.own(segment, owner)
                self._owners.take_up(owner, len(places))
                yield Found(segment.origin, segment.ring, places, segment.arrived_nano)
