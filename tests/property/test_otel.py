"""SDK spans through the ring and the drain's encoder, beside what OpenTelemetry's own encoder makes of them."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span, Status, TracesData
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from drain.otlp.encoder import Encoder
from drain.otlp.fields import checked_fields
from drain.otlp.json_lines import from_json_line
from ringbuf._ringbuf import lib
from ringbuf.otel import RingSpanProcessor
from ringbuf.otel.span import SCOPE_BYTES, encode_scope, encode_span
from ringbuf.ring.resource import resource_from_json
from tests.conftest import SESSION, SHM
from tests.consumer import Consumer
from tests.examples import examples
from tests.property import sdk_spans

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan

W3C_FLAGS = 0xFF
# What a ring's resource has, and that of these spans has not.
ADDED = {"service.instance.id", "process.pid", "host.name"} | {
    f"telemetry.sdk.{name}" for name in ("name", "language", "version")
}


@pytest.fixture(scope="module")
def processor() -> Iterator[RingSpanProcessor]:
    """Return one processor for all examples: a ring for each would cost more than what is tested."""
    path = Path(tempfile.mkdtemp(prefix=f"{SESSION}-", dir=SHM))
    made = RingSpanProcessor(ring_dir=path, slot_bytes=16384, capacity=64, resource=sdk_spans.RESOURCE)
    yield made
    with Consumer(ring_of(made)) as consumer:  # a close with undelivered spans would warn
        consumer.take_all()
    made.shutdown()
    shutil.rmtree(path)


def ring_of(processor: RingSpanProcessor) -> Path:
    path = processor.emitters[0].stats().path
    assert path is not None
    return path


def delivered(processor: RingSpanProcessor) -> tuple[ResourceSpans, ResourceSpans]:
    """Return what the drain makes of what is in the ring, by way of protobuf and of JSON."""
    with Consumer(ring_of(processor)) as consumer:
        records = consumer.take_all()
        resource = resource_from_json(consumer.json("resource"))
    encoder = Encoder(processor.emitters[0].layout, resource)
    encoded, json_encoded = encoder.encode(records), encoder.encode_json(records)
    assert (encoded.invalid, json_encoded.invalid) == (0, 0)
    (by_protobuf,) = TracesData.FromString(encoded.body).resource_spans
    (by_json,) = from_json_line(b'{"resourceSpans":[' + json_encoded.body + b"]}").resource_spans
    return by_protobuf, by_json


def as_the_sdk_has_it(ours: ResourceSpans) -> ResourceSpans:
    """Take away what OTLP has and the SDK's encoder leaves out, and check that it is there."""
    changed = ResourceSpans()
    changed.CopyFrom(ours)
    for scope_spans in changed.scope_spans:
        for span in scope_spans.spans:
            span.flags &= ~W3C_FLAGS
            for link in span.links:
                link.flags &= ~W3C_FLAGS
                link.trace_state = ""
    return changed


def by_id(spans: ResourceSpans) -> dict[bytes, Any]:
    return {span.span_id: (scope.scope, scope.schema_url, span) for scope in spans.scope_spans for span in scope.spans}


@settings(max_examples=examples(50))
@given(spans=st.lists(sdk_spans.spans(), min_size=1, max_size=5, unique_by=lambda span: span.context.span_id))
def test_a_span_arrives_as_the_sdk_would_have_sent_it(processor: RingSpanProcessor, spans: list[ReadableSpan]) -> None:
    for span in spans:
        processor.on_end(span)
    (expected,) = encode_spans(spans).resource_spans
    for scope_spans in expected.scope_spans:
        for encoded in scope_spans.spans:
            if encoded.status == Status():  # there, and empty: the same as not there
                encoded.ClearField("status")
    for ours in delivered(processor):
        assert ours.schema_url == expected.schema_url
        of_process = {attribute.key: attribute.value for attribute in ours.resource.attributes}
        assert of_process.keys() - ADDED == {attribute.key for attribute in expected.resource.attributes}
        assert all(of_process[attribute.key] == attribute.value for attribute in expected.resource.attributes)
        assert by_id(as_the_sdk_has_it(ours)) == by_id(expected)
        given_spans = {span.context.span_id.to_bytes(8, "big"): span for span in spans}
        for span_id, (_, _, arrived) in by_id(ours).items():
            sent = given_spans[span_id]
            assert arrived.flags & W3C_FLAGS == sent.context.trace_flags
            assert [(link.flags & W3C_FLAGS, link.trace_state) for link in arrived.links] == [
                (link.context.trace_flags, ",".join(map("=".join, link.context.trace_state.items())))
                for link in sent.links
            ]


@settings(max_examples=examples(15))
@given(spans=st.lists(sdk_spans.spans(), min_size=1, max_size=5))
def test_spans_of_one_scope_lie_in_one_scope_spans(processor: RingSpanProcessor, spans: list[ReadableSpan]) -> None:
    for span in spans:
        processor.on_end(span)
    ours, _ = delivered(processor)
    scopes = [(part.scope.SerializeToString(deterministic=True), part.schema_url) for part in ours.scope_spans]
    assert len(scopes) == len(set(scopes))


@given(span=sdk_spans.spans(), room=st.integers(100, 600))
def test_what_does_not_fit_is_cut_or_left_out_and_counted(span: ReadableSpan, room: int) -> None:
    otlp, cuts = encode_span(span, room)
    assert len(otlp) <= room
    checked_fields("Span", otlp)
    assert lib.rb_otlp_is_sound(lib.RB_TYPE_OTLP, otlp, len(otlp))
    ours, whole = Span.FromString(otlp), Span.FromString(encode_span(span, 1 << 20).otlp)
    if cuts == 0:
        assert (ours.name, ours.status, ours.trace_state) == (whole.name, whole.status, whole.trace_state)
        assert is_part_in_order(ours.attributes, whole.attributes)
    assert whole.name.startswith(ours.name)
    assert whole.status.message.startswith(ours.status.message)
    assert are_cut_from(ours.attributes, whole.attributes)
    assert is_part_in_order(ours.links, whole.links) or cuts
    assert len(ours.attributes) + ours.dropped_attributes_count == len(whole.attributes)
    assert len(ours.events) + ours.dropped_events_count == len(whole.events)
    assert len(ours.links) + ours.dropped_links_count == len(whole.links)
    wholes = iter(whole.events)
    for event in ours.events:
        found = next(one for one in wholes if (one.name, one.time_unix_nano) == (event.name, event.time_unix_nano))
        assert are_cut_from(event.attributes, found.attributes)
        assert len(event.attributes) + event.dropped_attributes_count == len(found.attributes)


def are_cut_from(part: Any, whole: Any) -> bool:
    """Whether each is one of `whole`, in their order, but for texts that were cut."""
    rest = iter(whole)
    return all(any(is_cut_from(item, other) for other in rest) for item in part)


def is_cut_from(item: Any, other: Any) -> bool:
    text: str = item.value.string_value
    was_cut: bool = text.endswith("\u2026") and other.value.string_value.startswith(text[:-1])
    return bool(item == other) or (item.key == other.key and was_cut)


def is_part_in_order(part: Any, whole: Any) -> bool:
    rest = iter(whole)
    return all(any(item == other for other in rest) for item in part)


long_text = st.builds("{}{}".format, sdk_spans.text, st.integers(0, 150).map("é".__mul__))


@given(
    scope=st.builds(
        InstrumentationScope,
        name=long_text,
        version=st.none() | long_text,
        schema_url=st.none() | long_text,
        attributes=st.dictionaries(sdk_spans.text, long_text, max_size=4),
    )
)
def test_a_scope_is_cut_to_its_room(scope: InstrumentationScope) -> None:
    encoded, _ = encode_scope(scope)
    assert len(encoded) <= SCOPE_BYTES
    checked_fields("ScopeSpans", encoded)
