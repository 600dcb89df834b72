"""Records as the rules see them, over columns, against the spans that they become, one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from drain.otlp.encode_plan import find_spans
from drain.otlp.encoder import to_resource_spans
from drain.sampling.rules import DEFAULT, AttributeTest, Rule, Rules, of_ratio
from drain.sampling.seen_records import RecordLooker
from drain.sampling.seen_span import seen_spans
from drain.sampling.traces import Traces
from ringbuf._ringbuf import lib
from ringbuf.layout.layout import Attribute, SpanLayout
from ringbuf.layout.present_bits import present_bits
from ringbuf.ring.resource import SERVICE_NAME
from ringbuf.sampling import randomness
from tests.examples import examples
from tests.property.strategies import any_records_for, layouts, make_records, records_for, values_for

THRESHOLD = 1 << 55
NUMBERS = [0, 1, -1, 2**63 - 1, 2**63, 2**64 - 1, 0.0, 0.5, 1.0, 2.0**63, -(2.0**63), float("inf"), True, False]
TEXTS = ["", "a", "é", "\ufffd", "00", "0A", "18446744073709551615", str(2**63), "09", "label 7"]


@st.composite
def values_to_ask(draw: st.DrawFn, attribute: Attribute) -> Any:
    """Draw what a condition may ask of an attribute, most of it of another kind or just beside."""
    if attribute.type in ("otlp", "scope") or draw(st.booleans()):
        return draw(st.sampled_from([*NUMBERS, *TEXTS]))
    value = draw(values_for(attribute))
    if attribute.type == "hex":
        return value.hex()
    if attribute.type == "bytes":
        return value.decode(errors="replace")
    return str(value) if attribute.type == "u64" and draw(st.booleans()) else value


@st.composite
def attribute_tests(draw: st.DrawFn, layout: SpanLayout) -> AttributeTest:
    if not layout.attributes or draw(st.integers(0, 9)) == 0:
        return AttributeTest("k", ("v",))
    attribute = draw(st.sampled_from(layout.attributes))
    if draw(st.booleans()):
        return AttributeTest(attribute.key, tuple(draw(st.lists(values_to_ask(attribute), min_size=1, max_size=3))))
    bounds = st.none() | st.sampled_from([0.0, 1.0, 0.5, -1.0, 2.0**63, 2.0**64, 1e300, -1e300]) | st.floats()
    return AttributeTest(attribute.key, at_least=draw(bounds), at_most=draw(bounds))


@st.composite
def rules_for(draw: st.DrawFn, layout: SpanLayout) -> Rules:
    rules = [
        Rule(
            f"r{at}",
            statuses=draw(st.sampled_from([frozenset(), frozenset({0}), frozenset({1, 2})])),
            kinds=draw(st.sampled_from([frozenset(), frozenset({0, 1, 5})])),
            spans=draw(st.sampled_from([(), (), layout.span_names[:1], ("?",), ("*a*", "b"), ("",)])),
            services=draw(st.sampled_from([(), (), ("sh*",), ("x",)])),
            longer_than_nano=draw(st.sampled_from([None, None, 0, 10**9, 2**64])),
            attributes=tuple(draw(st.lists(attribute_tests(layout), max_size=2))),
        )
        for at in range(draw(st.integers(1, 4)))
    ]
    return Rules((*rules, Rule(DEFAULT)))


drawn = layouts(max_attributes=5, max_size=60).flatmap(
    lambda layout: st.tuples(
        st.just(layout), records_for(layout, min_size=1) | any_records_for(layout), rules_for(layout)
    )
)


@settings(max_examples=examples(150))
@given(drawn, st.sampled_from([0, 1, 1 + THRESHOLD]))
def test_a_record_meets_what_its_span_meets(
    drawn: tuple[SpanLayout, np.ndarray[Any, Any], Rules], root_threshold: int
) -> None:
    layout, records, rules = drawn
    records = records[find_spans(records, layout)]
    seen = RecordLooker(rules, layout, "shop", root_threshold).look(records)
    assert len(seen.masks) == len(records)
    for at in range(len(records)):
        message = to_resource_spans(records[at : at + 1], layout, {SERVICE_NAME: "shop"}, root_threshold)
        (span,) = seen_spans(TracesData(resource_spans=[message]))
        met = [int(rule.is_catch_all or rule.fits(span)) for rule in rules.rules]
        assert [int(seen.masks[at]) >> bit & 1 for bit in range(len(met))] == met
        stated = 0 if span.says.threshold is None else 1 + span.says.threshold
        random = 0 if span.says.randomness is None else 1 + span.says.randomness
        if seen.thresholds is None:
            assert random == 0
            assert stated in (0, root_threshold)  # which of them, csrc/sampling says: the test below
        else:
            assert seen.randoms is not None
            assert (int(seen.thresholds[at]), int(seen.randoms[at])) == (stated, random)


THRESHOLDS_OF_RINGS = [0, 1, 1 + THRESHOLD]
KEPT: int = lib.RB_SPAN_SAMPLED | lib.RB_SPAN_RANDOM
layouts_and_records = layouts(max_attributes=32, max_size=20).flatmap(
    lambda layout: st.tuples(st.just(layout), records_for(layout, min_size=1) | any_records_for(layout))
)


@settings(max_examples=examples(100))
@given(layouts_and_records, st.sampled_from(THRESHOLDS_OF_RINGS), st.lists(st.booleans(), max_size=8))
def test_what_a_kept_span_states_is_what_it_states_unsampled(
    drawn: tuple[SpanLayout, np.ndarray[Any, Any]], root_threshold: int, are_known: list[bool]
) -> None:
    """Rules that keep all change nothing of what a span stands for: each is a trace of its own here."""
    layout, records = drawn
    records = records[find_spans(records, layout)]
    left = present_bits(len(layout.attributes))
    for at, is_known in enumerate(are_known[: len(records)]):
        records["present"][at] |= np.uint32(left & lib.RB_PRESENT_ROOT_THRESHOLD * is_known)
        records["flags"][at] |= np.uint32(KEPT)
    rules = of_ratio(1.0)
    looker = RecordLooker(rules, layout, "shop", root_threshold)
    for at in range(len(records)):
        record = records[at : at + 1]
        message = to_resource_spans(record, layout, {SERVICE_NAME: "shop"}, root_threshold)
        (span,) = seen_spans(TracesData(resource_spans=[message]))
        seen = looker.look(record)
        table = Traces(rules, bytes(16), traces=8, spans=8, decided=8, look=8)
        looked = table.look(
            *(table.join(), record, seen.masks, 0),
            root_threshold=root_threshold,
            thresholds=seen.thresholds,
            randoms=seen.randoms,
            present_bits=present_bits(len(layout.attributes)),
        )
        assert looked.fates.is_settled.all()
        if span.is_sampled:
            threshold, random = span.says.threshold, span.says.randomness
            random = randomness(span.trace_id) if random is None else random
            expected = 0 if threshold is None or random < threshold else 1 + threshold
            assert int(looked.fates.stated[0]) == expected


@pytest.mark.parametrize(
    ("flags", "present", "random", "is_stated"),
    [
        (KEPT, lib.RB_PRESENT_ROOT_THRESHOLD, THRESHOLD, True),
        (KEPT, lib.RB_PRESENT_ROOT_THRESHOLD, THRESHOLD - 1, False),
        (lib.RB_SPAN_SAMPLED, lib.RB_PRESENT_ROOT_THRESHOLD, THRESHOLD, False),
        (KEPT, 0, THRESHOLD, False),
    ],
)
@pytest.mark.parametrize("attributes", [30, 31])
def test_a_child_that_is_known_to_have_its_rings_threshold_states_it_before_its_root_comes(
    flags: int, present: int, random: int, is_stated: bool, attributes: int
) -> None:
    layout = SpanLayout(span_names=["work"], attributes=[Attribute(f"a{at}", "bool") for at in range(attributes)])
    core = {"trace_id": b"\1" * 9 + random.to_bytes(7, "big"), "span_id": b"\1" * 8, "parent_span_id": b"\2" * 8}
    records = make_records(layout, [(core | {"flags": flags | lib.RB_SPAN_HAS_IS_REMOTE}, {})])
    records["present"] |= np.uint32(present)
    rules = of_ratio(1.0)
    table = Traces(rules, bytes(16), traces=8, spans=8, decided=8, look=8)
    looked = table.look(
        *(table.join(), records, RecordLooker(rules, layout, "shop", 1 + THRESHOLD).look(records).masks, 0),
        root_threshold=1 + THRESHOLD,
        present_bits=present_bits(attributes),
    )
    assert looked.fates.stated.tolist() == [(1 + THRESHOLD) * (is_stated and attributes == 30)]
