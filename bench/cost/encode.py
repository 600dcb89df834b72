"""Records to OTLP: our encode plan beside the ways that Python has. `python -m bench.cost.encode [ROUNDS]`.

All take the same spans of Phase 219, with what each wants prepared before the clock starts: we the records as they lie
in a ring, the SDK its `ReadableSpan`s, the plain messages Python values with every label's `KeyValue` made once.
"""

from __future__ import annotations

import argparse
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bench.cost.demo_records import demo_records
from bench.in_turns import measure_rows
from bench.measure import bursts
from bench.results import print_table
from bench.rows import Row
from drain.accounting.span_metrics import SpanMetrics
from drain.otlp.direct_gzip import DirectGzip
from drain.otlp.encoder import Encoder, to_resource_spans
from drain.otlp.gzip_members import gunzip, gzip
from drain.otlp.output_buffer import OutputBuffer
from ringbuf.dataplane import DATAPLANE_LAYOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.proto.common.v1.common_pb2 import KeyValue
    from opentelemetry.sdk.trace import ReadableSpan

    from bench.measure import Round

SPANS: Final = 8192
PEER_SPANS: Final = 1000
RESOURCE: Final = {"service.name": "bench", "service.instance.id": "00000000-0000-4000-8000-000000000000"}
_TIMES: Final = 20
_PEER_TIMES: Final = 3
_MOST_OF_ISAL: Final = 1.05  # the size of a member, at most
_ERRORS: Final = (3, 4, 5, 6)  # outcomes that set the status
_ISAL: Final = "encode, then ISA-L level 1"
_SDK: Final = "SDK encode_spans + SerializeToString"

ROWS: Final = (
    Row("encode", "records to protobuf, reused buffer", "encode.protobuf", "encode.sdk", _SDK, ">= 1000"),
    Row(
        "encode",
        "records to protobuf, reused buffer",
        "encode.protobuf",
        "encode.messages",
        "opentelemetry.proto, cached KeyValues",
        ">= 150",
    ),
    Row("encode", "records to protobuf, new bytes", "encode.protobuf_bytes", "encode.sdk", _SDK),
    Row(
        "encode",
        "records to protobuf, reused buffer",
        "encode.protobuf",
        "encode.memcpy",
        "memcpy of the output",
        is_limit=True,
    ),
    Row("encode", "records to JSON, reused buffer", "encode.json", "encode.message_to_json", "MessageToJson", ">= 200"),
    Row("encode", "records to JSON, new bytes", "encode.json_bytes", "encode.message_to_json", "MessageToJson"),
    Row(
        "encode",
        "span metrics of records",
        "encode.span_metrics",
        "encode.protobuf",
        "records to protobuf, reused buffer",
        is_limit=True,
    ),
    *(
        Row(
            "encode",
            f"records straight to gzip: {title}",
            f"encode.direct_gzip.{data}",
            f"encode.gzip.{data}",
            _ISAL,
            aim,
        )
        for data, title, aim in (
            ("random", "random leases and labels", ">= 2.2"),
            ("demo", "the demo's memory spans", ">= 2.5"),
        )
    ),
)


def records(count: int) -> np.ndarray:
    """Return spans of all families, operations and outcomes; half have a parent, half have a size."""
    random = np.random.default_rng(219)
    made = DATAPLANE_LAYOUT.empty(count)
    family = random.integers(0, 4, count)
    outcome = random.integers(0, 8, count)
    made["trace_id"] = random.integers(1, 256, (count, 16))
    made["span_id"] = random.integers(1, 256, (count, 8))
    made["parent_span_id"] = random.integers(1, 256, (count, 8)) * random.integers(0, 2, (count, 1))
    made["start_unix_nano"] = 1_764_000_000_000_000_000 + np.cumsum(random.integers(100, 10_000, count))
    made["end_unix_nano"] = made["start_unix_nano"] + random.integers(100, 100_000, count).astype("u8")
    made["name"] = family
    made["kind"] = 1
    made["status"] = np.where(np.isin(outcome, _ERRORS), 2, 0)
    made["flags"] = 0x101
    made["present"] = 0b1111 + 0b10000 * random.integers(0, 2, count)
    made["grafos.lease.id"] = random.integers(0, 256, (count, 16))
    made["grafos.resource.kind"] = family
    made["grafos.operation"] = random.integers(0, 11, count)
    made["grafos.outcome"] = outcome
    made["grafos.bytes"] = 2 ** random.integers(0, 24, count)
    return made


@contextmanager
def into_buffer(*, is_json: bool) -> Iterator[Round]:
    """Encode to the same memory again and again, as a drain can."""
    spans, out, encoder = records(SPANS), OutputBuffer(), Encoder(DATAPLANE_LAYOUT, RESOURCE)
    encode = encoder.encode_json_into if is_json else encoder.encode_into
    yield _round(lambda: encode(spans, out), SPANS, _TIMES, out.clear)


@contextmanager
def to_bytes(*, is_json: bool) -> Iterator[Round]:
    """Encode to a new `bytes` each time."""
    spans, encoder = records(SPANS), Encoder(DATAPLANE_LAYOUT, RESOURCE)
    yield _round(partial(encoder.encode_json if is_json else encoder.encode, spans), SPANS, _TIMES)


@contextmanager
def span_metrics() -> Iterator[Round]:
    """Count the records by series and duration, as a drain does when it releases them."""
    spans = records(SPANS)
    counter = SpanMetrics(1000).of(DATAPLANE_LAYOUT, "bench")

    def count() -> None:
        summary = counter.summarise(spans, invalid=0)
        assert summary is not None
        counter.add(summary, is_delivered=True)

    yield _round(count, SPANS, _TIMES)


@contextmanager
def memcpy() -> Iterator[Round]:
    """Copy the bytes that the spans become: what no encoder can go below."""
    body = np.frombuffer(Encoder(DATAPLANE_LAYOUT, RESOURCE).encode(records(SPANS)).body, "u1")
    yield _round(partial(np.copyto, np.empty_like(body), body), SPANS, _TIMES)


@contextmanager
def sdk() -> Iterator[Round]:
    """What the SDK's exporters do with a batch."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    spans = _readable_spans(records(PEER_SPANS))
    yield _round(lambda: encode_spans(spans).SerializeToString(), PEER_SPANS, _PEER_TIMES)


@contextmanager
def messages() -> Iterator[Round]:
    """Protobuf's messages, used in the way that took least of five: filled in place, no label's KeyValue made twice."""
    from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

    prepared = _prepared(records(PEER_SPANS))
    envelope = to_resource_spans(DATAPLANE_LAYOUT.empty(0), DATAPLANE_LAYOUT, RESOURCE)
    kind = Span.SPAN_KIND_INTERNAL

    def encode() -> bytes:
        traces = TracesData(resource_spans=[envelope])
        add = traces.resource_spans[0].scope_spans[0].spans.add
        for trace_id, span_id, parent_span_id, name, start, end, status, lease, labels, size in prepared:
            span = add()
            span.trace_id = trace_id
            span.span_id = span_id
            if parent_span_id:
                span.parent_span_id = parent_span_id
            span.name = name
            span.kind = kind
            span.start_time_unix_nano = start
            span.end_time_unix_nano = end
            span.flags = 0x101
            attributes = span.attributes
            attribute = attributes.add()
            attribute.key = "grafos.lease.id"
            attribute.value.string_value = lease
            attributes.extend(labels)
            if size is not None:
                attribute = attributes.add()
                attribute.key = "grafos.bytes"
                attribute.value.int_value = size
            if status:
                span.status.code = status
        return traces.SerializeToString()

    assert encode() == Encoder(DATAPLANE_LAYOUT, RESOURCE).encode(records(PEER_SPANS)).body
    yield _round(encode, PEER_SPANS, _PEER_TIMES)


@contextmanager
def message_to_json() -> Iterator[Round]:
    """Protobuf's own JSON of messages that are there; it is no OTLP/JSON (ids in base64, enums by name)."""
    from google.protobuf.json_format import MessageToJson

    message = to_resource_spans(records(PEER_SPANS), DATAPLANE_LAYOUT, RESOURCE)
    yield _round(lambda: MessageToJson(message, indent=None), PEER_SPANS, 1)


@contextmanager
def to_gzip(data: str) -> Iterator[Round]:
    """Encode a batch and compress it, as a drain does for a layout with text."""
    spans, encoder = _spans_of(data), Encoder(DATAPLANE_LAYOUT, RESOURCE)
    yield _round(lambda: gzip(encoder.encode(spans).body), SPANS, _TIMES)


@contextmanager
def direct_gzip(data: str) -> Iterator[Round]:
    """Make the same member from the records."""
    spans, encoder, writer = _spans_of(data), Encoder(DATAPLANE_LAYOUT, RESOURCE), DirectGzip()

    def member() -> bytes:
        writer.add(encoder, spans)
        return writer.finish().data

    body = encoder.encode(spans).body
    assert gunzip(member()) == body
    assert len(member()) <= _MOST_OF_ISAL * len(gzip(body))
    yield _round(member, SPANS, _TIMES)


def _spans_of(data: str) -> np.ndarray:
    return records(SPANS) if data == "random" else demo_records(SPANS)


PROBES: Final = {
    "encode.protobuf": partial(into_buffer, is_json=False),
    "encode.json": partial(into_buffer, is_json=True),
    "encode.protobuf_bytes": partial(to_bytes, is_json=False),
    "encode.json_bytes": partial(to_bytes, is_json=True),
    "encode.memcpy": memcpy,
    "encode.span_metrics": span_metrics,
    **{f"encode.gzip.{data}": partial(to_gzip, data) for data in ("random", "demo")},
    **{f"encode.direct_gzip.{data}": partial(direct_gzip, data) for data in ("random", "demo")},
    "encode.sdk": sdk,
    "encode.messages": messages,
    "encode.message_to_json": message_to_json,
}


def _round(encode: Callable[[], object], spans: int, times: int, between: Callable[[], object] = lambda: None) -> Round:
    def burst(_count: int) -> None:
        encode()

    return lambda: bursts(burst, between, spans, times)


def _prepared(spans: np.ndarray) -> list[tuple[Any, ...]]:
    """Return what each span is made of, as Python has it; labels are KeyValues, each made once."""
    cache: dict[bytes, KeyValue] = {}
    prepared = []
    for span in to_resource_spans(spans, DATAPLANE_LAYOUT, RESOURCE).scope_spans[0].spans:
        lease, *labels = span.attributes
        size = labels.pop().value.int_value if labels[-1].key == "grafos.bytes" else None
        cached = [cache.setdefault(label.SerializeToString(), label) for label in labels]
        times = span.start_time_unix_nano, span.end_time_unix_nano
        core = span.trace_id, span.span_id, span.parent_span_id, span.name, *times, span.status.code
        prepared.append((*core, lease.value.string_value, cached, size))
    return prepared


def _readable_spans(spans: np.ndarray) -> list[ReadableSpan]:
    """Return the spans as the SDK hands them to an exporter."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
    from opentelemetry.trace.status import Status, StatusCode

    resource = Resource(RESOURCE)
    scope = InstrumentationScope(DATAPLANE_LAYOUT.scope_name, DATAPLANE_LAYOUT.scope_version)

    def context(trace_id: bytes, span_id: bytes) -> SpanContext:
        ids = int.from_bytes(trace_id, "big"), int.from_bytes(span_id, "big")
        return SpanContext(*ids, is_remote=False, trace_flags=TraceFlags(1))

    return [
        ReadableSpan(
            name=DATAPLANE_LAYOUT.span_names[record["name"]],
            context=context(record["trace_id"].tobytes(), record["span_id"].tobytes()),
            parent=context(record["trace_id"].tobytes(), record["parent_span_id"].tobytes())
            if record["parent_span_id"].any()
            else None,
            resource=resource,
            attributes=DATAPLANE_LAYOUT.values(record),
            kind=SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR if record["status"] else StatusCode.UNSET),
            start_time=int(record["start_unix_nano"]),
            end_time=int(record["end_unix_nano"]),
            instrumentation_scope=scope,
        )
        for record in spans
    ]


def main() -> None:
    """Measure the rows of this file."""
    parser = argparse.ArgumentParser(prog="python -m bench.cost.encode", description=__doc__)
    parser.add_argument("rounds", nargs="?", type=int, default=11, help="of each row (11)")
    print_table(measure_rows(ROWS, parser.parse_args().rounds))


if __name__ == "__main__":
    main()
