"""One attached ring: what its header says, what is ready in its lanes, and what is on its way out of them."""

from __future__ import annotations

import enum
import fcntl
import os
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from drain.accounting.label_names import label_value
from drain.accounting.sums import Sums
from drain.otlp.encode_plan import stated_threshold
from drain.otlp.encoder import Encoder
from drain.rings.directory import FileId, file_id
from drain.rings.documents import Documents
from drain.rings.segment import Lane
from ringbuf._ringbuf import ffi, lib
from ringbuf.exceptions import LayoutError, RingFormatError
from ringbuf.layout.layout import CORE_OFFSETS
from ringbuf.ring.attaching import attach, document, format_error
from ringbuf.ring.resource import SERVICE_NAME, resource_from_json

if TYPE_CHECKING:
    from pathlib import Path

    from drain.accounting.span_metrics import SpanCounter
    from drain.otlp.request import Encoding
    from drain.rings.documents import Held
    from ringbuf.layout.layout import SpanLayout

OPEN_FLAGS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""For a file that is to be a ring: a link is not followed, and a pipe without a writer not waited for."""

_POSITIONS: Final = 1 << 64
_U64_BYTES: Final = 8
_OUTCOMES: Final = ("delivered", "spooled", "rejected", "dead_lettered", "invalid", "sampled_out")
_COUNTS: Final = ("full", "contended", "unsampled", "truncated", "invalid_values")  # the producer's own
_COUNTERS: Final = (*_OUTCOMES, "repeated", *_COUNTS)


class Scratch:
    """Memory into which one thread copies records before anybody looks at them; all its rings share it.

    Args:
        size_bytes: at least one slot of the largest kind.
    """

    def __init__(self, size_bytes: int) -> None:
        self.memory = np.empty(size_bytes, np.uint8)
        # Once, since asking numpy for a buffer of a structured array costs microseconds.
        self.pointer: Any = ffi.from_buffer("char[]", self.memory, require_writable=True)


class Life(enum.Enum):
    """Where a ring stands."""

    ALIVE = "alive"
    ENDING = "ending"
    """Its producer is gone or has closed it: the next look at the tails is final."""
    SET_ASIDE = "set aside"
    """Unsound: nothing more is copied; what was copied is still on its way."""


class Ring:
    """A ring that this drain consumes.

    Args:
        name: of the file, in the ring directory.
        path: for messages.
        fd: the open file; the ring closes it, also when it cannot be attached.
        max_bytes: larger files are refused; 0: no bound.
        encoding: what the exporter sends.
        scratch: where the ring's records are copied to; the next copy of any ring writes over them.
        documents: where its layout is shared with other rings; None: nowhere.
        is_trial: write nothing into the ring, not even who reads it.

    Attributes:
        created_unix_nano: when its producer made it, as its header says.
        encoder: makes OTLP of its records.
        encode: does it in the exporter's encoding.
        record_bytes: how much of a batch each record takes, about; 0: nobody knows yet.
        unsafe: by lane: positions of records of which a drain died; they are copied as zeros, which are no span.

    Raises:
        RingVersionError: a newer version of the format, which may be sound.
        RingFormatError: the file is no sound ring; `status` has the reason of ringbuf.h.
        MemoryError: there is no room for its documents now.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        fd: int,
        *,
        max_bytes: int,
        encoding: Encoding,
        scratch: Scratch,
        documents: Documents | None = None,
        is_trial: bool = False,
    ) -> None:
        self.name = name
        self.path = path
        self.life, self.is_named = Life.ALIVE, True  # named: the directory still has the file under this name
        self.unsafe: dict[int, list[int]] = {}
        self.record_bytes, self._is_trial = 0, is_trial
        self.file: FileId = file_id(fd)
        self._fd = fd
        self._held: Held | None = None
        try:
            self.consumer: Any = attach(fd, lib.RB_CONSUME, path, max_bytes)
        except BaseException:
            os.close(fd)
            raise
        try:
            header = lib.rb_consumer_header(self.consumer)
            self.capacity_slots: int = header.capacity_slots
            self._first_position: int = header.first_position
            self.created_unix_nano: int = header.created_unix_nano
            self._lanes_at: int = header.header_bytes
            self._lane_stride_bytes: int = header.lane_stride_bytes
            self._read_documents(header, documents or Documents())
            header = lib.rb_consumer_header(self.consumer)
            self.encoder = _encoder(self)
            self.encode = self.encoder.encode_json if encoding == "json" else self.encoder.encode
            self._views: Any = ffi.new("rb_lane_view[]", header.lane_count)
            self._next_views: Any = ffi.new("rb_lane_view[]", header.lane_count)
            self.lanes = [Lane(index) for index in range(header.lane_count)]
            self._to = scratch.pointer
            self._records = scratch.memory[: scratch.memory.size // header.slot_bytes * header.slot_bytes].view(
                self.layout.dtype
            )
            self._is_frozen = False  # the file is not believed any more
            self.poll()
            service = self.resource.get(SERVICE_NAME)
            # Cut: audit, spool and log keep the names of many rings, and one may be as long as a header.
            self.service = label_value(service) if isinstance(service, str) else ""
            # What the last drain left: it was killed if it says "attached", and gave the ring up if it says "detached".
            self.found_state: int = self._views[0].consumer_state
            self._state = self.found_state
            self.before = self._counted_before()
        except (OSError, MemoryError):
            self.close()
            raise
        except Exception as error:
            self.set_consumer_state(lib.RB_CONSUMER_DETACHED)
            self.close()
            if isinstance(error, RingFormatError):
                raise
            raise RingFormatError(str(path), f"cannot be read: {error!r}") from error
        self._told: dict[int, tuple[int, ...]] = {}  # by lane: what was last noted so
        self.span_counter: SpanCounter | None = None
        if self.found_state != lib.RB_CONSUMER_DETACHED:
            self.set_consumer_state(lib.RB_CONSUMER_ATTACHED)

    def _read_documents(self, header: Any, documents: Documents) -> None:
        """Read what the header says besides numbers, and give back its copy of it; `header` is gone then."""
        layout = document(header, "layout")
        resource = document(header, "resource")
        self._held = _hold(documents, self.owner, layout, resource, self.path)
        self.layout = _checked_layout(self._held.layout, header, self.path)
        self.resource = _resource(resource, self.path)
        self.root_threshold = stated_threshold(header)
        lib.rb_consumer_trim(self.consumer)

    @property
    def owner(self) -> int:
        """The uid of its file."""
        return os.fstat(self._fd).st_uid

    def poll(self) -> int:
        """Look at every lane and return how many records are ready to be copied.

        Raises:
            RingFormatError: a position or the file itself is not sound any more.
        """
        ready: int = lib.rb_poll(self.consumer, self._next_views)
        if ready < 0:
            reason = self._implausible_positions() if ready == lib.RB_E_POSITION else ""
            self._freeze()
            raise format_error(self.path, ready, reason)
        self._views, self._next_views = self._next_views, self._views
        return ready

    def ready(self, lane: Lane) -> int:
        """Return how many records of a lane can be copied, as of the last poll, up to the lane's end."""
        view = self._views[lane.index]
        last = view.tail if lane.last is None else lane.last
        return int(last - view.read) % _POSITIONS

    def next_position(self, lane: Lane) -> int:
        """Return the position of the record that is copied next."""
        position: int = self._views[lane.index].read
        return position

    def next_count(self, lane: Lane, most: int) -> int:
        """Return how many records `copy` gives of a lane when at most so many are wanted."""
        return min(most, len(self._records), self.ready(lane))

    def copy(self, lane: Lane, most: int, *, to_keep: bool = False) -> np.ndarray:
        """Copy the oldest ready records of a lane; they stay the ring's until they are released.

        Args:
            lane: which.
            most: how many records at most.
            to_keep: into memory of their own.

        Returns:
            array of the layout's dtype, one dimension; if it is not to be kept, in the scratch: it is good until the
            next copy of any ring.

        Raises:
            RingFormatError: as `poll`.
        """
        wanted = self.next_count(lane, most)
        to, records = self._to, self._records
        if to_keep:
            memory = np.empty(wanted * self.layout.slot_bytes, np.uint8)
            to, records = ffi.from_buffer("char[]", memory, require_writable=True), memory.view(self.layout.dtype)
        copied: int = self._checked(lib.rb_copy(self.consumer, lane.index, to, wanted))
        lane.unreleased += copied
        view = self._views[lane.index]
        for position in self.unsafe.get(lane.index, ()):
            if (at := (position - view.read) % _POSITIONS) < copied:
                records[at] = np.zeros((), self.layout.dtype)
        view.read = (view.read + copied) % _POSITIONS
        return records[:copied]

    def release(self, lane: Lane, *, are_stored: bool = False) -> int:
        """Release the oldest segments whose outcome is known, and return how many records that were.

        Args:
            lane: theirs.
            are_stored: an earlier drain had put them into a store of its own: nothing of them is done again.

        Raises:
            RingFormatError: the file is not sound any more.
        """
        totals = [0] * len(_OUTCOMES)
        while lane.segments and lane.segments[0].outcome is not None:
            segment = lane.segments.popleft()
            for at, count in enumerate(segment.outcome or ()):
                totals[at] += count
            if self.span_counter is not None and segment.summary is not None:
                self.span_counter.add(segment.summary, is_delivered=segment.is_delivered)
        released = sum(totals)
        if not released:
            return 0
        lane.unreleased -= released
        release = lib.rb_release_stored if are_stored else lib.rb_release
        status = release(self.consumer, lane.index, ffi.new("rb_outcome *", totals))
        if self._is_frozen:
            self._take_own_words()
        elif status < 0:
            self._freeze()
            raise format_error(self.path, status)
        else:
            view = self._views[lane.index]
            view.released = (view.released + released) % _POSITIONS
            if self.unsafe:
                self._forget_unsafe(lane, view.released, released)
        return released

    @property
    def is_closed(self) -> bool:
        """Whether the producer had closed every lane, as of the last poll."""
        return all(self._views[lane.index].closed for lane in self.lanes)

    @property
    def unreleased(self) -> int:
        """Records copied and not released."""
        return sum(lane.unreleased for lane in self.lanes)

    @property
    def pending(self) -> int:
        """Records not released, up to each lane's end, as of the last poll."""
        return sum(
            ((self._views[lane.index].tail if lane.last is None else lane.last) - self._views[lane.index].released)
            % _POSITIONS
            for lane in self.lanes
        )

    def oldest_unix_nano(self) -> int | None:
        """Return when the oldest span that is not released ended, of those that head the lanes; None without one.

        No span has waited for longer than the ring is there, whatever its record says.
        """
        ends = []
        for lane in self.lanes:
            view = self._views[lane.index]
            if view.released != view.tail and self.life is not Life.SET_ASIDE:
                slot = view.released & (self.capacity_slots - 1)
                offset = self._lanes_at + lane.index * self._lane_stride_bytes + lib.RB_LANE_BYTES
                offset += slot * self.layout.slot_bytes + CORE_OFFSETS["end_unix_nano"]
                # Not through the mapping: a read of a file that was cut is short, and no signal.
                ends.append(int.from_bytes(os.pread(self._fd, _U64_BYTES, offset), "little"))
        return max(min(ends), self.created_unix_nano) if ends else None

    def producer_is_gone(self) -> bool:
        """Try to take the producer's lock, which the kernel gives up with the last mapping; once taken it is kept."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def producer_has_left(self) -> None:
        """Note that nothing more is published: the tails of the next poll are the last."""
        self.life = Life.ENDING
        for lane in self.lanes:
            lane.last = None

    def stop_at_tails(self) -> None:
        """Let copying end at the tails of now: what a living producer publishes after them is for the next drain.

        Raises:
            RingFormatError: as `poll`.
        """
        self.poll()
        for lane in self.lanes:
            lane.last = self._views[lane.index].tail

    def set_aside(self) -> None:
        """Give the ring up for good: its producer makes a new one, and what is not released counts as quarantined."""
        self._freeze()
        self.life = Life.SET_ASIDE
        self.is_named = False
        self.set_consumer_state(lib.RB_CONSUMER_DETACHED)

    def set_consumer_state(self, state: int) -> None:
        """Tell the producer who reads its ring; without effect when the file has lost that page."""
        self._state = state
        if not self._is_trial:
            lib.rb_set_consumer_state(self.consumer, state)

    def give_back(self) -> None:
        """Tell the producer that the drain has stopped in good order, unless the ring was given up."""
        if self._state == lib.RB_CONSUMER_ATTACHED:
            self.set_consumer_state(lib.RB_CONSUMER_NONE)

    def sums(self) -> Sums:
        """Return what became of the ring's spans, as of the last poll."""
        sums = Sums(rings=1)
        for lane in self.lanes:
            view = self._views[lane.index]
            sums.published += (view.tail - self._first_position) % _POSITIONS
            sums.pending += (view.tail - view.released) % _POSITIONS
            for name in _COUNTERS:
                setattr(sums, name, getattr(sums, name) + getattr(view, name))
        # A drain that was killed between the outcome words and `head` had counted some of these already.
        counted_before = -sums.unaccounted
        if 0 < counted_before <= sums.pending:
            sums.pending -= counted_before
        if self._is_frozen:
            sums.quarantined, sums.pending = sums.pending, 0
        return sums

    def note_told(self) -> None:
        """Note in the ring that the counts of its producer, as of the last poll, are told: the next drain tells more.

        Without effect when the file has lost that page.
        """
        if self._is_trial:
            return
        for lane in self.lanes:
            view = self._views[lane.index]
            counts = tuple(getattr(view, name) for name in _COUNTS)
            if counts != self._told.get(lane.index):
                self._told[lane.index] = counts
                lib.rb_tell(self.consumer, lane.index, ffi.new("rb_counts *", counts))

    def close(self) -> None:
        """Unmap the ring; it must not be used any more."""
        lib.rb_consumer_free(self.consumer)
        os.close(self._fd)
        if self._held is not None:
            self._held.let_go()
            self._held = None

    def _forget_unsafe(self, lane: Lane, head: int, released: int) -> None:
        """Let go of the unsafe records below `head`, of which `released` were released just now."""
        left = [at for at in self.unsafe.pop(lane.index, ()) if not 0 < (head - at) % _POSITIONS <= released]
        if left:
            self.unsafe[lane.index] = left

    def _counted_before(self) -> Sums:
        """Return the words that an earlier drain may have told already; zeros when none had this ring."""
        found = self.sums()
        released = found.published - found.pending - found.unaccounted
        before = Sums(published=released, **{name: getattr(found, name) for name in _OUTCOMES}) if released else Sums()
        told: Any = ffi.new("rb_counts *")
        for lane in self.lanes:
            self._checked(lib.rb_told(self.consumer, lane.index, told))
            view = self._views[lane.index]
            for name in _COUNTS:  # what nobody has told is for this drain to tell, whenever it was counted
                setattr(before, name, getattr(before, name) + min(getattr(told, name), getattr(view, name)))
        return before

    def _freeze(self) -> None:
        """From here on the producer's words are those of the last good poll; what is on its way is still counted."""
        self._is_frozen = True
        self._take_own_words()

    def _take_own_words(self) -> None:
        """Learn from C what this drain has released; of the file, which is read again here, nothing is kept."""
        lib.rb_poll(self.consumer, self._next_views)
        for lane in self.lanes:
            mine, now = self._views[lane.index], self._next_views[lane.index]
            for name in ("released", "read", *_OUTCOMES, "repeated"):
                setattr(mine, name, getattr(now, name))

    def _implausible_positions(self) -> str:
        """Say which tails the last poll, which failed, did not believe."""
        found = (
            f"lane {lane.index}: tail {view.tail}, released {view.released}, read {view.read}"
            for lane, view in ((lane, self._next_views[lane.index]) for lane in self.lanes)
            if not view.read <= view.tail <= view.released + self.capacity_slots
        )
        return "; ".join(found) or ffi.string(lib.rb_strerror(lib.RB_E_POSITION)).decode()

    def _checked(self, status: int) -> int:
        if status < 0:
            raise format_error(self.path, status)
        return status


def _hold(documents: Documents, owner: int, layout: bytes, resource: bytes, path: Path) -> Held:
    try:
        return documents.hold(owner, layout, resource)
    except LayoutError as error:
        raise RingFormatError(str(path), f"layout: {error}") from error


def _checked_layout(layout: SpanLayout, header: Any, path: Path) -> SpanLayout:
    if layout.slot_bytes != header.slot_bytes:
        reason = f"layout: its records have {layout.slot_bytes} bytes, the ring's slots {header.slot_bytes}"
        raise RingFormatError(str(path), reason, lib.RB_E_GEOMETRY)
    return layout


def _resource(json: bytes, path: Path) -> dict[str, Any]:
    try:
        return resource_from_json(json)
    except ValueError as error:
        raise RingFormatError(str(path), f"resource: {error}") from error


def _encoder(ring: Ring) -> Encoder:
    try:
        return Encoder(ring.layout, ring.resource, ring.root_threshold)
    except LayoutError as error:
        raise RingFormatError(str(ring.path), f"layout: {error}") from error
