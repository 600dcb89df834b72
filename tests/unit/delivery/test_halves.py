"""Cutting a request in halves keeps every span, its order, and what surrounds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, TracesData

from drain.delivery.halves import by_destination, halves, pieces
from drain.otlp.batch_number import BatchNumber
from drain.otlp.json_lines import from_json_line, to_json_line
from drain.otlp.request import Request

if TYPE_CHECKING:
    from drain.otlp.request import Encoding


def traces_of(*counts_by_scope: list[int]) -> TracesData:
    """Return one resource for each list, in it one scope for each number, in it so many spans, all with own names."""
    traces = TracesData()
    number = 0
    for at, counts in enumerate(counts_by_scope):
        resource_spans = ResourceSpans(resource=Resource(dropped_attributes_count=at + 1), schema_url=f"resource-{at}")
        for scope, count in enumerate(counts):
            spans = [Span(name=str(number + offset)) for offset in range(count)]
            number += count
            resource_spans.scope_spans.append(
                ScopeSpans(scope=InstrumentationScope(name=f"{at}.{scope}"), schema_url=f"s{scope}", spans=spans)
            )
        traces.resource_spans.append(resource_spans)
    return traces


def spans_in_context(traces: TracesData) -> list[tuple[str, str, str]]:
    return [
        (resource_spans.schema_url, scope_spans.scope.name, span.name)
        for resource_spans in traces.resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
@pytest.mark.parametrize("counts", [([2],), ([1], [1]), ([3, 4], [5]), ([1, 1, 1], [1], [7, 2])])
def test_the_halves_hold_every_span_once_and_in_order(counts: tuple[list[int], ...], encoding: Encoding) -> None:
    traces = traces_of(*counts)
    total = sum(map(sum, counts))
    body = to_json_line(traces) if encoding == "json" else traces.SerializeToString()
    first, second = halves(Request(body, total, encoding))
    parts = [from_json_line(r.body) if encoding == "json" else TracesData.FromString(r.body) for r in (first, second)]
    assert [first.spans, second.spans] == [total // 2, total - total // 2]
    assert [len(spans_in_context(part)) for part in parts] == [first.spans, second.spans]
    assert spans_in_context(parts[0]) + spans_in_context(parts[1]) == spans_in_context(traces)


def test_pieces_know_which_spans_of_which_batch_they_have_and_where_they_go() -> None:
    number = BatchNumber("00f1e2d3c4b5a697", 7, 100, 512)
    body = traces_of([3, 4], [4]).SerializeToString()
    made = pieces(Request(body, 11, "protobuf", "17", batch=number), 3)
    assert [(piece.batch, piece.spans) for piece in made] == [
        (number, 3),
        (number._replace(first=103), 4),
        (number._replace(first=107), 4),
    ]
    assert {piece.destination for piece in made} == {"17"}
    assert [len(spans_in_context(TracesData.FromString(piece.body))) for piece in made] == [3, 4, 4]


def test_the_halves_have_no_empty_envelopes() -> None:
    traces = traces_of([2, 2], [4])
    first, second = halves(Request(traces.SerializeToString(), 8, "protobuf"))
    for request in (first, second):
        for resource_spans in TracesData.FromString(request.body).resource_spans:
            assert resource_spans.scope_spans
            assert all(scope_spans.spans for scope_spans in resource_spans.scope_spans)


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_what_is_cut_by_destination_holds_every_span_once_in_its_context(encoding: Encoding) -> None:
    traces = traces_of([3, 4], [5], [1])
    ids = iter(range(13))
    for resource_spans in traces.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                span.trace_id, span.span_id = next(ids).to_bytes(16, "big"), bytes(7) + b"1"
    body = to_json_line(traces) if encoding == "json" else traces.SerializeToString()
    batch = BatchNumber("00f1e2d3c4b5a697", 7, 100, 512)
    parts = by_destination(
        Request(body, 13, encoding, "gone", batch=batch), lambda trace_id, _service: "odd" if trace_id[-1] % 2 else ""
    )
    assert [(part.destination, part.spans) for part in parts] == [("", 7), ("odd", 6)]
    assert [part.batch and part.batch.first for part in parts] == [100, 107]
    for part, odd in zip(parts, (0, 1), strict=True):
        found = from_json_line(part.body) if encoding == "json" else TracesData.FromString(part.body)
        assert spans_in_context(found) == [one for one in spans_in_context(traces) if int(one[2]) % 2 == odd]
