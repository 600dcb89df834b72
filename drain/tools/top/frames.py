"""What `ringbuf top` shows: rates by the rings' counters, which are exact, and latencies by the spans that it saw."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from drain.tools.looking.late_sampling import waiting_of
from drain.tools.looking.span_fields import carries_otlp, durations_of, name_of
from ringbuf.exceptions import RingFormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from drain.sampling.hold.picture import Picture
    from drain.tools.looking.observed_ring import ObservedRing
    from drain.tools.looking.watched_rings import WatchedRings
    from ringbuf.layout.layout import SpanLayout

_NEWEST: Final = 2048  # of a lane at a look: beyond that it is a sample
_FEW: Final = 64  # of those whose names lie in OTLP, which takes 10 µs each
_FRAMES: Final = 10  # over which the latencies are taken
_MOST_KINDS: Final = 500  # of name and operation: they come out of rings


@dataclass(slots=True)
class Group:
    """The rings of a service, or one ring.

    Attributes:
        name: of the service or the ring.
        rings: how many.
        rate: spans published in a second.
        fill: the share of the fullest lane that is taken, 0 to 1.
        pending: spans that are not released.
        drop_rate: spans not written in a second, for want of room or a lane.
        lag_nano: since the end of the oldest span that is not released.
        held: spans that wait in the hold of late sampling.
    """

    name: str
    rings: int = 0
    rate: float = 0.0
    fill: float = 0.0
    pending: int = 0
    drop_rate: float = 0.0
    lag_nano: int = 0
    held: int = 0


@dataclass(slots=True)
class Kind:
    """The spans of one name and operation that were seen.

    Attributes:
        name: of the spans.
        operation: the label of the layout's operation attribute; empty without one.
        seen: how many in the last frames.
        p50_nano: the median of their durations.
        p99_nano: the 99th percentile.
    """

    name: str
    operation: str
    seen: int
    p50_nano: int
    p99_nano: int


@dataclass(slots=True)
class Frame:
    """One picture.

    Attributes:
        unix_nano: when it was taken.
        seconds: since the one before.
        groups: the one with the highest rate first.
        kinds: the one that was seen most first.
        seen: spans looked at since the one before, for the latencies.
        published: spans published in that time.
        late_sampling: what it does; None: nobody samples late.
    """

    unix_nano: int
    seconds: float
    groups: list[Group]
    kinds: list[Kind]
    seen: int
    published: int
    late_sampling: Picture | None = None


@dataclass(slots=True)
class _Before:
    published: int
    dropped: int


@dataclass(slots=True)
class _Recent:
    frames: deque[list[np.ndarray]] = field(default_factory=lambda: deque([[]], maxlen=_FRAMES))


class Frames:
    """Takes pictures of rings.

    Args:
        watched: the rings.
        by: groups by the service or by the ring.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        watched: WatchedRings,
        by: Callable[[ObservedRing], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watched = watched
        self._by = by
        self._clock = clock
        self._before: dict[ObservedRing, _Before] = {}
        self._kinds: dict[tuple[str, str], _Recent] = {}
        self._seen = 0
        self._taken_at = clock()
        for ring in watched.rings:
            self._before[ring] = _Before(ring.published, _dropped(ring))

    def look(self) -> None:
        """Look at the spans that came since the last look, or at the newest of them."""
        self._watched.look()
        for ring in list(self._watched.rings):
            for lane in ring.lanes:
                ring.skip_to(lane, _NEWEST)
                try:
                    records = ring.peek(lane, _NEWEST).records
                except RingFormatError as error:
                    self._watched.drop(ring, error.reason)
                    break
                self._seen += len(records)
                for kind, durations in _by_kind(ring.layout, records):
                    self._recent(kind).frames[-1].append(durations)

    def take(self, late_sampling: Picture | None = None) -> Frame:
        """Return the picture of the time since the last one.

        Args:
            late_sampling: what it does now.
        """
        now = self._clock()
        seconds = max(now - self._taken_at, 1e-6)
        self._taken_at = now
        groups: dict[str, Group] = {}
        published = 0
        for ring in list(self._watched.rings):
            group = groups.setdefault(self._by(ring), Group(self._by(ring)))
            published += self._add(ring, group, seconds)
            group.held += 0 if late_sampling is None else waiting_of(ring, late_sampling)
        frame = Frame(
            unix_nano=time.time_ns(),
            seconds=seconds,
            groups=sorted(groups.values(), key=lambda group: (-group.rate, -group.fill, group.name)),
            kinds=sorted(self._shown_kinds(), key=lambda kind: -kind.seen),
            seen=self._seen,
            published=published,
            late_sampling=late_sampling,
        )
        self._seen = 0
        for recent in self._kinds.values():
            recent.frames.append([])
        self._kinds = {kind: recent for kind, recent in self._kinds.items() if any(recent.frames)}
        self._before = {ring: self._before[ring] for ring in self._watched.rings}
        self._watched.let_go_of_ended()
        return frame

    def _add(self, ring: ObservedRing, group: Group, seconds: float) -> int:
        """Add a ring to its group; return how many spans it published since the last picture."""
        now = _Before(ring.published, _dropped(ring))
        before = self._before.get(ring, _Before(0, 0))  # a ring that came since: all of it is new
        self._before[ring] = now
        group.rings += 1
        group.rate += (now.published - before.published) / seconds
        group.drop_rate += (now.dropped - before.dropped) / seconds
        group.fill = max(group.fill, ring.fill)
        group.pending += ring.pending
        try:
            oldest = ring.oldest_unix_nano()
        except RingFormatError:  # the next look says so
            oldest = None
        if oldest is not None:
            group.lag_nano = max(group.lag_nano, time.time_ns() - oldest)
        return now.published - before.published

    def _recent(self, kind: tuple[str, str]) -> _Recent:
        if kind not in self._kinds and len(self._kinds) >= _MOST_KINDS:
            kind = ("(others)", "")
        return self._kinds.setdefault(kind, _Recent())

    def _shown_kinds(self) -> Iterator[Kind]:
        for (name, operation), recent in self._kinds.items():
            parts = [durations for frame in recent.frames for durations in frame]
            if parts:
                durations = np.sort(np.concatenate(parts))
                yield Kind(name, operation, len(durations), _quantile(durations, 0.5), _quantile(durations, 0.99))


def as_json(frame: Frame, drain_pid: int | None) -> dict[str, Any]:
    """Return a picture as `--json` has it."""
    return {
        "time_unix_nano": frame.unix_nano,
        "seconds": round(frame.seconds, 3),
        "drain_pid": drain_pid,
        "published": frame.published,
        "seen": frame.seen,
        "late_sampling": frame.late_sampling and frame.late_sampling.to_json(),
        "groups": [
            {
                "name": group.name,
                "rings": group.rings,
                "spans_per_second": round(group.rate, 1),
                "fill": round(group.fill, 4),
                "pending": group.pending,
                "held": None if frame.late_sampling is None else group.held,
                "drops_per_second": round(group.drop_rate, 1),
                "lag_seconds": round(group.lag_nano / 1e9, 3),
            }
            for group in frame.groups
        ],
        "spans": [
            {
                "name": kind.name,
                "operation": kind.operation or None,
                "seen": kind.seen,
                "p50_nano": kind.p50_nano,
                "p99_nano": kind.p99_nano,
            }
            for kind in frame.kinds
        ],
    }


def _dropped(ring: ObservedRing) -> int:
    return sum(view.full + view.contended for view in ring.views)


def _quantile(durations: np.ndarray, share: float) -> int:
    """Return the least duration that a share of all, which are sorted, do not exceed."""
    return int(durations[max(0, int(np.ceil(share * len(durations))) - 1)])


def _by_kind(layout: SpanLayout, records: np.ndarray) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
    """Split records by span name and operation; those whose name is out of bounds are left out."""
    if not len(records):
        return
    if carries_otlp(layout):
        few = records[-_FEW:]
        for record, duration in zip(few, durations_of(few), strict=True):
            yield (name_of(layout, record), ""), np.array([duration])
        return
    field_of_operation = next(
        (field for field in layout.fields if field.attribute.labels and field.attribute.key.endswith("operation")), None
    )
    labels: Sequence[str] = ()
    operations = np.full(len(records), -1, np.int64)
    if field_of_operation is not None:
        labels = field_of_operation.attribute.labels or ()
        is_set = records["present"] >> np.uint32(field_of_operation.index) & np.uint32(1)
        operations = np.where(is_set, records[field_of_operation.attribute.key].astype(np.int64), -1)
    keys = records["name"].astype(np.int64) << 32 | operations + 1
    durations = durations_of(records)
    for key in np.unique(keys):
        name, operation = int(key) >> 32, (int(key) & 0xFFFFFFFF) - 1
        if name < len(layout.span_names) and operation < len(labels):
            label = labels[operation] if operation >= 0 else ""
            yield (layout.span_names[name], label), durations[keys == key]
