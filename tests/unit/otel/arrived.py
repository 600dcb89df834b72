"""What the drain makes of the spans of a processor, and what was said meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span, TracesData
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import SpanContext, TraceFlags

from drain.otlp.encoder import Encoder
from ringbuf.log import wait_until_told
from ringbuf.ring.resource import resource_from_json
from tests.consumer import Consumer, rings_in

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

RESOURCE = Resource({"service.name": "shop"}, "https://schema/resource")
CONTEXT = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1))


def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Return what was logged, when what there is to say was said."""
    wait_until_told(60)
    return caplog


def delivered(ring_dir: Path) -> list[ResourceSpans]:
    """Return what the drain makes of each ring, and release it."""
    found: list[ResourceSpans] = []
    for path in rings_in(ring_dir):
        with Consumer(path) as consumer:
            records = consumer.take_all()
            resource = resource_from_json(consumer.json("resource"))
            found += TracesData.FromString(Encoder(consumer.layout, resource).encode(records).body).resource_spans
    return found


def spans_in(ring_dir: Path) -> list[Span]:
    return [span for ring in delivered(ring_dir) for scope in ring.scope_spans for span in scope.spans]
