"""An exemplar is a span that was delivered, of its series and its bucket; each bucket that has such a span has one."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drain.accounting.span_metrics import SpanMetrics
from drain.otlp.encode_plan import find_spans
from ringbuf._ringbuf import lib
from tests.property.strategies import any_records_for, layouts
from tests.property.test_span_metrics import FIXED_TYPES, many_named, one_by_one

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drain.accounting.exemplars import Exemplar, ExemplarFilter
    from ringbuf.layout.layout import SpanLayout

LONGEST = 1 << 62

batches = layouts(types=FIXED_TYPES).flatmap(
    lambda layout: st.tuples(
        st.just(layout), st.lists(st.tuples(any_records_for(layout), st.booleans()), min_size=1, max_size=3)
    )
)


def counted(
    layout: SpanLayout, looks: Sequence[tuple[Any, bool]], of: ExemplarFilter, *, exponential: bool
) -> SpanMetrics:
    """Count each batch, and say whether it was delivered; ids are made different."""
    spans, number = SpanMetrics(20, exponential=exponential, exemplars=of), 0
    counter = spans.of(layout, "shop")
    for records, is_delivered in looks:
        for record in records:
            number += 1
            record["span_id"] = np.frombuffer(number.to_bytes(8, "big"), "u1")
            record["trace_id"] = np.frombuffer((number << 64).to_bytes(16, "big"), "u1")
        summary = counter.summarise(records, invalid=int((~find_spans(records, layout)).sum()))
        if summary is not None:
            spans.add(summary, is_delivered=is_delivered)
    return spans


def nanos_of(record: Any) -> int:
    return min(max(0, int(record["end_unix_nano"]) - int(record["start_unix_nano"])), LONGEST)


@pytest.mark.parametrize("of", ["trace_based", "always_on"])
@given(case=batches, exponential=st.booleans())
def test_an_exemplar_is_a_delivered_span_of_its_series_and_bucket(
    of: ExemplarFilter, case: tuple[SpanLayout, list[tuple[Any, bool]]], *, exponential: bool
) -> None:
    layout, looks = case
    spans = counted(layout, looks, of, exponential=exponential)
    bounds = [round(bound * 1e9) for bound in spans.bounds]
    delivered = {}
    for records, is_delivered in looks:
        for record in records[find_spans(records, layout)] if is_delivered else ():
            if of == "always_on" or record["flags"] & lib.RB_SPAN_SAMPLED:
                delivered[bytes(record["span_id"])] = record
    shown: dict[frozenset[tuple[str, str]], dict[int, Exemplar]] = {}
    for series in spans.series():
        of_series = shown[frozenset(series.labels.items())] = {one.bucket: one for one in series.exemplars}
        assert len(of_series) == len(series.exemplars)
        for bucket, exemplar in of_series.items():
            record = delivered[exemplar.span_id]
            assert exemplar.trace_id == bytes(record["trace_id"])
            assert exemplar.seconds == nanos_of(record) / 1e9
            # As a receiver has it, in floats: above the bound below, and not above the bucket's own.
            below, above = (-1.0, *spans.bounds)[bucket], (*spans.bounds, float("inf"))[bucket]
            assert below < exemplar.seconds <= above
    expected: dict[frozenset[tuple[str, str]], set[int]] = {}
    for record in delivered.values():
        [labels] = one_by_one(layout, [np.array([record], layout.dtype)], spans)
        expected.setdefault(labels, set()).add(bisect_left(bounds, nanos_of(record)))
    if not any("(other)" in dict(labels).values() for labels in shown):
        assert {labels: set(of_series) for labels, of_series in shown.items() if of_series} == expected


@given(batches)
def test_nothing_is_an_exemplar_where_none_are_wanted(case: tuple[SpanLayout, list[tuple[Any, bool]]]) -> None:
    spans = counted(*case, "always_off", exponential=False)
    assert not [series for series in spans.series() if series.exemplars]


def test_a_bucket_whose_spans_an_earlier_drain_has_counted_shows_none() -> None:
    layout, records = many_named(3)
    records["name"] = [0, 0, 1]
    records["end_unix_nano"][1] = 40_000_000_000
    records["span_id"] = np.arange(24).reshape(3, 8)
    records["flags"] = lib.RB_SPAN_SAMPLED
    spans = SpanMetrics(10)
    counter = spans.of(layout, "shop")
    spans.offer(counter.exemplars(records))
    assert spans.series() == []
    summary = counter.summarise(records[:1], 0)
    assert summary is not None
    spans.add(summary)
    [series] = spans.series()
    assert [one.span_id for one in series.exemplars] == [bytes(records["span_id"][0])]
