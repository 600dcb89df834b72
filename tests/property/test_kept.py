"""What the encoder writes of spans that were sampled late, against plain functions, for any layout and any bytes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span, TracesData

from drain.otlp.encode_plan import plan_of
from drain.otlp.encoder import Encoder, to_resource_spans
from drain.otlp.json_lines import from_json_line, to_json
from drain.otlp.kept import Kept, KeptRow, KeptTable
from drain.sampling.trace_state import with_threshold
from ringbuf._ringbuf import ffi, lib
from ringbuf.exceptions import RingBufferError
from ringbuf.layout.layout import Attribute, SpanLayout
from ringbuf.sampling import THRESHOLDS
from tests.examples import examples
from tests.property.strategies import any_records_for, layouts, make_records, records_for

if TYPE_CHECKING:
    from collections.abc import Sequence

RV = "rv:fedcba98765432"
LAYOUT = SpanLayout(span_names=["a"], attributes=[Attribute("n", "u8"), Attribute("otlp", "otlp", 2000)])
CORE = {"trace_id": b"\1" * 16, "span_id": b"\2" * 8, "start_unix_nano": 1, "end_unix_nano": 2, "flags": 0x103}

pairs = st.sampled_from(
    [
        *("th:8", "th:80", "th:c", "th:", "th:x", "th:0123456789abcde", RV, "rv:1", "rv:" + "g" * 14, "x:1", "p:A.b_-"),
        *("X:1", "x", ":1", "x:!", "", "x:é", "th:8 ", "y:" + "1" * 120, "z:" + "1" * 120, "w:" + "2" * 240),
    ]
)
members = st.one_of(
    st.lists(pairs, max_size=4).map(lambda found: "ot=" + ";".join(found)),
    st.sampled_from(["vendor=1", "", " ", "\t", "a@b= c", "é=ü", "ot", "ott=1", "o=t", 'q="\\', "ot= th:8"]),
)
trace_states = st.lists(
    st.tuples(st.sampled_from(["", "", " ", "\t "]), members, st.sampled_from(["", "", " "])).map("".join), max_size=40
).map(",".join)
thresholds = st.none() | st.sampled_from([0, 1 << 55, 0xC << 52, 1]) | st.integers(0, THRESHOLDS - 1)
kept_rows = st.lists(
    st.builds(
        KeptRow,
        st.text(st.characters(exclude_categories=["Cs"]), max_size=80),
        thresholds,
        st.none() | st.sampled_from([0, THRESHOLDS - 1]),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


def expected_of(
    record: np.ndarray[Any, Any], layout: SpanLayout, root_threshold: int, row: KeptRow
) -> list[ResourceSpans]:
    """Return the message of an array of one; none where it is no span."""
    message = to_resource_spans(record, layout, {"r": 1}, root_threshold)
    if not message.scope_spans[0].spans:
        return []
    carried = [field.index for field in layout.fields if field.attribute.type == "otlp"]
    bare = record.copy()
    for index in carried:
        bare["present"] &= np.uint32(2**32 - 1 - (1 << index))
    plain = to_resource_spans(bare, layout, {"r": 1}, root_threshold).scope_spans[0].spans[0]
    (span,) = message.scope_spans[0].spans
    # A root whose ring states a threshold carries no tracestate.
    if span.trace_state == plain.trace_state:
        rv = "" if row.random is None else f";rv:{row.random:014x}"
        state = with_threshold("", row.threshold)
        span.trace_state = state + rv if state else ""
    else:
        span.trace_state = with_threshold(span.trace_state, row.threshold)
    attributes, at = list(span.attributes), len(plain.attributes)
    marks = [KeyValue(key="ringbuf.sampling.rule", value=AnyValue(string_value=row.rule))]
    if row.is_alone:
        marks.append(KeyValue(key="ringbuf.sampling.late", value=AnyValue(bool_value=True)))
    del span.attributes[:]
    span.attributes.extend([*attributes[:at], *marks, *attributes[at:]])
    return [message]


def merged(messages: Sequence[ResourceSpans]) -> list[ResourceSpans]:
    """Put the spans of one scope together, in the order in which the scopes come first."""
    if not messages:
        return []
    whole = messages[0]
    for message in messages[1:]:
        (around,) = message.scope_spans
        for there in whole.scope_spans:
            if (there.scope, there.schema_url) == (around.scope, around.schema_url):
                there.spans.extend(around.spans)
                break
        else:
            whole.scope_spans.append(around)
    return [whole]


def check(records: np.ndarray[Any, Any], layout: SpanLayout, root_threshold: int, rows: list[KeptRow]) -> None:
    kept = Kept(KeptTable(rows), np.arange(len(records), dtype=np.uint16) % np.uint16(len(rows)))
    found = [
        expected_of(records[at : at + 1], layout, root_threshold, rows[at % len(rows)]) for at in range(len(records))
    ]
    expected = merged([message for messages in found for message in messages])
    encoder = Encoder(layout, {"r": 1}, root_threshold)
    encoded = encoder.encode(records, kept)
    assert list(TracesData.FromString(encoded.body).resource_spans) == expected
    assert encoded.body == TracesData(resource_spans=expected).SerializeToString()
    assert (encoded.spans, encoded.invalid) == (sum(map(len, found)), len(records) - sum(map(len, found)))
    as_json = encoder.encode_json(records, kept)
    assert (as_json.spans, as_json.invalid) == (encoded.spans, encoded.invalid)
    assert bool(as_json.body) == bool(expected)
    if expected:
        assert json.loads(as_json.body) == json.loads(to_json(expected[0]))
        (message,) = from_json_line(b'{"resourceSpans":[' + as_json.body + b"]}\n").resource_spans
        assert message == expected[0]


drawn = layouts(max_attributes=5, max_size=60).flatmap(
    lambda layout: st.tuples(st.just(layout), records_for(layout) | any_records_for(layout))
)


@settings(max_examples=examples(150))
@given(drawn, st.sampled_from([0, 1, 1 + (1 << 55)]), kept_rows)
def test_kept_spans_say_which_rule_kept_them_and_what_they_stand_for(
    drawn: tuple[SpanLayout, np.ndarray[Any, Any]], root_threshold: int, rows: list[KeptRow]
) -> None:
    check(drawn[1], drawn[0], root_threshold, rows)


@settings(max_examples=examples(400))
@given(st.lists(trace_states, min_size=1, max_size=3), kept_rows)
def test_a_tracestate_that_is_carried_gets_the_threshold(states: list[str], rows: list[KeptRow]) -> None:
    carried = [Span(trace_state=state, name="x").SerializeToString() for state in states]
    records = make_records(LAYOUT, [(CORE, {"n": 1, "otlp": otlp}) for otlp in carried if len(otlp) <= 2000])
    check(records, LAYOUT, 1, rows)


@pytest.mark.parametrize("is_json", [False, True])
@pytest.mark.parametrize("members", [0, 1, 31, 32])
@pytest.mark.parametrize("name_bytes", [0, 1, 100, 5000])
def test_no_span_takes_more_than_its_bounds(is_json: bool, members: int, name_bytes: int) -> None:
    state = ",".join(f"k{at}=v" for at in range(members))
    layout = SpanLayout(span_names=["\x01" * 50], attributes=[Attribute("otlp", "otlp", 2 + len(state) + 2)])
    table = KeptTable([KeptRow("\x01" * name_bytes, 1, THRESHOLDS - 1, is_alone=True)])
    otlp = Span(trace_state=state).SerializeToString()
    largest = {
        name: (2**63 if name.endswith("nano") else value)
        for name, value in {**CORE, "kind": 5, "status": 2, "flags": 2**32 - 1, "parent_span_id": b"\3" * 8}.items()
    }
    records = make_records(layout, [(largest, {"otlp": otlp})])
    plan = plan_of(layout, 0)
    bound = plan.json_bound + table.json_bound if is_json else plan.protobuf_bound + table.protobuf_bound
    out, counts = ffi.new("uint8_t[]", bound), ffi.new("uint64_t[2]")
    encode = lib.rb_encode_kept_json if is_json else lib.rb_encode_kept_protobuf
    data = ffi.from_buffer("uint8_t[]", records.view(np.uint8))
    for room, spans in ((bound, 1), (bound - 1, 0)):
        written = encode(plan.c_plan, table.c_kept, [0], data, 1, out, room, counts, counts + 1)
        assert list(counts) == [spans, 0]
        assert (written > 0) == bool(spans)
    encode(plan.c_plan, table.c_kept, [1], data, 1, out, bound, counts, counts + 1)
    assert list(counts) == [0, 1]  # there is no such row


def test_a_table_has_rows() -> None:
    with pytest.raises(RingBufferError, match="0 rows"):
        KeptTable([])
    records, kept = make_records(LAYOUT, [(CORE, {})]), Kept(KeptTable([KeptRow("a")]), np.zeros(2, np.uint16))
    with pytest.raises(ValueError, match="2 rows for 1 record"):
        Encoder(LAYOUT, {}).encode(records, kept)


@pytest.mark.parametrize("members", [31, 32, 33])
def test_of_more_than_32_members_the_last_go(members: int) -> None:
    states = [",".join([*(f"k{at}=v" for at in range(members)), *ot]) for ot in ([], ["ot=th:8"])]
    records = make_records(LAYOUT, [(CORE, {"otlp": Span(trace_state=state).SerializeToString()}) for state in states])
    check(records, LAYOUT, 1, [KeptRow("r", 1 << 54), KeptRow("r")])


def test_a_span_that_grows_by_all_that_it_may_has_room_for_it() -> None:
    """One that needs more than its bound says would be taken for no span."""
    layout = SpanLayout(span_names=["a"], attributes=[])
    longest = CORE | {"trace_id": b"\xff" * 16, "parent_span_id": b"\3" * 8, "kind": 5, "status": 2, "flags": 0x303}
    records = make_records(layout, [(longest | {"start_unix_nano": 2**64 - 2, "end_unix_nano": 2**64 - 1}, {})])
    kept = Kept(KeptTable([KeptRow("r" * 80, 0x123456789ABCD, THRESHOLDS - 1, is_alone=True)]), np.zeros(1, np.uint16))
    encoder = Encoder(layout, {})
    for encoded in (encoder.encode(records, kept), encoder.encode_json(records, kept)):
        assert (encoded.spans, encoded.invalid) == (1, 0)
        assert b"ot=th:0123456789abcd;rv:ffffffffffffff" in encoded.body
