"""The C encoder against the reference, for any layout and any bytes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span, TracesData

from drain.otlp import encoder
from drain.otlp.carried import TOO_LONG, carried
from drain.otlp.encoder import Encoder, to_resource_spans
from drain.otlp.fields import checked_fields
from drain.otlp.json_lines import from_json_line, to_json, to_json_line
from ringbuf._ringbuf import lib
from ringbuf.layout.layout import Attribute, SpanLayout
from tests.property.otlp_values import any_carried
from tests.property.strategies import CARRIED, any_records_for, layouts, make_records, records_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.message import Message
    from opentelemetry.proto.common.v1.common_pb2 import KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
finite = st.floats(allow_nan=False, allow_infinity=False)  # a ring's JSON has no others
scalars = st.booleans() | st.integers(-(2**63), 2**63 - 1) | finite | texts
resources = st.dictionaries(texts, scalars | st.lists(texts, max_size=3) | st.lists(finite, max_size=3), max_size=4)
# Whole characters, their beginnings, overlong forms, surrogates and what no UTF-8 has.
fragments = st.sampled_from(
    [
        *(b"a", b'"', b"\\", b"\n", b"\0", b"\x1f", b"\x7f", b"\xc3\xa9", b"\xe2\x82\xac", b"\xf0\x9d\x84\x9e"),
        *(b"\xc3", b"\xe2\x82", b"\xf0\x9d\x84", b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80"),
        *(b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80", b"\xbf", b"\xf5", b"\xff"),
    ]
)
hostile_texts = st.lists(fragments, max_size=12).map(b"".join) | st.binary(max_size=40)


@st.composite
def hostile_values(draw: st.DrawFn, layout: SpanLayout) -> np.ndarray[Any, np.dtype[np.void]]:
    """Draw valid records whose every attribute is present and holds whatever its bytes can hold."""
    records = draw(records_for(layout, min_size=1, max_size=4))
    raw = bytearray(records.tobytes())
    for start in range(0, len(raw), layout.slot_bytes):
        for field in layout.fields:
            at = start + field.offset
            content = draw(st.binary(min_size=field.nbytes, max_size=field.nbytes))
            if field.attribute.type in ("str", "bytes"):
                text = draw(hostile_texts)[: field.nbytes - 2]
                content = len(text).to_bytes(2, "little") + text + bytes(field.nbytes - 2 - len(text))
            elif field.attribute.type == "label":
                label = draw(st.integers(0, len(field.attribute.labels or ()) - 1))
                content = label.to_bytes(field.nbytes, "little")
            elif field.attribute.type in CARRIED:
                carried = draw(any_carried(field.attribute.type))[: field.nbytes - 2]
                content = len(carried).to_bytes(2, "little") + carried + bytes(field.nbytes - 2 - len(carried))
            raw[at : at + field.nbytes] = content
    mended = np.frombuffer(raw, layout.dtype)
    mended["present"] = 2**32 - 1  # bits that stand for no attribute are ignored
    return mended


def with_records(layout: SpanLayout) -> st.SearchStrategy[tuple[SpanLayout, np.ndarray[Any, np.dtype[np.void]]]]:
    return st.tuples(st.just(layout), records_for(layout) | any_records_for(layout) | hostile_values(layout))


layouts_and_records = layouts().flatmap(with_records)
CARRYING_LAYOUT = SpanLayout(
    span_names=["a", "b"],
    attributes=[Attribute("rest", "otlp", 400), Attribute("hit", "bool"), Attribute("scope", "scope", 100)],
    scope_name="layout's",
)
layouts_and_carried = st.tuples(
    st.just(CARRYING_LAYOUT), records_for(CARRYING_LAYOUT, max_size=4) | hostile_values(CARRYING_LAYOUT)
)
FLOAT_LAYOUT = SpanLayout(span_names=["span"], attributes=[Attribute("value", "f64")])
# Of a ring's header: unknown, every root, a half, 1 %, the highest threshold.
root_thresholds = st.sampled_from([0, 1, 1 + (1 << 55), 1 + (0xFD70A << 36), 2**56]) | st.integers(0, 2**56)
# Of output at a time; 1: each record is a piece of its own.
piece_bytes = st.sampled_from([1, 3000, 8 << 20])


@given(layouts_and_records, resources, piece_bytes, root_thresholds)
def test_the_protobuf_is_that_of_the_reference(
    layout_and_records: tuple[SpanLayout, np.ndarray[Any, np.dtype[np.void]]],
    resource: dict[str, Any],
    piece: int,
    root_threshold: int,
) -> None:
    layout, records = layout_and_records
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "_PIECE_BYTES", piece)
        body, spans, invalid = Encoder(layout, resource, root_threshold).encode(records)
    reference = to_resource_spans(records, layout, resource, root_threshold)
    assert spans == sum(len(scope_spans.spans) for scope_spans in reference.scope_spans)
    assert spans + invalid == len(records)
    if spans == 0:
        assert body == b""
        return
    # Bytes, since a message with a NaN does not equal itself.
    read = TracesData.FromString(body)
    assert read.SerializeToString(deterministic=True) == serialised(reference)
    if is_as_protobuf_writes_it(records, layout):
        assert body == serialised(reference)


@given(layouts_and_records, resources, piece_bytes, root_thresholds)
def test_the_json_is_that_of_the_reference(
    layout_and_records: tuple[SpanLayout, np.ndarray[Any, np.dtype[np.void]]],
    resource: dict[str, Any],
    piece: int,
    root_threshold: int,
) -> None:
    layout, records = layout_and_records
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "_PIECE_BYTES", piece)
        body, spans, invalid = Encoder(layout, resource, root_threshold).encode_json(records)
    reference = to_resource_spans(records, layout, resource, root_threshold)
    assert spans == sum(len(scope_spans.spans) for scope_spans in reference.scope_spans)
    assert spans + invalid == len(records)
    if spans == 0:
        assert body == b""
        return
    assert json.loads(body) == json.loads(to_json(reference))
    assert b"\n" not in body
    line = b'{"resourceSpans":[' + body + b"]}\n"
    assert from_json_line(line).SerializeToString(deterministic=True) == as_json_has_it(reference)


@given(layouts_and_carried, piece_bytes, root_thresholds)
def test_the_otlp_that_records_carry_is_taken_over_as_the_reference_does(
    layout_and_records: tuple[SpanLayout, np.ndarray[Any, np.dtype[np.void]]], piece: int, root_threshold: int
) -> None:
    layout, records = layout_and_records
    reference = to_resource_spans(records, layout, {"ring": 1}, root_threshold)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "_PIECE_BYTES", piece)
        body, spans, invalid = Encoder(layout, {"ring": 1}, root_threshold).encode(records)
        json_body, json_spans, json_invalid = Encoder(layout, {"ring": 1}, root_threshold).encode_json(records)
    assert (json_spans, json_invalid) == (spans, invalid)
    assert spans == sum(len(scope_spans.spans) for scope_spans in reference.scope_spans)
    assert spans + invalid == len(records)
    if spans == 0:
        assert (body, json_body) == (b"", b"")
        return
    assert TracesData.FromString(body).SerializeToString(deterministic=True) == serialised(reference)
    line = b'{"resourceSpans":[' + json_body + b"]}\n"
    assert from_json_line(line).SerializeToString(deterministic=True) == as_json_has_it(reference)
    assert json.loads(json_body) == json.loads(to_json(reference))


@given(st.sampled_from(CARRIED).flatmap(lambda kind: st.tuples(st.just(kind), any_carried(kind))))
def test_what_is_sound_is_what_the_reference_says(kind_and_value: tuple[str, bytes]) -> None:
    kind, value = kind_and_value
    c_kind, message = (lib.RB_TYPE_OTLP, Span) if kind == "otlp" else (lib.RB_TYPE_SCOPE, ScopeSpans)
    try:
        checked_fields(message.DESCRIPTOR.name, value)
    except ValueError:
        assert not lib.rb_otlp_is_sound(c_kind, value, len(value))
    else:
        assert lib.rb_otlp_is_sound(c_kind, value, len(value))
        assert not has_unknown_fields(message.FromString(value))


@given(layouts().flatmap(lambda layout: st.tuples(st.just(layout), records_for(layout, min_size=1))))
def test_bodies_one_after_the_other_are_one_message(
    layout_and_records: tuple[SpanLayout, np.ndarray[Any, np.dtype[np.void]]],
) -> None:
    layout, records = layout_and_records
    one, other = Encoder(layout, {"ring": 1}), Encoder(layout, {"ring": 2})
    together = TracesData.FromString(one.encode(records).body + other.encode(records).body)
    assert [spans.resource.attributes[0].value.int_value for spans in together.resource_spans] == [1, 2]
    line = b'{"resourceSpans":[' + one.encode_json(records).body + b"," + other.encode_json(records).body + b"]}\n"
    assert json.loads(line) == json.loads(to_json_line(together))


@given(st.floats())
def test_a_float_in_json_is_read_back_as_the_same_bits(value: float) -> None:
    ids = {"trace_id": b"\1" * 16, "span_id": b"\2" * 8}
    records = make_records(FLOAT_LAYOUT, [(ids, {"value": value})])
    text = json.loads(Encoder(FLOAT_LAYOUT, {}).encode_json(records).body)
    (attribute,) = text["scopeSpans"][0]["spans"][0]["attributes"]
    read = attribute["value"]["doubleValue"]
    assert isinstance(read, str) == (value - value != 0)
    assert repr(float(read)) == repr(value)


def serialised(message: ResourceSpans) -> bytes:
    return TracesData(resource_spans=[message]).SerializeToString(deterministic=True)


def has_unknown_fields(message: Message) -> bool:
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    return known.ByteSize() != message.ByteSize()


def is_as_protobuf_writes_it(records: np.ndarray[Any, np.dtype[np.void]], layout: SpanLayout) -> bool:
    """Whether the OTLP that records carry, which is taken over as it is, is in protobuf's own form."""
    for field in layout.fields:
        if field.attribute.type not in CARRIED:
            continue
        message = Span if field.attribute.type == "otlp" else ScopeSpans
        for value in carried(records, field):
            if value is None or value is TOO_LONG:
                continue
            try:
                if message.FromString(value).SerializeToString(deterministic=True) != value:
                    return False
            except DecodeError:  # such a record is invalid
                continue
    return True


def as_json_has_it(message: ResourceSpans) -> bytes:
    """JSON has one NaN."""
    one_nan = type(message)()
    one_nan.CopyFrom(message)
    for scope_spans in one_nan.scope_spans:
        with_one_nan(scope_spans.scope.attributes)
        for span in scope_spans.spans:
            with_one_nan(span.attributes)
            for event in span.events:
                with_one_nan(event.attributes)
            for link in span.links:
                with_one_nan(link.attributes)
    return serialised(one_nan)


def with_one_nan(attributes: Iterable[KeyValue]) -> None:
    values = [attribute.value for attribute in attributes if attribute.HasField("value")]
    while values:
        value = values.pop()
        if value.HasField("double_value") and value.double_value != value.double_value:
            value.double_value = float("nan")
        if value.HasField("array_value"):
            values.extend(value.array_value.values)
        if value.HasField("kvlist_value"):
            with_one_nan(value.kvlist_value.values)
