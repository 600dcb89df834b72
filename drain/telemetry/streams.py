"""What a receiver of metrics has of each counter and histogram, so that each point says since when it counts.

Source: OpenTelemetry specification `metrics/data-model.md`, "Temporality" and "Resets and Gaps".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from drain.accounting.exemplars import Exemplar

Numbers: TypeAlias = Mapping[int, float]
"""By place, what is 0 left out: of a counter `VALUE`, of a histogram the counts by bucket, and `TOTAL`."""

VALUE: Final = 0
TOTAL: Final = -1
"""The sum of what a histogram counts."""

TemporalityPreference: TypeAlias = Literal["cumulative", "delta", "lowmemory"]


class Point(NamedTuple):
    """What is sent of one stream.

    Attributes:
        stream: whose it is.
        start_unix_nano: since when the numbers count.
        numbers: what is told.
        exemplars: what was seen of these since the last acknowledgement.
    """

    stream: Stream
    start_unix_nano: int
    numbers: Numbers
    exemplars: Sequence[Exemplar] = ()

    def acknowledge(self, until_unix_nano: int) -> None:
        """Note that a receiver has it."""
        self.stream.acknowledge(self.numbers, until_unix_nano)
        self.stream.exemplars_nano = max((one.seen_nano for one in self.exemplars), default=self.stream.exemplars_nano)


@dataclass(slots=True)
class Stream:
    """One series of a counter or histogram.

    Attributes:
        is_delta: it tells what was added since the last acknowledgement, else all since it began.
        start_unix_nano: since when `owed` counts.
        seen: what the source said last.
        seen_unix_nano: when it did.
        owed: what is to be told: all, or what was not acknowledged.
        exemplars_nano: when the newest exemplar was seen that a receiver has.
    """

    is_delta: bool
    start_unix_nano: int
    seen: Numbers
    seen_unix_nano: int
    owed: Numbers
    exemplars_nano: int = 0

    def see(self, numbers: Numbers, now: int) -> None:
        """Take in what the source says now; a number that has fallen is of a source that began again at 0."""
        has_begun_again = any(numbers.get(place, 0) < old for place, old in self.seen.items())
        if has_begun_again and not self.is_delta:
            self.start_unix_nano, self.owed = self.seen_unix_nano, numbers
        elif has_begun_again:
            self.owed = _sum(self.owed, numbers)
        elif self.is_delta:
            self.owed = _sum(self.owed, _difference(numbers, self.seen))
        else:
            self.owed = numbers
        self.seen, self.seen_unix_nano = numbers, now

    def acknowledge(self, told: Numbers, until_unix_nano: int) -> None:
        """Note that a receiver has what was told until then."""
        if self.is_delta:
            self.owed, self.start_unix_nano = _difference(self.owed, told), until_unix_nano


class Streams:
    """All series of one drain.

    Args:
        start_unix_nano: when everything was 0.
        preference: which of them are told as differences: "delta" all, "lowmemory" the histograms (those counters that
            are read at each export stay cumulative), "cumulative" none.
    """

    def __init__(self, start_unix_nano: int, preference: TemporalityPreference) -> None:
        self._start_unix_nano = start_unix_nano
        self._preference = preference
        self._streams: dict[Hashable, Stream] = {}

    def is_delta(self, kind: Literal["counter", "histogram"]) -> bool:
        """Return whether metrics of this kind are told as differences."""
        return self._preference == "delta" or (self._preference == "lowmemory" and kind == "histogram")

    def point(
        self,
        key: Hashable,
        kind: Literal["counter", "histogram"],
        numbers: Numbers,
        now: int,
        exemplars: Sequence[Exemplar] = (),
    ) -> Point:
        """Return what to send of one series.

        Args:
            key: which.
            kind: of its metric.
            numbers: what its source says now, since the drain's start.
            now: Unix time in nanoseconds.
            exemplars: what its source has.
        """
        stream = self._streams.get(key)
        if stream is None:
            start = self._start_unix_nano
            stream = self._streams[key] = Stream(self.is_delta(kind), start, {}, start, {})
        stream.see(numbers, now)
        new = [one for one in exemplars if one.seen_nano > stream.exemplars_nano]
        return Point(stream, stream.start_unix_nano, stream.owed, new)


def _sum(one: Numbers, other: Numbers) -> Numbers:
    return {place: one.get(place, 0) + other.get(place, 0) for place in {**one, **other}}


def _difference(one: Numbers, other: Numbers) -> Numbers:
    left = {place: number - other.get(place, 0) for place, number in one.items()}
    return {place: number for place, number in left.items() if number}
