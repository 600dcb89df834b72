"""A request that the backend finds too large, cut in halves: the slow path, which reads what was encoded."""

from __future__ import annotations

from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from drain.otlp.json_lines import from_json_line, to_json_line
from drain.otlp.request import Request


def halves(request: Request) -> tuple[Request, Request]:
    """Return two requests that hold the spans of one, in their order, the first half in the first.

    Args:
        request: at least two spans.
    """
    is_json = request.encoding == "json"
    traces = from_json_line(request.body) if is_json else TracesData.FromString(request.body)
    middle = request.spans // 2
    parts = (_spans_between(traces, 0, middle), _spans_between(traces, middle, request.spans))
    first, second = (to_json_line(part) if is_json else part.SerializeToString() for part in parts)
    return (
        Request(first, middle, request.encoding),
        Request(second, request.spans - middle, request.encoding),
    )


def _spans_between(traces: TracesData, start: int, end: int) -> TracesData:
    """Return the spans from `start` to before `end`, counted over all resources and scopes; no empty envelopes."""
    part = TracesData()
    at = 0
    for resource_spans in traces.resource_spans:
        of_resource = None
        for scope_spans in resource_spans.scope_spans:
            spans = scope_spans.spans[max(0, start - at) : max(0, end - at)]
            at += len(scope_spans.spans)
            if not spans:
                continue
            if of_resource is None:
                of_resource = part.resource_spans.add(
                    resource=resource_spans.resource, schema_url=resource_spans.schema_url
                )
            of_resource.scope_spans.add(scope=scope_spans.scope, schema_url=scope_spans.schema_url, spans=spans)
    return part
