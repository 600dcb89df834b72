"""The C encoder against the reference, for any layout and any bytes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from drain import encoder
from drain.encoder import Encoder, to_resource_spans
from drain.otlp_json import from_json_line, to_json, to_json_line
from ringbuf.layout import Attribute, SpanLayout
from tests.property.strategies import any_records_for, layouts, make_records, records_for

if TYPE_CHECKING:
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
            raw[at : at + field.nbytes] = content
    mended = np.frombuffer(raw, layout.dtype)
    mended["present"] = 2**32 - 1  # bits that stand for no attribute are ignored
    return mended


def with_records(layout: SpanLayout) -> st.SearchStrategy[tuple[SpanLayout, np.ndarray[Any, np.dtype[np.void]]]]:
    return st.tuples(st.just(layout), records_for(layout) | any_records_for(layout) | hostile_values(layout))


layouts_and_records = layouts().flatmap(with_records)
FLOAT_LAYOUT = SpanLayout(span_names=["span"], attributes=[Attribute("value", "f64")])
# Of output at a time; 1: each record is a piece of its own.
piece_bytes = st.sampled_from([1, 3000, 8 << 20])


@given(layouts_and_records, resources, piece_bytes)
def test_the_protobuf_is_that_of_the_reference(
    layout_and_records: tuple[SpanLayout, np.ndarray[Any, np.dtype[np.void]]], resource: dict[str, Any], piece: int
) -> None:
    layout, records = layout_and_records
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "_PIECE_BYTES", piece)
        body, spans, invalid = Encoder(layout, resource).encode(records)
    reference = to_resource_spans(records, layout, resource)
    assert spans == len(reference.scope_spans[0].spans)
    assert spans + invalid == len(records)
    if spans == 0:
        assert body == b""
        return
    # Bytes, since a message with a NaN does not equal itself.
    read = TracesData.FromString(body)
    assert read.SerializeToString(deterministic=True) == serialised(reference)
    assert body == serialised(reference)


@given(layouts_and_records, resources, piece_bytes)
def test_the_json_is_that_of_the_reference(
    layout_and_records: tuple[SpanLayout, np.ndarray[Any, np.dtype[np.void]]], resource: dict[str, Any], piece: int
) -> None:
    layout, records = layout_and_records
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "_PIECE_BYTES", piece)
        body, spans, invalid = Encoder(layout, resource).encode_json(records)
    reference = to_resource_spans(records, layout, resource)
    assert spans == len(reference.scope_spans[0].spans)
    assert spans + invalid == len(records)
    if spans == 0:
        assert body == b""
        return
    assert json.loads(body) == json.loads(to_json(reference))
    assert b"\n" not in body
    line = b'{"resourceSpans":[' + body + b"]}\n"
    assert from_json_line(line).SerializeToString(deterministic=True) == as_json_has_it(reference)


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


def as_json_has_it(message: ResourceSpans) -> bytes:
    """JSON has one NaN."""
    nan = float("nan")
    one_nan = type(message)()
    one_nan.CopyFrom(message)
    for span in one_nan.scope_spans[0].spans:
        for attribute in span.attributes:
            if attribute.value.double_value != attribute.value.double_value:
                attribute.value.double_value = nan
    return serialised(one_nan)
