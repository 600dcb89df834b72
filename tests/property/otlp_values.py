"""Hypothesis strategies: values of `otlp` and `scope` attributes, sound ones and others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span, Status

if TYPE_CHECKING:
    from google.protobuf.message import Message

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
uint32 = st.integers(0, 2**32 - 1) | st.integers(0, 3)
uint64 = st.integers(0, 2**64 - 1) | st.just(0)


def _lists(values: st.SearchStrategy[Any], max_size: int = 3) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, max_size=max_size)


def _any_values(inner: st.SearchStrategy[AnyValue]) -> st.SearchStrategy[AnyValue]:
    key_values = st.builds(KeyValue, key=texts, value=inner)
    return st.builds(AnyValue, array_value=st.builds(ArrayValue, values=_lists(inner))) | st.builds(
        AnyValue, kvlist_value=st.builds(KeyValueList, values=_lists(key_values))
    )


any_values = st.recursive(
    st.one_of(
        st.just(AnyValue()),
        st.builds(AnyValue, string_value=texts),
        st.builds(AnyValue, bool_value=st.booleans()),
        st.builds(AnyValue, int_value=st.integers(-(2**63), 2**63 - 1)),
        st.builds(AnyValue, double_value=st.floats(allow_nan=False)),
        st.builds(AnyValue, bytes_value=st.binary(max_size=6)),
    ),
    _any_values,
    max_leaves=6,
)
attributes = st.lists(st.builds(KeyValue, key=texts, value=any_values) | st.builds(KeyValue, key=texts), max_size=3)
events = st.builds(
    Span.Event, time_unix_nano=uint64, name=texts, attributes=attributes, dropped_attributes_count=uint32
)
links = st.builds(
    Span.Link,
    trace_id=st.binary(min_size=16, max_size=16),
    span_id=st.binary(min_size=8, max_size=8),
    trace_state=texts,
    attributes=attributes,
    dropped_attributes_count=uint32,
    flags=uint32,
)
spans = st.builds(
    Span,
    trace_state=texts,
    name=texts,
    attributes=attributes,
    dropped_attributes_count=uint32,
    events=st.lists(events, max_size=2),
    dropped_events_count=uint32,
    links=st.lists(links, max_size=2),
    dropped_links_count=uint32,
    status=st.none() | st.builds(Status, message=texts),
)
scope_spans = st.builds(
    ScopeSpans,
    scope=st.none()
    | st.builds(
        InstrumentationScope, name=texts, version=texts, attributes=attributes, dropped_attributes_count=uint32
    ),
    schema_url=texts,
)


def serialised(message: Message) -> bytes:
    """Return a message as bytes that are the same whenever it is."""
    return message.SerializeToString(deterministic=True)


# What protobuf never writes and anybody else may: fields with their default, and numbers longer than they must be.
_odd: st.SearchStrategy[bytes] = st.sampled_from(
    [
        *(b"\x1a\x00", b"\x2a\x00", b"\x2a\x02\xc3\xa9", b"\x2a\x81\x80\x00\x61", b"\x4a\x00", b"\x4a\x02\x12\x00"),
        *(b"\x4a\x04\x12\x02\x2a\x00", b"\x4a\x04\x12\x02\x10\x07", b"\x4a\x05\x12\x03\x10\x80\x00", b"\x50\x00"),
        *(b"\x50\x85\x80\x80\x80\x00", b"\x5a\x00", b"\x5a\x02\x20\x01", b"\x5a\x06\x1a\x00\x1a\x00\x20\x01"),
        *(b"\x5a\x09\x09" + bytes(8), b"\x60\x00", b"\x6a\x1c\x0a\x10" + bytes(16) + b"\x12\x08" + bytes(8)),
        *(b"\x70\x00", b"\x7a\x00", b"\x7a\x02\x12\x00", b"\x7a\x03\x12\x01m"),
        *(b"\x7a\x02\x18\x01", b"\x12\x00", b"\x30\x01", b"\x50\x80\x80\x80\x80\x10", b"\x6a\x00", b"\x2a\x01\xff"),
        *(b"\x4a\x80", b"\x4a\x05", b"\x82\x01\x00", b"\x80", b"\x53\x54", b"\x4a\x06\x12\x04\x10\x01\x18\x01"),
    ]
)


def _sorted(fields: list[bytes]) -> list[bytes]:
    return sorted(fields, key=lambda field: field[:1])


odd_values = st.lists(_odd, max_size=5).flatmap(
    lambda fields: st.sampled_from([b"".join(_sorted(fields)), b"".join(fields)])
)


def _changed(value: bytes, places: list[tuple[int, int]]) -> bytes:
    raw = bytearray(value)
    for place, byte in places:
        if raw:
            raw[place % len(raw)] = byte
    return bytes(raw)


def nested(depth: int) -> bytes:
    """Return an attribute whose value is a list in a list in a list, `depth` AnyValues in all, the last one empty."""
    value = AnyValue()
    for _ in range(depth - 1):
        value = AnyValue(array_value=ArrayValue(values=[value]))
    return Span(attributes=[KeyValue(value=value)]).SerializeToString()


def sound_values(kind: str) -> st.SearchStrategy[bytes]:
    """Return values of an `otlp` or `scope` as protobuf's serialiser writes them."""
    return (spans if kind == "otlp" else scope_spans).map(serialised)


def any_carried(kind: str) -> st.SearchStrategy[bytes]:
    """Return values that are sound, nearly so, or any bytes."""
    changes = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=2)
    deep = st.integers(14, 19).map(nested)
    return st.one_of(
        sound_values(kind),
        odd_values,
        st.builds(_changed, sound_values(kind), changes),
        st.builds(lambda value, end: value[: end % (len(value) + 1)], sound_values(kind), st.integers(0, 2**16)),
        deep if kind == "otlp" else st.just(b"\x0a\x00"),
        st.binary(max_size=12),
    )
