"""The slowest traces: which they are, found while all spans pass by; and their spans, as a tree, from a second reading.

A trace is as slow as its longest span. That can be known while its spans are still far apart in the input, and is the
root's duration wherever a parent outlasts its children.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from drain.tools.report.spans import Span

MOST_ROWS: Final = 60
"""Spans of a trace that are shown, the longest."""

_MOST_KEPT: Final = 1000
_MOST_NAMES: Final = 10
_NO_TIME: Final = 1 << 64


class Row(NamedTuple):
    """A span in its place in a trace.

    Attributes:
        span: itself.
        depth: 0 for a root.
        is_orphan: its parent is not in the input; not said of a trace of which not all spans could be kept.
    """

    span: Span
    depth: int
    is_orphan: bool


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace to show.

    Attributes:
        trace_id: 32 hex digits.
        rows: its spans, parents before their children, which come by their start; where there are many, the longest.
        spans: how many spans of it are in the input.
        start: of the first span, Unix time in nanoseconds.
        end: of the last.
        services: in the order of the rows.
    """

    trace_id: str
    rows: tuple[Row, ...]
    spans: int
    start: int
    end: int
    services: tuple[str, ...]

    @property
    def longest(self) -> int:
        """The longest span's duration in nanoseconds, by which the trace was chosen."""
        return max((row.span.end - row.span.start for row in self.rows), default=0)


class SlowestTraces:
    """Finds the ids of the slowest traces.

    Args:
        count: so many overall; beside them, the slowest trace with a span of each name (for ten names) is kept.
    """

    def __init__(self, count: int) -> None:
        self._overall = _Slowest(count)
        self._by_name: dict[str, _Slowest] = {}

    def add(self, spans: Sequence[Span]) -> None:
        """Look at spans."""
        known = [span for span in spans if span.trace_id and 0 < span.start <= span.end]
        if not known or not self._overall.count:
            return
        durations = np.array([span.end - span.start for span in known], np.int64)
        self._overall.offer(durations, known)
        of_name = defaultdict(list)
        for index, span in enumerate(known):
            of_name[span.name].append(index)
        for name, indices in of_name.items():
            if name not in self._by_name and len(self._by_name) >= _MOST_NAMES:
                continue
            index = indices[int(np.argmax(durations[indices]))]
            self._by_name.setdefault(name, _Slowest(1)).offer(durations[[index]], [known[index]])

    def ids(self) -> list[str]:
        """Return the ids, the slowest first."""
        slowest = dict(self._overall.longest)
        for of_name in self._by_name.values():
            slowest.update(of_name.longest)
        return [trace_id for trace_id, _ in sorted(slowest.items(), key=lambda item: (-item[1], item[0]))]


class TraceSpans:
    """Collects the spans of some traces.

    Args:
        trace_ids: of those traces, in lower case.
        most_rows: so many spans of each are shown, the longest.
    """

    def __init__(self, trace_ids: Sequence[str], most_rows: int = MOST_ROWS) -> None:
        self._most_rows = most_rows
        self._gathered = {trace_id: _Gathered() for trace_id in trace_ids}
        self._needles = [trace_id.encode() for trace_id in trace_ids]

    def may_have(self, line: bytes) -> bool:
        """Return whether it is worth while to read a line."""
        lower = line.lower()
        return any(needle in lower for needle in self._needles)

    def add(self, spans: Iterator[Span]) -> None:
        """Keep those that belong to the traces; what was delivered twice is kept and counted once."""
        for span in spans:
            gathered = self._gathered.get(span.trace_id)
            if gathered is not None and span.start:
                gathered.add(span)

    def traces(self) -> list[Trace]:
        """Return the traces, in the order of their ids as they were given."""
        return [
            _trace(trace_id, gathered, self._most_rows)
            for trace_id, gathered in self._gathered.items()
            if gathered.kept
        ]


class _Gathered:
    """What is known of a trace: of its many spans the longest, and of all how many and when."""

    def __init__(self) -> None:
        self.kept: dict[str, Span] = {}
        self.start = _NO_TIME
        self.end = 0
        self._without_id = 0
        # Of each span that came, kept or not: one that is found again must not count again. Eight bytes a span.
        self._ids = array("q")

    def add(self, span: Span) -> None:
        if span.span_id in self.kept:
            return
        if span.span_id:
            self._ids.append(hash(span.span_id))
        else:
            self._without_id += 1
        self.start = min(self.start, span.start)
        self.end = max(self.end, span.start, span.end)
        # Spans without an id are told apart by their number; nothing can be their child.
        self.kept[span.span_id or f"-{self._without_id}"] = span
        if len(self.kept) >= 2 * _MOST_KEPT:
            self.kept = _longest_with_ancestors(self.kept)

    def count(self) -> int:
        """Return how many different spans there are."""
        return len(np.unique(np.frombuffer(self._ids, np.int64))) + self._without_id


def _longest_with_ancestors(spans: Mapping[str, Span]) -> dict[str, Span]:
    """Return half of what is kept at most: what is shown later must find its nearest ancestor."""
    by_length = sorted(spans, key=lambda key: spans[key].start - spans[key].end)
    kept = {key: spans[key] for key in by_length[: _MOST_KEPT // 2]}
    for key in list(kept):
        parent = spans[key].parent_span_id
        while parent in spans and parent not in kept and len(kept) < _MOST_KEPT:
            kept[parent] = spans[parent]
            parent = spans[parent].parent_span_id
    return kept


def _trace(trace_id: str, gathered: _Gathered, most_rows: int) -> Trace:
    count = gathered.count()
    is_whole = len(gathered.kept) == count
    rows = tuple(row if is_whole else row._replace(is_orphan=False) for row in _rows(gathered.kept, most_rows))
    services = tuple(dict.fromkeys(row.span.service for row in rows))
    return Trace(trace_id, rows, count, gathered.start, gathered.end, services)


def _rows(spans: Mapping[str, Span], most: int) -> Iterator[Row]:
    """Yield the longest spans in the order of the tree; each hangs on its nearest ancestor that is shown."""
    shown = dict(sorted(spans.items(), key=lambda item: item[1].start - item[1].end)[:most])
    children: dict[str, list[str]] = defaultdict(list)
    roots = []
    by_start = sorted(shown, key=lambda key: (shown[key].start, -shown[key].end, key))
    for key in by_start:
        ancestor = _shown_ancestor(key, spans, shown)
        if ancestor:
            children[ancestor].append(key)
        else:
            roots.append(key)
    left = dict.fromkeys(by_start)
    # A circle of parents has no root: it is entered at its earliest span, behind all that can be reached.
    waiting = [(key, 0) for key in reversed(roots)]
    while left:
        key, depth = waiting.pop() if waiting else (next(iter(left)), 0)
        if key not in left:
            continue
        del left[key]
        span = shown[key]
        yield Row(span, depth, bool(span.parent_span_id) and span.parent_span_id not in spans)
        waiting += [(child, depth + 1) for child in reversed(children[key])]


def _shown_ancestor(key: str, spans: Mapping[str, Span], shown: Mapping[str, Span]) -> str:
    seen = {key}
    parent = spans[key].parent_span_id
    while parent in spans and parent not in seen:
        if parent in shown:
            return parent
        seen.add(parent)
        parent = spans[parent].parent_span_id
    return ""


class _Slowest:
    """The traces with the longest spans, each with the duration of its longest."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.longest: dict[str, int] = {}
        self._least = -1

    def offer(self, durations: NDArray[np.int64], spans: Sequence[Span]) -> None:
        """Keep what is slow enough; by equal durations the first that came."""
        for index in np.flatnonzero(durations > self._least).tolist():
            trace_id, duration = spans[index].trace_id, int(durations[index])
            self.longest[trace_id] = max(self.longest.get(trace_id, -1), duration)
            if len(self.longest) > 2 * self.count:
                self._cut()
        self._cut()

    def _cut(self) -> None:
        if len(self.longest) >= self.count:
            kept = sorted(self.longest.items(), key=lambda item: -item[1])[: self.count]
            self.longest = dict(kept)
            self._least = kept[-1][1] if kept else -1
