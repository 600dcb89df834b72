"""Span metrics count what an oracle counts span by span, and nothing but label tables and bools becomes a label."""

from __future__ import annotations

import json
import re
import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from drain.accounting import span_tally
from drain.accounting.exponential_buckets import bucket
from drain.accounting.label_names import label_names
from drain.accounting.snapshot import Snapshot, SnapshotExchange
from drain.accounting.span_metrics import OTHER, SpanMetrics
from drain.exporters.measured import MeasuredExporter
from drain.exporters.protocol import Result, Verdict
from drain.otlp.encode_plan import find_spans
from drain.otlp.encoder import to_resource_spans
from drain.telemetry.health import Health
from drain.telemetry.metrics import DrainCollector, registry_of
from drain.telemetry.sources import Sources
from ringbuf.exceptions import LayoutError
from ringbuf.layout.layout import Attribute, SpanLayout
from tests.property.strategies import ALL_TYPES, any_records_for, attributes, keys, layouts, records_for

if TYPE_CHECKING:
    from drain.otlp.request import Encoding, Request

LABEL_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*")
MAX_SERIES = 500
# Of spans that carry OTLP, the name that metrics have is the record's: those in the OTLP have no bound.
FIXED_TYPES = tuple(kind for kind in ALL_TYPES if kind not in ("otlp", "scope"))
UNMARKED_TYPES = tuple(kind for kind in ALL_TYPES if kind not in ("label", "bool"))


class NoBackend:
    encoding: Encoding = "protobuf"
    endpoint = "nowhere"

    def export(self, _request: Request) -> Result:
        return Result(Verdict.DELIVERED)

    def close(self) -> None:
        pass


def registry(spans: SpanMetrics) -> CollectorRegistry:
    exporter = MeasuredExporter(NoBackend())
    snapshots = SnapshotExchange(wake=lambda: snapshots.publish(Snapshot()))
    return registry_of(DrainCollector(Sources(snapshots, exporter.state, Health(exporter.state), spans)))


def exposed(spans: SpanMetrics) -> str:
    families = generate_latest(registry(spans)).decode()
    return families[families.index("# HELP ringbuf_span_duration_seconds") :].partition("# HELP process_")[0]


def count(spans: SpanMetrics, layout: SpanLayout, records: Any, service: str = "shop") -> None:
    summary = spans.of(layout, service).summarise(records, invalid=int((~find_spans(records, layout)).sum()))
    if summary is not None:
        spans.add(summary)


def series_of(spans: SpanMetrics) -> dict[frozenset[tuple[str, str]], tuple[list[int], float]]:
    return {frozenset(one.labels.items()): (list(one.counts), one.seconds) for one in spans.series()}


def one_by_one(layout: SpanLayout, batches: list[Any], spans: SpanMetrics) -> dict[frozenset[tuple[str, str]], Any]:
    """Count with the reference encoder's spans and dictionaries; nothing of the module is used but its bounds."""
    names = label_names(attribute.key for attribute in layout.attributes if attribute.metric_label)
    counts: defaultdict[frozenset[tuple[str, str]], list[int]] = defaultdict(lambda: [0] * (len(spans.bounds) + 1))
    sums: Counter[frozenset[tuple[str, str]]] = Counter()
    for records in batches:
        for span in to_resource_spans(records, layout, {}).scope_spans[0].spans:
            labels = {"service": "shop", "span_name": span.name}
            for attribute in span.attributes:
                if attribute.key in names:
                    value = attribute.value
                    is_bool = value.HasField("bool_value")
                    labels[names[attribute.key]] = str(value.bool_value).lower() if is_bool else value.string_value
            nanos = min(max(0, span.end_time_unix_nano - span.start_time_unix_nano), 1 << 62)
            bucket = bisect_left([round(bound * 1e9) for bound in spans.bounds], nanos)
            counts[frozenset(labels.items())][bucket] += 1
            sums[frozenset(labels.items())] += nanos
    return {labels: (counts[labels], pytest.approx(sums[labels] / 1e9)) for labels in counts}


@given(
    layouts(types=FIXED_TYPES).flatmap(
        lambda layout: st.tuples(st.just(layout), st.lists(any_records_for(layout), max_size=3))
    )
)
def test_a_batch_adds_what_its_spans_add_one_by_one(case: tuple[SpanLayout, list[Any]]) -> None:
    layout, batches = case
    spans = SpanMetrics(MAX_SERIES)
    for records in batches:
        count(spans, layout, records)
    assert series_of(spans) == one_by_one(layout, batches, spans)


@given(
    layouts(types=FIXED_TYPES).flatmap(
        lambda layout: st.tuples(st.just(layout), st.lists(any_records_for(layout), max_size=3))
    ),
    st.booleans(),
)
def test_so_does_one_of_more_series_than_are_summed_up_in_one_pass(
    case: tuple[SpanLayout, list[Any]], exponential: bool
) -> None:
    layout, batches = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(span_tally, "_CELLS", 1)  # room for one
        spans = SpanMetrics(MAX_SERIES, exponential=exponential)
    for records in batches:
        count(spans, layout, records)
    assert series_of(spans) == one_by_one(layout, batches, spans)


@given(
    layouts(types=FIXED_TYPES).flatmap(
        lambda layout: st.tuples(st.just(layout), st.lists(any_records_for(layout), max_size=3))
    ),
    st.booleans(),
)
def test_spans_that_are_counted_at_once_add_the_same(case: tuple[SpanLayout, list[Any]], exponential: bool) -> None:
    layout, batches = case
    spans, summed = (SpanMetrics(MAX_SERIES, exponential=exponential) for _ in range(2))
    counter = spans.of(layout, "shop")
    for records in batches:
        counter.count(records[find_spans(records, layout)])
        count(summed, layout, records)
    assert series_of(spans) == one_by_one(layout, batches, spans)
    found, expected = ([(one.labels, one.exponential) for one in both.series()] for both in (spans, summed))
    assert sorted(map(repr, found)) == sorted(map(repr, expected))


@given(layouts(types=FIXED_TYPES).flatmap(lambda layout: st.tuples(st.just(layout), any_records_for(layout))))
def test_exponential_buckets_are_counted_beside_the_explicit_ones(case: tuple[SpanLayout, Any]) -> None:
    layout, records = case
    plain, fine = SpanMetrics(MAX_SERIES), SpanMetrics(MAX_SERIES, exponential=True)
    for spans in (plain, fine):
        count(spans, layout, records)
    assert series_of(fine) == series_of(plain)
    valid = records[find_spans(records, layout)]
    durations = (
        min(max(0, int(end) - int(start)), 1 << 62)
        for start, end in zip(valid["start_unix_nano"], valid["end_unix_nano"], strict=True)
    )
    counted: Counter[int] = Counter()
    for series in fine.series():
        counted.update(series.exponential or {})
    assert counted == Counter(map(bucket, durations))
    assert all(one.exponential is None for one in plain.series())


@given(layouts().flatmap(lambda layout: st.tuples(st.just(layout), any_records_for(layout))))
def test_records_are_valid_that_the_encoder_encodes(case: tuple[SpanLayout, Any]) -> None:
    layout, records = case
    encoded = [
        len(to_resource_spans(records[at : at + 1], layout, {}).scope_spans[0].spans) for at in range(len(records))
    ]
    assert find_spans(records, layout).tolist() == [bool(spans) for spans in encoded]


@given(st.data(), layouts(min_attributes=1))
def test_no_value_but_of_a_label_table_or_a_bool_has_any_effect(data: st.DataObject, layout: SpanLayout) -> None:
    """Two batches that differ in ids and in every value of another type are exposed as the same bytes."""
    first = data.draw(records_for(layout, min_size=1), label="records")
    second = data.draw(records_for(layout, min_size=len(first), max_size=len(first)), label="other values")
    kept = {"start_unix_nano", "end_unix_nano", "name", "present"}
    kept |= {attribute.key for attribute in layout.attributes if attribute.metric_label}
    for name in kept:
        second[name] = first[name]
    before, after = SpanMetrics(MAX_SERIES), SpanMetrics(MAX_SERIES)
    count(before, layout, first)
    count(after, layout, second)
    assert exposed(before) == exposed(after)


@given(layouts().flatmap(lambda layout: st.tuples(st.just(layout), records_for(layout))))
def test_every_label_value_is_from_a_table_of_the_layout(case: tuple[SpanLayout, Any]) -> None:
    layout, records = case
    spans = SpanMetrics(MAX_SERIES)
    count(spans, layout, records)
    marked = [attribute for attribute in layout.attributes if attribute.metric_label]
    names = label_names(attribute.key for attribute in marked)
    allowed = {
        "service": {"shop"},
        "span_name": set(layout.span_names),
        **{names[attribute.key]: set(attribute.labels or ("false", "true")) for attribute in marked},
    }
    seen = 0.0
    for family in text_string_to_metric_families(exposed(spans)):
        for sample in family.samples:
            for name, value in sample.labels.items():
                assert name == "le" or value in allowed[name]
            seen += sample.value if sample.name.endswith("_count") else 0
    assert seen == len(records)


@given(attributes(UNMARKED_TYPES))
def test_an_id_or_a_text_cannot_be_marked(attribute: Attribute) -> None:
    with pytest.raises(ValueError, match="only a label or bool may be a metric_label"):
        Attribute(attribute.key, attribute.type, attribute.size, attribute.labels, metric_label=True)


@given(attributes(UNMARKED_TYPES))
def test_nor_by_a_ring_whose_layout_somebody_else_wrote(attribute: Attribute) -> None:
    layout = json.loads(SpanLayout(span_names=["read"], attributes=[attribute]).to_json())
    layout["attributes"][0]["metric_label"] = True
    with pytest.raises(LayoutError, match="only a label or bool may be a metric_label"):
        SpanLayout.from_json(json.dumps(layout).encode())


awkward = st.lists(st.text("a._-", min_size=1, max_size=4) | keys | st.sampled_from(["le", "service"]), unique=True)


@given(awkward, st.randoms())
def test_label_names_are_valid_and_different_whatever_the_order(chosen: list[str], random: Any) -> None:
    names = label_names(chosen)
    assert set(names) == set(chosen)
    assert len(set(names.values())) == len(names)
    assert not {"service", "span_name", "le", "quantile", "job", "instance"} & set(names.values())
    assert all(LABEL_NAME.fullmatch(name) for name in names.values())
    shuffled = list(chosen)
    random.shuffle(shuffled)
    assert label_names(shuffled) == names


def test_a_key_that_looks_like_a_name_made_for_another_takes_it_from_nobody() -> None:
    made = label_names(["a.b", "a_b"])["a_b"]
    lookalike = made.replace("a_b", "a.b")  # sorts before a_b, and so comes first
    assert label_names(["a.b", lookalike, "a_b"]) == {"a.b": "a_b", lookalike: made, "a_b": f"{made}_"}


def many_named(count: int) -> tuple[SpanLayout, Any]:
    """Return a layout with so many span names, and a span of each that took 1 ms."""
    layout = SpanLayout(span_names=[f"span {number}" for number in range(count)], attributes=[])
    records = layout.empty(count)
    records["name"] = np.arange(count)
    records["start_unix_nano"], records["end_unix_nano"] = 1, 1_000_001
    records["trace_id"] = records["span_id"] = 1
    return layout, records


def test_series_beyond_the_bound_are_counted_together() -> None:
    layout, records = many_named(25)
    spans = SpanMetrics(max_series=10)
    for _ in range(2):
        count(spans, layout, records)
    series = series_of(spans)
    assert len(series) == 11
    assert (spans.series_count, spans.overflow) == (10, 30)
    counts, seconds = series[frozenset({("service", OTHER), ("span_name", OTHER)})]
    assert sum(counts) == 30
    assert seconds == pytest.approx(0.03)


def test_what_is_counted_at_once_keeps_the_bound_on_series() -> None:
    layout, records = many_named(25)
    spans = SpanMetrics(max_series=10)
    counter = spans.of(layout, "shop")
    for _ in range(2):
        counter.count(records)
    assert sorted(sum(counts) for counts, _ in series_of(spans).values()) == [2] * 10 + [30]


def test_more_codes_than_have_a_place_are_counted_at_once_all_the_same() -> None:
    layout, records = many_named(5000)
    spans = SpanMetrics(max_series=10)
    spans.of(layout, "shop").count(records)
    assert sum(sum(counts) for counts, _ in series_of(spans).values()) == 5000
    assert spans.overflow == 4990


def test_a_ring_that_comes_when_there_is_no_room_adds_to_the_series_that_are_there() -> None:
    layout, records = many_named(25)
    spans = SpanMetrics(max_series=10)
    count(spans, layout, records)
    count(spans, layout, records)  # through a counter of its own, as that of a worker that was restarted
    assert sorted(sum(counts) for counts, _ in series_of(spans).values()) == [2] * 10 + [30]


def test_series_with_endless_labels_are_counted_together() -> None:
    layout = SpanLayout(span_names=["x" * 2000, "read"], attributes=[])
    _, records = many_named(2)
    spans = SpanMetrics(max_series=10)
    count(spans, layout, records)
    assert set(series_of(spans)) == {
        frozenset({("service", "shop"), ("span_name", "read")}),
        frozenset({("service", OTHER), ("span_name", OTHER)}),
    }


def test_many_labels_of_many_values_are_counted_exactly() -> None:
    """More combinations than are counted straight into an array, and more than an int64 could number."""
    table = tuple(f"value {number}" for number in range(2000))
    marked = [Attribute(f"a{number}", "label", labels=table, metric_label=True) for number in range(7)]
    layout = SpanLayout(span_names=["read"], attributes=marked)
    records = layout.empty(300)
    records["trace_id"] = records["span_id"] = 1
    records["present"] = 0b1111111
    values = np.random.default_rng(219).integers(0, len(table), (7, 300))
    for number in range(7):
        records[f"a{number}"] = values[number]
    spans = SpanMetrics(max_series=1000)
    count(spans, layout, records)
    count(spans, layout, records)
    expected = Counter(
        frozenset(
            {("service", "shop"), ("span_name", "read")}
            | {(f"a{at}", table[value]) for at, value in enumerate(row[:5])}
        )
        for row in values.T.tolist()
    )
    assert {labels: sum(counts) for labels, (counts, _) in series_of(spans).items()} == {
        labels: 2 * number for labels, number in expected.items()
    }


def test_a_ring_of_ever_new_labels_costs_no_memory_without_bound() -> None:
    layout, records = many_named(5000)
    spans = SpanMetrics(max_series=10)
    counter = spans.of(layout, "shop")
    for start in range(0, 5000, 100):
        summary = counter.summarise(records[start : start + 100], invalid=0)
        assert summary is not None
        spans.add(summary)
    assert len(counter._known_codes) == 40
    assert sum(sum(counts) for counts, _ in series_of(spans).values()) == 5000


def test_spans_of_which_some_share_a_series_are_not_summed_up_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    layout, records = many_named(5)
    spans = SpanMetrics(max_series=1)
    count(spans, layout, records)
    counter = spans.of(layout, "shop")
    assert counter.summarise(records, invalid=0) is not None
    monkeypatch.setattr(spans.tally, "codes", lambda *_: pytest.fail("what it sums up is of no use"))
    summary = counter.summarise(records, invalid=0)
    assert summary is not None
    spans.add(summary)
    assert sorted(sum(counts) for counts, _ in series_of(spans).values()) == [2, 8]


def test_a_span_that_ends_before_it_begins_lasted_for_no_time() -> None:
    layout, records = many_named(1)
    records["start_unix_nano"] = 2_000_000
    spans = SpanMetrics(MAX_SERIES)
    count(spans, layout, records)
    assert [(one.counts[0], one.seconds) for one in spans.series()] == [(1, 0.0)]


def test_a_reader_never_sees_half_of_a_batch() -> None:
    layout, records = many_named(50)
    spans = SpanMetrics(MAX_SERIES)
    counter = spans.of(layout, "shop")
    summary = counter.summarise(records, invalid=0)
    assert summary is not None
    seen = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.append({sum(one.counts) for one in spans.series()})

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(2000):
        spans.add(summary)
    stop.set()
    reader.join()
    assert all(len(counts) <= 1 for counts in seen)
