"""Counts in blocks are what an array of all cells would hold, and take memory only where something was counted."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drain.accounting.cell_counts import CellCounts
from drain.accounting.snapshot import Snapshot
from drain.accounting.span_metrics import SpanMetrics
from drain.exporters.measured import MeasuredExporter
from drain.telemetry.otlp_metrics import OtlpMetrics
from drain.telemetry.streams import Streams, TemporalityPreference
from ringbuf.layout.layout import SpanLayout
from tests.clocks import Clock
from tests.unit.telemetry.full_drain import Backend, sources

if TYPE_CHECKING:
    from drain.accounting.span_metrics import SpanCounter
    from drain.telemetry.sources import Sources

SERIES = 600


@given(st.data(), st.sampled_from([1, 17, 32, 33, 497]), st.integers(1, 40))
def test_blocks_hold_what_an_array_of_all_cells_would(data: st.DataObject, cells: int, rows: int) -> None:
    counts, expected = CellCounts(cells), np.zeros((rows, cells), np.int64)
    there = 1
    adds = st.dictionaries(st.tuples(st.integers(0, rows - 1), st.integers(0, cells - 1)), st.integers(1, 5))
    for added in data.draw(st.lists(adds, max_size=4)):
        needed = max((row + 1 for row, _ in added), default=0)
        if needed > there:
            there = needed
            counts.make_room(there)
        at = np.array([*added], np.int64).reshape(-1, 2)
        counts.add(at[:, 0], at[:, 1], np.array([*added.values()], np.int64))
        np.add.at(expected, (at[:, 0], at[:, 1]), [*added.values()])
    assert counts.rows().tolist() == np.flatnonzero(expected[:there].any(axis=1)).tolist()
    assert counts.of(np.arange(there)).tolist() == expected[:there].tolist()


def tell(counter: SpanCounter, records: np.ndarray[Any, Any], metrics: OtlpMetrics, of: Sources, now: int) -> None:
    summary = counter.summarise(records, 0)
    assert summary is not None
    counter.add(summary)
    for request in metrics.requests(of.read(), now):
        request.acknowledge()


def memory_of(preference: TemporalityPreference, *, exponential: bool) -> int:
    """Return the bytes that series of spans between 1 and 10 ms keep, counted and told twice."""
    layout = SpanLayout(span_names=[f"span {number}" for number in range(SERIES)], attributes=[])
    records = layout.empty(20 * SERIES)
    records["name"] = np.arange(len(records)) % SERIES
    records["trace_id"] = records["span_id"] = 1
    records["end_unix_nano"] = np.random.default_rng(219).integers(10**6, 10**7, len(records))
    clock = Clock()
    tracemalloc.start()
    try:
        spans = SpanMetrics(SERIES, exponential=exponential, exemplars="always_off")
        of = replace(sources(Snapshot(), MeasuredExporter(Backend(clock), clock), clock), spans=spans)
        metrics = OtlpMetrics(Streams(0, preference), exponential=exponential)
        counter = spans.of(layout, "shop")
        for now in (1, 2):
            tell(counter, records, metrics, of, now)
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("preference", ["cumulative", "delta"])
def test_an_exponential_histogram_takes_little_more_than_its_durations_need(preference: TemporalityPreference) -> None:
    """Of 497 buckets a series of a decade needs 27: with all of them it took 12 KB more."""
    more = memory_of(preference, exponential=True) - memory_of(preference, exponential=False)
    assert more / SERIES < 3000
