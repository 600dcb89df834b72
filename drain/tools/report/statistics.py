"""The numbers of a report, from spans that pass by once; their size depends on how many kinds of spans there are."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from drain.tools.report.distinct import Distinct
from drain.tools.report.durations import COARSE_BINS, Durations, coarse_bins
from drain.tools.report.times import TimeTable, Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from drain.tools.report.spans import Span

# A row of counts by time: the coarse bins, spans without a duration, and (of all of these) spans with an error.
_NO_DURATION: Final = COARSE_BINS
_ERRORS: Final = COARSE_BINS + 1
_ROW: Final = COARSE_BINS + 2
_SPANS: Final = slice(0, _ERRORS)

_MOST_GROUPS: Final = 200
_MOST_NAMES: Final = 100
_MOST_OUTCOMES: Final = 50
OTHERS: Final = "(others)"
"""Stands for the names that came when there were too many already."""


@dataclass(slots=True, eq=False)
class Group:
    """The spans of one name and operation.

    Attributes:
        index: of this group.
        name: of the spans.
        operation: of the spans; empty where they have none.
        spans: how many there are.
        errors: how many of them have the status ERROR.
        durations: of those that end no earlier than they start.
        coarse: the same by coarse bin.
        outcomes: how many spans by outcome, and whether they are errors.
        services: indices of the services that have such spans.
    """

    index: int
    name: str
    operation: str
    spans: int = 0
    errors: int = 0
    durations: Durations = field(default_factory=Durations)
    coarse: NDArray[np.int64] = field(default_factory=lambda: np.zeros(COARSE_BINS, np.int64))
    outcomes: Counter[tuple[str, bool]] = field(default_factory=Counter)
    services: set[int] = field(default_factory=set)


class Statistics:
    """Adds up spans.

    Attributes:
        groups: in the order of their first spans.
        services: spans by service.
        traces: how many distinct trace ids there are.
        without_start: spans that do not say when they started.
        without_duration: spans that do not say when they ended, or say that it was before they started.
        without_trace: spans without a trace id.
        first_unix_nano: the earliest start; 0 if there is none.
        last_unix_nano: the latest start or end.
    """

    def __init__(self) -> None:
        self.groups: list[Group] = []
        self.services: dict[str, int] = {}
        self.traces = Distinct()
        self.without_start = self.without_duration = self.without_trace = 0
        self.first_unix_nano = self.last_unix_nano = 0
        self._group_of: dict[tuple[str, str], Group] = {}
        self._names: set[str] = set()
        self._service_index: dict[str, int] = {}
        self._times = TimeTable(_ROW)

    @property
    def spans(self) -> int:
        """How many spans there are."""
        return sum(group.spans for group in self.groups)

    @property
    def errors(self) -> int:
        """How many spans have the status ERROR."""
        return sum(group.errors for group in self.groups)

    @property
    def service_names(self) -> list[str]:
        """The services, by index."""
        return list(self._service_index)

    def add(self, spans: Sequence[Span]) -> None:
        """Count spans."""
        if not spans:
            return
        groups = [self._group(span) for span in spans]
        starts = np.array([span.start for span in spans], np.int64)
        ends = np.array([span.end for span in spans], np.int64)
        errors = np.array([span.is_error for span in spans], bool)
        indices = np.array([group.index for group in groups], np.int64)
        self._add_times(starts, ends)
        self._add_traces(span.trace_id for span in spans)
        has_duration = (starts > 0) & (ends >= starts)
        self.without_duration += int(np.count_nonzero(~has_duration))
        self.without_start += int(np.count_nonzero(starts == 0))
        columns = np.full(len(spans), _NO_DURATION, np.int64)
        columns[has_duration] = coarse_bins((ends - starts)[has_duration])
        rows = np.full(len(spans), -1, np.int64)
        rows[starts > 0] = self._times.rows(starts[starts > 0])
        for index in np.unique(indices).tolist():
            of_group = indices == index
            group = self.groups[index]
            group.spans += int(np.count_nonzero(of_group))
            group.errors += int(np.count_nonzero(of_group & errors))
            group.durations.add((ends - starts)[of_group & has_duration])
            group.coarse += np.bincount(columns[of_group & has_duration], minlength=COARSE_BINS)
            timed = of_group & (rows >= 0)
            self._times.add(index, rows[timed], columns[timed])
            failed = rows[timed & errors]
            self._times.add(index, failed, np.full(len(failed), _ERRORS))

    def window(self) -> Window:
        """Return the columns of the pictures over time."""
        return self._times.window([group.index for group in self.groups], _SPANS)

    def series(self, groups: Iterable[Group], window: Window) -> Series:
        """Return the counts of some groups over time."""
        total = np.zeros((window.columns, _ROW), np.int64)
        for group in groups:
            total += self._times.series(group.index, window)
        return Series(total[:, :COARSE_BINS], total[:, _SPANS].sum(axis=1), total[:, _ERRORS])

    def _add_times(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        known = starts[starts > 0]
        if len(known):
            first = int(known.min())
            self.first_unix_nano = min(self.first_unix_nano or first, first)
            self.last_unix_nano = max(self.last_unix_nano, int(known.max()), int(ends.max()))

    def _add_traces(self, trace_ids: Iterable[str]) -> None:
        known = [trace_id for trace_id in trace_ids if trace_id]
        if known:
            halves = np.frombuffer(bytes.fromhex("".join(known)), ">u8").reshape(-1, 2)
            self.traces.add(halves[:, 0], halves[:, 1])

    def _group(self, span: Span) -> Group:
        group = self._group_of.get((span.name, span.operation))
        if group is None:
            group = self._new_group(span.name, span.operation)
        outcome = (span.outcome, span.is_error)
        if outcome not in group.outcomes and len(group.outcomes) >= _MOST_OUTCOMES:
            outcome = (OTHERS, span.is_error)
        group.outcomes[outcome] += 1
        service = span.service
        if service not in self._service_index and len(self._service_index) >= _MOST_NAMES:
            service = OTHERS
        index = self._service_index.setdefault(service, len(self._service_index))
        self.services[service] = self.services.get(service, 0) + 1
        group.services.add(index)
        if not span.trace_id:
            self.without_trace += 1
        return group

    def _new_group(self, name: str, operation: str) -> Group:
        if name not in self._names and len(self._names) >= _MOST_NAMES:
            name, operation = OTHERS, ""
        elif len(self.groups) >= _MOST_GROUPS:
            operation = OTHERS
        group = self._group_of.get((name, operation))
        if group is None:
            group = self._group_of[name, operation] = Group(len(self.groups), name, operation)
            self.groups.append(group)
            self._names.add(name)
        return group


@dataclass(frozen=True, slots=True)
class Series:
    """Counts in the columns of a window.

    Attributes:
        durations: by column and coarse bin.
        spans: by column, also those without a duration.
        errors: by column.
    """

    durations: NDArray[np.int64]
    spans: NDArray[np.int64]
    errors: NDArray[np.int64]
