"""Batches of spans built with opentelemetry.proto, as exporters get them from the encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status, TracesData

from drain.otlp.json_lines import to_json_line
from drain.otlp.request import Encoding, Request

if TYPE_CHECKING:
    from collections.abc import Mapping

START = 1_763_820_000_000_000_000


def text(value: str) -> AnyValue:
    return AnyValue(string_value=value)


def attributes(values: Mapping[str, AnyValue]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value) for key, value in values.items()]


def span(number: int, size: int = 0) -> Span:
    """Return the span with this number; ids are made of it, `size` bytes of text pad it."""
    return Span(
        trace_id=number.to_bytes(16, "big"),
        span_id=(number + 1000).to_bytes(8, "big"),
        parent_span_id=b"" if number % 2 else (7).to_bytes(8, "big"),
        name="grafos.dataplane.fbmu",
        kind=Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=START + number,
        end_time_unix_nano=START + number + 1500,
        flags=0x101,
        status=Status(code=Status.STATUS_CODE_ERROR if number % 2 else Status.STATUS_CODE_UNSET),
        attributes=attributes(
            {
                "grafos.operation": text("fbmu_read"),
                "grafos.lease.id": text(f"{number:032x}"),
                "grafos.bytes": AnyValue(int_value=4096 * number),
            }
            | ({"padding": text("x" * size)} if size else {})
        ),
    )


def traces(count: int, size: int = 0) -> TracesData:
    """Return spans 1 to `count` of the service "demo"."""
    return TracesData(
        resource_spans=[
            ResourceSpans(
                resource=Resource(attributes=attributes({"service.name": text("demo")})),
                scope_spans=[
                    ScopeSpans(
                        scope=InstrumentationScope(name="grafos.dataplane", version="219"),
                        spans=[span(number, size) for number in range(1, count + 1)],
                    )
                ],
            )
        ]
    )


def request(count: int = 3, encoding: Encoding = "protobuf", size: int = 0) -> Request:
    message = traces(count, size)
    body = message.SerializeToString() if encoding == "protobuf" else to_json_line(message)
    return Request(body, count, encoding)
