"""OTLP/JSON of whole messages: what the specification asks beyond protobuf's own JSON mapping."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

from drain.otlp.json_lines import from_json_line, to_json, to_json_line

TRACE_ID = bytes(range(16))
SPAN_ID = bytes(range(8, 16))


def traces(*spans: Span) -> TracesData:
    return TracesData(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])])


def json_span(**fields: Any) -> dict[str, Any]:
    (span,) = json.loads(to_json_line(traces(Span(**fields))))["resourceSpans"][0]["scopeSpans"][0]["spans"]
    found: dict[str, Any] = span
    return found


def json_value(**value: Any) -> Any:
    return json.loads(to_json(AnyValue(**value)))


EVERYTHING = TracesData(
    resource_spans=[
        ResourceSpans(
            resource=Resource(
                attributes=[
                    KeyValue(key="string", value=AnyValue(string_value='é€𝄞"\\\n\0\u2028')),
                    KeyValue(key="bool", value=AnyValue(bool_value=False)),
                    KeyValue(key="int", value=AnyValue(int_value=-(2**63))),
                    KeyValue(key="double", value=AnyValue(double_value=-0.0)),
                    KeyValue(key="bytes", value=AnyValue(bytes_value=bytes(range(256)))),
                    KeyValue(key="array", value=AnyValue(array_value=ArrayValue(values=[AnyValue(int_value=0)]))),
                    KeyValue(
                        key="list",
                        value=AnyValue(
                            kvlist_value=KeyValueList(
                                values=[KeyValue(key="traceId", value=AnyValue(string_value="no id"))]
                            )
                        ),
                    ),
                    KeyValue(key="nothing", value=AnyValue()),
                ],
                dropped_attributes_count=3,
            ),
            scope_spans=[
                ScopeSpans(
                    spans=[
                        Span(
                            trace_id=TRACE_ID,
                            span_id=SPAN_ID,
                            parent_span_id=SPAN_ID,
                            trace_state="a=b",
                            name="name",
                            kind=Span.SPAN_KIND_CONSUMER,
                            start_time_unix_nano=2**64 - 1,
                            end_time_unix_nano=1,
                            flags=0x301,
                            events=[Span.Event(time_unix_nano=5, name="event")],
                            links=[Span.Link(trace_id=TRACE_ID, span_id=SPAN_ID, flags=1)],
                            status=Status(code=Status.STATUS_CODE_ERROR, message="message"),
                        )
                    ],
                    schema_url="scope schema",
                )
            ],
            schema_url="resource schema",
        )
    ]
)


def test_every_kind_of_field_is_read_back() -> None:
    assert from_json_line(to_json_line(EVERYTHING)) == EVERYTHING


def test_a_line_is_one_line() -> None:
    line = to_json_line(EVERYTHING)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert line == to_json(EVERYTHING) + b"\n"


def test_ids_are_hex_everywhere() -> None:
    span = json_span(trace_id=TRACE_ID, span_id=SPAN_ID, parent_span_id=SPAN_ID, links=[Span.Link(span_id=SPAN_ID)])
    assert span["traceId"] == "000102030405060708090a0b0c0d0e0f"
    assert span["spanId"] == span["parentSpanId"] == span["links"][0]["spanId"] == "08090a0b0c0d0e0f"


def test_enums_are_integers_and_64_bit_integers_are_strings() -> None:
    span = json_span(kind=3, start_time_unix_nano=7, flags=257, status=Status(code=Status.STATUS_CODE_ERROR))
    assert span == {
        "kind": 3,
        "startTimeUnixNano": "7",
        "attributes": [],
        "events": [],
        "status": {"code": 2},
        "flags": 257,
    }


def test_a_value_that_is_set_to_its_default_is_there() -> None:
    assert json_value(int_value=0) == {"intValue": "0"}
    assert json_value(bool_value=False) == {"boolValue": False}
    assert json_value(string_value="") == {"stringValue": ""}
    assert json_value(bytes_value=b"") == {"bytesValue": ""}


def test_the_lists_of_a_span_are_written_also_when_they_are_empty() -> None:
    """There are receivers that refuse a whole request where one of these is missing."""
    assert list(json_span(dropped_attributes_count=1)) == ["attributes", "droppedAttributesCount", "events"]
    span = json_span(events=[Span.Event(name="e")], links=[Span.Link(span_id=SPAN_ID)])
    assert [part["attributes"] for part in (span, *span["events"], *span["links"])] == [[], [], []]
    assert json_value(array_value=ArrayValue()) == {"arrayValue": {"values": []}}
    assert json_value(kvlist_value=KeyValueList()) == {"kvlistValue": {"values": []}}


@pytest.mark.parametrize(("value", "text"), [("nan", "NaN"), ("inf", "Infinity"), ("-inf", "-Infinity")])
def test_what_json_has_no_number_for_is_a_string(value: str, text: str) -> None:
    assert json_value(double_value=float(value)) == {"doubleValue": text}


def test_protobuf_reads_the_rest_the_same() -> None:
    """Only the ids differ from protobuf's JSON mapping, which writes enums by name and reads both."""
    message = TracesData.FromString(EVERYTHING.SerializeToString())
    (span,) = message.resource_spans[0].scope_spans[0].spans
    for part in (span, span.links[0]):
        part.ClearField("trace_id")
        part.ClearField("span_id")
    span.ClearField("parent_span_id")
    assert json_format.Parse(to_json(message), TracesData()) == message


def test_fields_that_otlp_does_not_have_are_ignored() -> None:
    line = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"n","later":{"x":[1]}}]}],"more":1}]}'
    assert from_json_line(line) == traces(Span(name="n"))


def test_upper_case_ids_and_integers_as_numbers_are_read() -> None:
    line = '{"resourceSpans":[{"scopeSpans":[{"spans":[{"spanId":"08090A0B0C0D0E0F","startTimeUnixNano":7}]}]}]}'
    assert from_json_line(line) == traces(Span(span_id=SPAN_ID, start_time_unix_nano=7))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff",
        b'{"resourceSpans":{}}',
        b'{"resourceSpans":[1]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"xyz"}]}]}]}',
        b'{"resourceSpans":[{"schemaUrl":"\\ud800"}]}',
        b"[" * 100_000,
        b'{"resourceSpans":' + b"[" * 500 + b"]" * 500 + b"}",
    ],
)
def test_what_is_no_line_raises_value_error(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the reasons are those of three parsers
        from_json_line(line)
