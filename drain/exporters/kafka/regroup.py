"""Spans sorted by partition after they were encoded: the slow path, which reads what was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from drain.otlp.json_lines import from_json_line, to_json_line
from drain.otlp.request import Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.proto.resource.v1.resource_pb2 import Resource

SERVICE_NAME = "service.name"


def regrouped(request: Request, partition_of: Callable[[bytes, str], int]) -> list[Request]:
    """Return requests that hold the spans of one, each for one partition, in the order of the partitions.

    Sent again, they are the same: their numbers count the spans in this order.

    Args:
        request: whose destination is not known, or is gone.
        partition_of: a span's, by its trace id and its service.

    Raises:
        ValueError: the body does not parse.
    """
    is_json = request.encoding == "json"
    try:
        traces = from_json_line(request.body) if is_json else TracesData.FromString(request.body)
    except DecodeError as error:
        raise ValueError(f"request body is no TracesData message: {error}") from None
    found: dict[int, TracesData] = {}
    for resource_spans in traces.resource_spans:
        service = _service_of(resource_spans.resource)
        for scope_spans in resource_spans.scope_spans:
            shares: dict[int, TracesData] = {}
            for span in scope_spans.spans:
                partition = partition_of(span.trace_id, service)
                if partition not in shares:
                    shares[partition] = TracesData()
                    around = shares[partition].resource_spans.add(
                        resource=resource_spans.resource, schema_url=resource_spans.schema_url
                    )
                    around.scope_spans.add(scope=scope_spans.scope, schema_url=scope_spans.schema_url)
                shares[partition].resource_spans[0].scope_spans[0].spans.append(span)
            for partition, share in shares.items():
                found.setdefault(partition, TracesData()).MergeFrom(share)
    made = []
    number = request.batch
    for partition, share in sorted(found.items()):
        spans = sum(len(scope.spans) for resource in share.resource_spans for scope in resource.scope_spans)
        body = to_json_line(share) if is_json else share.SerializeToString()
        made.append(Request(body, spans, request.encoding, str(partition), batch=number))
        number = None if number is None else number.after(spans)
    return made


def _service_of(resource: Resource) -> str:
    names = (attribute.value.string_value for attribute in resource.attributes if attribute.key == SERVICE_NAME)
    return next(names, "")
