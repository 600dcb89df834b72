"""A request that is too large, or has no destination, cut in pieces: the slow path, which reads what was encoded."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from drain.otlp.json_lines import from_json_line, to_json_line
from drain.otlp.request import Request
from ringbuf.ring.resource import SERVICE_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.proto.resource.v1.resource_pb2 import Resource
    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans


def halves(request: Request) -> tuple[Request, Request]:
    """Return two requests that hold the spans of one, in their order, the first half in the first.

    Args:
        request: at least two spans.
    """
    first, second = pieces(request, 2)
    return first, second


def pieces(request: Request, count: int) -> list[Request]:
    """Return requests that hold the spans of one, in their order, as evenly as it goes.

    Args:
        request: at least `count` spans.
        count: how many requests.

    Raises:
        ValueError: the body is no JSON of spans, or has more or fewer than it is said to have.
        DecodeError: the body is no message.
    """
    is_json = request.encoding == "json"
    traces = from_json_line(request.body) if is_json else TracesData.FromString(request.body)
    bounds = [request.spans * number // count for number in range(count + 1)]
    parts = [_spans_between(traces, start, end) for start, end in pairwise(bounds)]
    services_of_parts = [_services_of(part) for part in parts]
    if sum(map(Counter.total, services_of_parts)) != request.spans:
        raise ValueError(f"the body has not the {request.spans} spans that it is said to have")
    shares = _shared_out(request.services, services_of_parts)
    made = []
    for start, part, services in zip(bounds, parts, shares, strict=False):
        body = to_json_line(part) if is_json else part.SerializeToString()
        batch = None if request.batch is None else request.batch.after(start)
        spans = sum(services.values())
        made.append(Request(body, spans, request.encoding, request.destination, services, batch))
    return made


def by_destination(request: Request, home: Callable[[bytes, str], str]) -> list[Request]:
    """Return requests that hold the spans of one, each those of one destination.

    Args:
        request: at least one span.
        home: of a trace id and a service.

    Raises:
        ValueError: the body is no JSON of spans.
        DecodeError: the body is no message.
    """
    is_json = request.encoding == "json"
    traces = from_json_line(request.body) if is_json else TracesData.FromString(request.body)
    parts: dict[str, TracesData] = {}
    for resource_spans in traces.resource_spans:
        service = _service_of(resource_spans.resource)
        resources: dict[str, ResourceSpans] = {}
        for scope_spans in resource_spans.scope_spans:
            scopes: dict[str, ScopeSpans] = {}
            for span in scope_spans.spans:
                destination = home(span.trace_id, service)
                if destination not in resources:
                    resources[destination] = parts.setdefault(destination, TracesData()).resource_spans.add(
                        resource=resource_spans.resource, schema_url=resource_spans.schema_url
                    )
                if destination not in scopes:
                    scopes[destination] = resources[destination].scope_spans.add(
                        scope=scope_spans.scope, schema_url=scope_spans.schema_url
                    )
                scopes[destination].spans.append(span)
    shares = _shared_out(request.services, [_services_of(part) for part in parts.values()])
    made, start = [], 0
    for (destination, part), services in zip(parts.items(), shares, strict=True):
        body = to_json_line(part) if is_json else part.SerializeToString()
        batch = None if request.batch is None else request.batch.after(start)
        spans = sum(services.values())
        made.append(Request(body, spans, request.encoding, destination, services, batch))
        start += spans
    return made


def _services_of(traces: TracesData) -> Counter[str]:
    services: Counter[str] = Counter()
    for resource_spans in traces.resource_spans:
        services[_service_of(resource_spans.resource)] += sum(len(one.spans) for one in resource_spans.scope_spans)
    return services


def _shared_out(services: Mapping[str, int], parts: Sequence[Counter[str]]) -> list[Counter[str]]:
    """Return how many spans of each service parts have, so that they add up to what is known of the whole.

    Args:
        services: of the whole: "" where that is not known, or another name for those beyond a bound.
        parts: as they were read out of the bodies.
    """
    left = Counter(services)
    shares: list[Counter[str]] = []
    for part in parts:
        share = left & part
        left -= share
        shares.append(share)
    for part, share in zip(parts, shares, strict=True):
        missing = part.total() - share.total()
        for service, count in left.items():
            taken = min(count, missing)
            share[service] += taken
            missing -= taken
        left = Counter(services) - sum(shares, Counter())
    return shares


def _service_of(resource: Resource) -> str:
    return next((one.value.string_value for one in resource.attributes if one.key == SERVICE_NAME), "")


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
