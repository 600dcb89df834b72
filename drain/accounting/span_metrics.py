"""Count, duration histogram and exemplars of the spans themselves, by service, span name and the metric labels.

Everything is computed for a batch at a time: C's work grows with the spans, Python's only with the new series.
What can become a label is the layout's decision (`Attribute.metric_label`): a label table or a bool, never id or text.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from drain.accounting.cell_counts import CellCounts
from drain.accounting.exemplars import Exemplar, ExemplarReservoir, exemplars
from drain.accounting.exponential_buckets import BOUNDS_NANO
from drain.accounting.label_names import SERVICE_LABEL, SPAN_NAME_LABEL, label_names, label_value
from drain.accounting.span_tally import SpanTally
from drain.otlp.encode_plan import find_spans
from ringbuf._ringbuf import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drain.accounting.exemplars import ExemplarFilter
    from ringbuf.layout.attribute import LayoutField
    from ringbuf.layout.layout import SpanLayout

OTHER: Final = "(other)"
"""Service and span name of the one series that takes what exceeds the bound on series."""

DURATION_BOUNDS: Final = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Upper bounds of the buckets in seconds: two a decade, since the data plane's operations span seven."""

# Up to so many, the codes that occur are found by a count of each; beyond, by a sort.
_COUNTED_CODES: Final = 1 << 15
# Up to so many, each has a place in a table of its counter; every ring has a counter.
_PLACED_CODES: Final = 1 << 12
# Codes are int64. Labels that would lead beyond are left out: their series could never be told apart within the bound.
_MAX_CODES: Final = 1 << 62
_NANO: Final = 1e9
# Tables may be as large as a ring's header: without a bound, a few series could make a scrape of gigabytes.
_MAX_LABEL_CHARACTERS: Final = 1024
# Of so many series at a time the counts are looked at: by cell they may take 4 KB each.
_ROWS_AT_ONCE: Final = 1024
# How many codes one ring's counter looks up in Python: a ring of ever new ones must not slow the drain down.
_KNOWN_CODES_PER_SERIES: Final = 4


class SpanSummary(NamedTuple):
    """What one batch of records adds to the series.

    Attributes:
        rows: which series, each once; int64, shape (n,).
        nanos: sums of their durations in nanoseconds; float64, shape (n,).
        at: int64, shape (m,): which of these rows has any spans in a cell;
        cells: the cell, the last beyond all bounds;
        counts: how many.
        exemplars: of them, for `SpanMetrics.offer`; None: none are wanted.
    """

    rows: np.ndarray
    nanos: np.ndarray
    at: np.ndarray
    cells: np.ndarray
    counts: np.ndarray
    exemplars: np.ndarray | None = None


class Series(NamedTuple):
    """One series as it is now.

    Attributes:
        labels: name and value.
        counts: spans by bucket, not cumulative; the last is beyond all bounds.
        seconds: sum of the durations.
        keys: of labels that stand for an attribute: its key.
        exponential: spans by bucket of `exponential_buckets`, of those that have any; None where they are not counted.
        exemplars: of buckets that have any, ascending.
    """

    labels: Mapping[str, str]
    counts: Sequence[int]
    seconds: float
    keys: Mapping[str, str]
    exponential: Mapping[int, int] | None = None
    exemplars: Sequence[Exemplar] = ()


class SpanMetrics:
    """The series of all rings of a drain. One thread counts, any thread may read.

    Args:
        max_series: what exceeds them is counted in one series more, whose service and span name are "(other)"; so are
            series whose labels have more than 1024 characters.
        bounds: upper bounds of the buckets in seconds, ascending.
        exponential: count so finely that exponential histograms add up from it, too.
        exemplars: which spans may be some.

    Attributes:
        cells_nano: where the cells end, in nanoseconds, ascending; uint64.
        reservoir: has the exemplars; None: there are to be none.
        bucket_of_cell: int64, shape (cells,); None: each is one.
        tally: sums spans up, for the thread that counts.
    """

    def __init__(
        self,
        max_series: int,
        bounds: Sequence[float] = DURATION_BOUNDS,
        *,
        exponential: bool = False,
        exemplars: ExemplarFilter = "trace_based",
    ) -> None:
        self.max_series = max_series
        self.bounds = tuple(bounds)
        explicit = [round(bound * _NANO) for bound in self.bounds]
        # A cell ends at a bound of either histogram, and so lies in one bucket of each.
        self.cells_nano = np.array(sorted({*explicit, *BOUNDS_NANO} if exponential else explicit), np.uint64)
        self._explicit_starts = self._starts(explicit)
        buckets = np.searchsorted(self._explicit_starts, np.arange(self.cells), side="right") - 1
        self.bucket_of_cell = buckets if exponential else None
        self.reservoir = None if exemplars == "always_off" else ExemplarReservoir(len(explicit) + 1, exemplars)
        self.tally = SpanTally(self.cells, self.reservoir, self.bucket_of_cell)
        # The shortest buckets share bounds, since there is nothing between two nanoseconds: the first of them counts.
        self._exponential_bounds, self._exponential_at = np.unique(np.array(BOUNDS_NANO, np.uint64), return_index=True)
        self._exponential_starts = self._starts(self._exponential_bounds)[:-1] if exponential else None
        self._lock = threading.Lock()
        other = {SERVICE_LABEL: OTHER, SPAN_NAME_LABEL: OTHER}
        self._labels: list[dict[str, str]] = [other]
        self._keys: list[Mapping[str, str]] = [{}]
        self._row_by_labels: dict[tuple[tuple[str, str], ...], int] = {tuple(other.items()): 0}
        self._counts = CellCounts(self.cells)
        self._nanos = np.zeros(1)

    def of(self, layout: SpanLayout, service: str) -> SpanCounter:
        """Return what summarises the records of one ring."""
        return SpanCounter(self, layout, service)

    def add(self, summary: SpanSummary, *, is_delivered: bool = False) -> None:
        """Count what was summarised; a summary belongs to released records, so that no span is counted twice.

        Args:
            summary: of records that are released.
            is_delivered: the backend has all of them: some may be exemplars.
        """
        with self._lock:
            self._counts.add(summary.rows[summary.at], summary.cells, summary.counts)
            self._nanos[summary.rows] += summary.nanos
        if is_delivered:
            self.offer(summary.exemplars)

    def offer(self, exemplars: np.ndarray | None) -> None:
        """Show spans that the backend has, as `SpanCounter` returned them."""
        if exemplars is not None and self.reservoir is not None:
            with self._lock:
                self.reservoir.offer(exemplars)

    def count(self, form: Any, records: Any, count: int, rows: np.ndarray) -> int:
        """Count records up to the first whose code has no row yet, or whose cell no block; return how many that are.

        Args:
            form: the `rb_span_form *`.
            records: their bytes, a cffi buffer.
            count: how many.
            rows: of each code, i4; negative: none yet.
        """
        with self._lock:
            series = ffi.new(
                "rb_span_series *",
                (
                    *(ffi.from_buffer("int32_t[]", rows), len(rows)),
                    ffi.from_buffer("int32_t[]", self._counts.block_of.ravel()),
                    *(_of(self._counts.blocks.ravel()), len(self._counts.blocks)),
                    *(_of(self._nanos), len(self._nanos)),
                ),
            )
            counted: int = lib.rb_count_spans(form, records, count, series)
        if counted < 0:
            raise ValueError(ffi.string(lib.rb_strerror(counted)).decode())
        return counted

    def make_blocks(self, rows: np.ndarray, cells: np.ndarray) -> None:
        """Let cells of series have the blocks that `count` needs."""
        with self._lock:
            self._counts.make_blocks(rows, cells)

    @property
    def series_count(self) -> int:
        """How many series there are, the one for the rest not counted."""
        return len(self._labels) - 1

    @property
    def overflow(self) -> int:
        """How many spans were counted in the series for the rest."""
        with self._lock:
            return int(self._counts.of(np.zeros(1, np.int64)).sum())

    def series(self) -> list[Series]:
        """Return all series that counted anything."""
        with self._lock:
            rows = self._counts.rows()
        starts = range(0, len(rows), _ROWS_AT_ONCE)
        return [series for start in starts for series in self._series(rows[start : start + _ROWS_AT_ONCE])]

    def _series(self, rows: np.ndarray) -> list[Series]:
        with self._lock:
            counts, nanos = self._counts.of(rows), self._nanos[rows].tolist()
            labels, keys = ([of_rows[row] for row in rows.tolist()] for of_rows in (self._labels, self._keys))
            held = None if self.reservoir is None else self.reservoir.held(rows)
        explicit = np.add.reduceat(counts, self._explicit_starts, axis=1)
        exponential = self._exponential(counts)
        if held is not None:
            held["seen_nano"][explicit == 0] = 0  # counted by an earlier drain, of which these series know nothing
        shown = [()] * len(rows) if held is None else exemplars(held)
        return [
            Series(labels[at], explicit[at].tolist(), nanos[at] / _NANO, keys[at], exponential[at], shown[at])
            for at in range(len(rows))
        ]

    def row_of(self, labels: dict[str, str], keys: Mapping[str, str]) -> int:
        """Return the row of a series, a new one while there is room, else 0.

        Args:
            labels: name and value.
            keys: of labels that stand for an attribute: its key. Of layouts that share a series, the first's stay.
        """
        key = tuple(labels.items())
        row = self._row_by_labels.get(key)
        if row is None:
            if (
                self.series_count >= self.max_series
                or sum(map(len, (*labels, *labels.values()))) > _MAX_LABEL_CHARACTERS
            ):
                return 0
            with self._lock:
                row = self._row_by_labels[key] = len(self._labels)
                self._labels.append(labels)
                self._keys.append(keys)
                if row == len(self._nanos):
                    self._grow()
        return row

    @property
    def cells(self) -> int:
        """How many cells durations are counted in."""
        return len(self.cells_nano) + 1

    def _starts(self, bounds_nano: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the first cell of each bucket with such upper bounds, and of what lies beyond them."""
        ends = np.searchsorted(self.cells_nano, np.asarray(bounds_nano, np.uint64))
        return np.append(0, ends + 1)

    def _exponential(self, counts: np.ndarray) -> Sequence[Mapping[int, int] | None]:
        """Return the counts (shape (n, cells)) by the buckets of `exponential_buckets`, if that is wanted."""
        if self._exponential_starts is None:
            return [None] * len(counts)
        by_bucket = np.add.reduceat(counts, self._exponential_starts, axis=1)
        rows, buckets = np.nonzero(by_bucket)
        found: list[dict[int, int]] = [{} for _ in counts]
        filled = zip(
            rows.tolist(), self._exponential_at[buckets].tolist(), by_bucket[rows, buckets].tolist(), strict=True
        )
        for row, bucket, count in filled:
            found[row][bucket] = count
        return found

    def _grow(self) -> None:
        rows = min(2 * len(self._nanos), self.max_series + 1)
        nanos = np.zeros(rows)
        nanos[: len(self._nanos)] = self._nanos
        self._nanos = nanos
        self._counts.make_room(rows)
        if self.reservoir is not None:
            self.reservoir.make_room(rows)


class _Dimension(NamedTuple):
    """One label of a layout: its value in a code is 0 when it is absent, else 1 + the index into `values`."""

    name: str
    values: Sequence[str]
    field: LayoutField


class SpanCounter:
    """Summarises records of one layout and one service. Made by `SpanMetrics.of`.

    Args:
        metrics: whose series they go to.
        layout: of the records.
        service: the label's value.
    """

    def __init__(self, metrics: SpanMetrics, layout: SpanLayout, service: str) -> None:
        self._metrics = metrics
        self._layout = layout
        self._service = label_value(service)
        self._dimensions: list[_Dimension] = []
        self._codes = len(layout.span_names)  # combinations of span name and label values
        marked = [field for field in layout.fields if field.attribute.metric_label]
        names = label_names(field.attribute.key for field in marked)
        self._keys = {name: key for key, name in names.items()}
        for field in marked:
            dimension = _dimension(field, names[field.attribute.key])
            if self._codes * (len(dimension.values) + 1) <= _MAX_CODES:
                self._dimensions.append(dimension)
                self._codes *= len(dimension.values) + 1
        self._form, self._keeps_alive = self._c_form()
        # Ascending, with the row of each at the same place: looked up with one search a batch.
        self._known_codes = np.empty(0, np.int64)
        self._known_rows = np.empty(0, np.int64)
        self._are_rows_distinct = True
        self._row_of: np.ndarray | None = None  # of each code, negative: none yet

    def summarise(self, records: np.ndarray, invalid: int, *, with_exemplars: bool = True) -> SpanSummary | None:
        """Return what the valid ones of these records add; None where there are none.

        Args:
            records: array of the layout's dtype, one dimension; only read before this returns.
            invalid: how many of them the encoder found to be no spans.
            with_exemplars: it is known what becomes of them when they are counted.
        """
        if invalid:
            records = records[find_spans(records, self._layout)]
        if not len(records):
            return None
        data = _bytes_of(records)
        tally = self._metrics.tally
        # Codes that share a row do so for good: what the tally sums up by code would be of no use.
        occurring = tally.codes(self._form, data, len(records)) if self._are_rows_distinct else None
        if occurring is not None:
            rows, are_distinct = self._rows(occurring)
            if are_distinct:
                found = tally.cells(self._form, data, len(records), rows, with_exemplars=with_exemplars)
                return SpanSummary(rows, *found)
        codes, cells, nanos = self._coded(data, len(records))
        rows, at = self._by_series(codes)
        width = self._metrics.cells
        counts = np.bincount(at * width + cells)
        filled = np.flatnonzero(counts)
        of_rows = filled // width
        sums = np.bincount(at, weights=nanos, minlength=len(rows))
        exemplars = self._exemplars(data, at, cells, nanos, rows) if with_exemplars else None
        return SpanSummary(rows, sums, of_rows, filled - of_rows * width, counts[filled], exemplars)

    def count(self, records: np.ndarray) -> None:
        """Count spans at once, all of them released; array of the layout's dtype, one dimension."""
        if self._codes > _PLACED_CODES:
            summary = self.summarise(records, 0, with_exemplars=False)
            if summary is not None:
                self.add(summary)
            return
        if self._row_of is None:
            self._row_of = np.full(self._codes, -1, np.int32)
        data = _bytes_of(records)
        done = self._metrics.count(self._form, data, len(records), self._row_of)
        if done < len(records):
            left = data + done * self._layout.dtype.itemsize
            self._place(left, len(records) - done, self._row_of)
            self._metrics.count(self._form, left, len(records) - done, self._row_of)

    def _place(self, records: Any, count: int, row_of: np.ndarray) -> None:
        """Give each code that occurs a row, and each cell of it a block."""
        codes, cells, _ = self._coded(records, count)
        for code in sorted({*codes.tolist()}):
            if code >= 0 and row_of[code] < 0:
                row_of[code] = self._metrics.row_of(self._labels(code), self._keys)
        has_row = codes >= 0
        self._metrics.make_blocks(row_of[codes[has_row]].astype(np.int64), cells[has_row])

    def exemplars(self, records: np.ndarray) -> np.ndarray | None:
        """Return those of spans that are counted elsewhere, for `SpanMetrics.offer`; None: none are wanted.

        Args:
            records: as in `summarise`; all of them spans.
        """
        if self._metrics.reservoir is None or not len(records):
            return None
        data = _bytes_of(records)
        codes, cells, nanos = self._coded(data, len(records))
        rows, at = self._by_series(codes)
        return self._exemplars(data, at, cells, nanos, rows)

    def _by_series(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of the series that occur, each once, and which of them each span is of."""
        occurring, at = self._occurring(codes)
        rows, are_distinct = self._rows(occurring)
        if are_distinct:
            return rows, at
        # What exceeds the bound on series has one row, and so have codes whose labels read the same.
        rows, of_code = np.unique(rows, return_inverse=True)
        return rows, of_code.reshape(-1)[at]

    def _coded(self, data: Any, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        codes, cells, nanos = (np.empty(count, kind) for kind in (np.int64, np.int64, np.float64))
        lib.rb_code_spans(self._form, data, count, _of(codes), _of(cells), _of(nanos))
        return codes, cells, nanos

    def _exemplars(
        self, data: Any, at: np.ndarray, cells: np.ndarray, nanos: np.ndarray, rows: np.ndarray
    ) -> np.ndarray | None:
        if (reservoir := self._metrics.reservoir) is None:
            return None
        bucket_of_cell = self._metrics.bucket_of_cell
        places = at * reservoir.buckets + (cells if bucket_of_cell is None else bucket_of_cell[cells])
        return reservoir.candidates(data, self._layout.slot_bytes, places, nanos, rows)

    def _occurring(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the codes that occur, ascending, and which of them each is."""
        if self._codes > _COUNTED_CODES:
            return np.unique(codes, return_inverse=True)
        occurring = np.flatnonzero(np.bincount(codes, minlength=self._codes))
        at = np.empty(self._codes, np.int64)
        at[occurring] = np.arange(len(occurring))
        return occurring, at[codes]

    def add(self, summary: SpanSummary, *, is_delivered: bool = False) -> None:
        """Count what `summarise` returned; see `SpanMetrics.add`."""
        self._metrics.add(summary, is_delivered=is_delivered)

    def _c_form(self) -> tuple[Any, tuple[Any, ...]]:
        """Return the form that C counts by, and what must live as long."""
        labels = ffi.new("rb_span_label[]", max(1, len(self._dimensions)))
        for label, (_, values, field) in zip(labels, self._dimensions, strict=False):
            label.bit, label.offset, label.bytes = 1 << field.index, field.offset, field.nbytes
            label.values, label.is_bool = len(values), field.attribute.row.python is bool
        bounds = self._metrics.cells_nano
        form = ffi.new(
            "rb_span_form *",
            {
                "slot_bytes": self._layout.dtype.itemsize,
                "names": len(self._layout.span_names),
                "labels": labels,
                "label_count": len(self._dimensions),
                "bound_count": len(bounds),
                "bounds_nano": ffi.from_buffer("uint64_t[]", bounds),
            },
        )
        return form, (labels, bounds)

    def _rows(self, codes: np.ndarray) -> tuple[np.ndarray, bool]:
        """Return the series' row of each code, and whether no two are the same; each code is there once."""
        rows, is_new = self._look_up(codes)
        room = _KNOWN_CODES_PER_SERIES * self._metrics.max_series - len(self._known_codes)
        if room > 0 and is_new.any():
            added = codes[is_new][:room].tolist()
            self._learn(added, [self._metrics.row_of(self._labels(code), self._keys) for code in added])
            rows, is_new = self._look_up(codes)
        return rows, self._are_rows_distinct and not is_new.any()

    def _look_up(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not len(self._known_codes):
            return np.zeros(len(codes), np.int64), np.ones(len(codes), np.bool_)
        at = np.minimum(np.searchsorted(self._known_codes, codes), len(self._known_codes) - 1)
        is_new = self._known_codes[at] != codes
        return np.where(is_new, 0, self._known_rows[at]), is_new

    def _learn(self, codes: list[int], rows: list[int]) -> None:
        known_codes = np.append(self._known_codes, np.array(codes, np.int64))
        known_rows = np.append(self._known_rows, np.array(rows, np.int64))
        order = np.argsort(known_codes)
        self._known_codes, self._known_rows = known_codes[order], known_rows[order]
        self._are_rows_distinct = len(set(known_rows.tolist())) == len(known_rows)  # np.unique imports numpy.ma: 27 ms

    def _labels(self, code: int) -> dict[str, str]:
        labels = {}
        for dimension in reversed(self._dimensions):
            code, value = divmod(code, len(dimension.values) + 1)
            if value:  # an attribute that is absent is a label that is absent
                labels[dimension.name] = dimension.values[value - 1]
        labels[SPAN_NAME_LABEL] = self._layout.span_names[code]
        labels[SERVICE_LABEL] = self._service
        return dict(sorted(labels.items()))


def _dimension(field: LayoutField, name: str) -> _Dimension:
    is_bool = field.attribute.row.python is bool
    return _Dimension(name, ("false", "true") if is_bool else field.attribute.labels or (), field)


def _bytes_of(records: np.ndarray) -> Any:
    """Return records for C: as bytes, since numpy gives no buffer of fields that are out of order."""
    return ffi.from_buffer("uint8_t[]", np.ascontiguousarray(records).view(np.uint8))


def _of(array: np.ndarray) -> Any:
    return ffi.from_buffer("double[]" if array.dtype == np.float64 else "int64_t[]", array)
