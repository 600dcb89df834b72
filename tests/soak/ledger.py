"""What each producer says of its spans, in memory that outlives it, and what of them has arrived.

A *stream* is the spans of one thread or process, numbered from 0. A span carries both numbers in its start time, which
every kind of producer can set: stream << 32 | number.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

STREAMS: Final = 1 << 18
STREAMS_OF_A_PROCESS: Final = 16
NUMBER_BITS: Final = 32
# Of a stream. A producer writes INTENT before a call and DONE behind it, so that a kill leaves the difference in doubt.
INTENT, DONE, FULL, CONTENDED, UNSAMPLED, LOCAL, CHILDREN = range(7)
WORDS: Final = 8
REASONS: Final = {"full": FULL, "contended": CONTENDED, "unsampled": UNSAMPLED, "local": LOCAL}
_CHUNK: Final = 1 << 16
_RANGES_SHOWN: Final = 5


def open_ledger(path: Path) -> np.ndarray:
    """Return the words of all streams, an array (STREAMS, WORDS) of u64 that processes share."""
    with path.open("a+b") as file:
        file.truncate(STREAMS * WORDS * 8)
        shared = mmap.mmap(file.fileno(), 0)
    return np.frombuffer(shared, "u8").reshape(STREAMS, WORDS)


@dataclass
class _Arrived:
    """Which numbers of a stream have come: all below `first`, and those marked in `beyond`, which begins there."""

    first: int = 0
    beyond: np.ndarray = field(default_factory=lambda: np.zeros(_CHUNK, bool))

    def take(self, numbers: np.ndarray) -> int:
        """Mark numbers; return how many had come before."""
        distinct = np.unique(numbers)
        late = distinct[distinct >= self.first] - self.first
        if len(late) and late[-1] >= len(self.beyond):
            # A number that no producer would have reached is kept out of the array, and is a failure elsewhere.
            grown = np.zeros(int(late[-1]) + _CHUNK, bool)
            grown[: len(self.beyond)] = self.beyond
            self.beyond = grown
        new = int(np.count_nonzero(~self.beyond[late]))
        self.beyond[late] = True
        while len(self.beyond) > _CHUNK and self.beyond[:_CHUNK].all():
            self.first += _CHUNK
            self.beyond = self.beyond[_CHUNK:].copy()
        return len(numbers) - new

    def has_come(self, count: int) -> np.ndarray:
        """Return for each number below `count` whether it has come."""
        come = np.zeros(count, bool)
        come[: self.first] = True
        beyond = self.beyond[: max(0, count - self.first)]
        come[self.first : self.first + len(beyond)] = beyond
        return come

    @property
    def count(self) -> int:
        return self.first + int(np.count_nonzero(self.beyond))


class Arrivals:
    """What the receiver has kept, added up."""

    def __init__(self) -> None:
        self.streams: dict[int, _Arrived] = {}
        self.repeated = 0
        self.of_bad_rings = 0

    def take(self, traces: TracesData) -> None:
        for resource_spans in traces.resource_spans:
            attributes = resource_spans.resource.attributes
            service = next(pair.value.string_value for pair in attributes if pair.key == "service.name")
            starts = [span.start_time_unix_nano for scope in resource_spans.scope_spans for span in scope.spans]
            if service.startswith("bad-"):
                self.of_bad_rings += len(starts)
                continue
            keys = np.array(starts, "u8")
            streams = keys >> NUMBER_BITS
            for stream in np.unique(streams):
                numbers = (keys[streams == stream] & ((1 << NUMBER_BITS) - 1)).astype(np.int64)
                self.repeated += self.streams.setdefault(int(stream), _Arrived()).take(numbers)


@dataclass
class Balance:
    """The conservation law over a soak, in spans.

    Attributes:
        emitted: calls returned that they were written.
        in_doubt: at most so many more were written by calls that a kill ended.
        delivered: distinct spans that the receiver kept.
        repeated: came once more.
        dropped: refused to the producer, by reason, as far as it has told; each was tried again under the same number.
        rejected: refused by the receiver for good, at a moment without room to keep them as dead letters.
        lost: written, and what became of them nobody knows.
        invented: came, and nobody wrote them.
        lost_of_streams: for each stream that lost some, the first ranges of their numbers, both ends included.
    """

    emitted: int
    in_doubt: int
    delivered: int
    repeated: int
    dropped: dict[str, int]
    rejected: int
    lost: int
    invented: int
    lost_of_streams: dict[int, str]


def _ranges(numbers: np.ndarray) -> str:
    """Write ascending numbers as ranges, the first few of them."""
    starts = np.flatnonzero(np.diff(numbers, prepend=-2) > 1)
    ends = np.append(starts[1:], len(numbers)) - 1
    shown = [f"{numbers[start]}-{numbers[end]}" for start, end in zip(starts, ends, strict=True)]
    return ", ".join(shown[:_RANGES_SHOWN]) + (f" and {len(shown) - _RANGES_SHOWN} more" * (len(shown) > _RANGES_SHOWN))


def balance(ledger: np.ndarray, arrivals: Arrivals, refusals: Arrivals) -> Balance:
    """Compare what was written with what has come, and with what the receiver has refused."""
    lost = invented = delivered = rejected = 0
    nothing = _Arrived()
    lost_of_streams: dict[int, str] = {}
    for stream, words in enumerate(ledger.tolist()):
        done, intent = words[DONE], words[INTENT]
        if not intent and stream not in arrivals.streams:
            continue
        arrived = arrivals.streams.get(stream, nothing)
        within = int(np.count_nonzero(arrived.has_come(intent)))
        delivered += within
        invented += arrived.count - within
        missing = ~arrived.has_come(done)
        refused = refusals.streams.get(stream, nothing).has_come(done)
        rejected += int(np.count_nonzero(missing & refused))
        gone = np.flatnonzero(missing & ~refused)
        lost += len(gone)
        if len(gone):
            lost_of_streams[stream] = f"{len(gone)} of {done}: {_ranges(gone)}"
    invented += sum(arrived.count for stream, arrived in arrivals.streams.items() if stream >= STREAMS)
    sums = ledger.sum(axis=0).tolist()
    return Balance(
        emitted=sums[DONE],
        in_doubt=sums[INTENT] - sums[DONE],
        delivered=delivered,
        repeated=arrivals.repeated,
        dropped={reason: sums[word] for reason, word in REASONS.items()},
        rejected=rejected,
        lost=lost,
        invented=invented,
        lost_of_streams=lost_of_streams,
    )
