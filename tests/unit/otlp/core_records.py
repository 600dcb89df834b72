"""Records with a sound core for these tests, and what was made of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from drain.otlp.encoder import Encoder
from ringbuf.layout.layout import Attribute, SpanLayout
from tests.property.strategies import make_records

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Records: TypeAlias = np.ndarray[Any, np.dtype[np.void]]
Rows: TypeAlias = "list[tuple[Mapping[str, Any], Mapping[str, Any]]]"
CORE = {
    "start_unix_nano": 1_764_000_000_000_000_001,
    "end_unix_nano": 1_764_000_000_000_000_002,
    "trace_id": bytes(range(1, 17)),
    "span_id": bytes(range(17, 25)),
    "kind": 3,
    "flags": 0x101,
}
LABELS = SpanLayout(
    span_names=["read", "write"],
    attributes=[Attribute("outcome", "label", labels=("ok", "error")), Attribute("note", "str", 4)],
    scope_name="scope",
    scope_version="1",
    schema_url="https://example.org/schema",
)


def one(layout: SpanLayout, values: Mapping[str, Any], **core: Any) -> Records:
    return make_records(layout, [({**CORE, **core}, values)])


def spans_of(body: bytes) -> Sequence[Span]:
    (resource_spans,) = TracesData.FromString(body).resource_spans
    return resource_spans.scope_spans[0].spans


def values_in(layout: SpanLayout, records: Records) -> list[Any]:
    """Encode both ways and return the first attribute of each span, which must be the same in both."""
    encoder = Encoder(layout, {})
    spans = spans_of(encoder.encode(records).body)
    text = json.loads(encoder.encode_json(records).body)["scopeSpans"][0]["spans"]
    found = []
    for span, json_span in zip(spans, text, strict=True):
        value = span.attributes[0].value
        kind = value.WhichOneof("value")
        assert kind is not None
        (json_value,) = json_span["attributes"][0]["value"].items()
        found.append(getattr(value, kind))
        expected = str(found[-1]) if kind == "int_value" else found[-1]
        assert json_value == (kind.replace("_v", "V"), expected)
    return found
