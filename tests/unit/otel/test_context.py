"""A site's span in OpenTelemetry's context, and the other way round."""

from __future__ import annotations

import contextvars

import pytest
from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags, TraceState

from ringbuf.otel.context import EnteredSpan, current_parent, enter, leave, parent_of
from ringbuf.sites.span import Parent

TRACE_ID = 0x4BF92F3577B34DA6A3CE929D0E0E4736
SPAN_ID = 0x00F067AA0BA902B7


class CountedSpan:
    """A site's span that counts how often its ids were asked for."""

    def __init__(self, trace_id: int = TRACE_ID, flags: int = 1) -> None:
        self.asked = 0
        self._header = f"00-{trace_id:032x}-{SPAN_ID:016x}-{flags:02x}"

    @property
    def traceparent(self) -> str:
        self.asked += 1
        return self._header


def otel_span(*, is_remote: bool = False, flags: int = 1, trace_id: int = TRACE_ID) -> trace.Span:
    state = TraceState([("vendor", "value")])
    return NonRecordingSpan(SpanContext(trace_id, 0x1234, is_remote, TraceFlags(flags), state))


def test_without_an_opentelemetry_span_there_is_no_parent() -> None:
    assert current_parent() is None


@pytest.mark.parametrize(
    ("is_remote", "flags", "expected"),
    [(False, 1, 0x101), (True, 1, 0x301), (False, 0, 0x100), (True, 3, 0x303), (False, 0xFF, 0x103)],
)
def test_the_current_opentelemetry_span_is_the_parent(is_remote: bool, flags: int, expected: int) -> None:
    with trace.use_span(otel_span(is_remote=is_remote, flags=flags)):
        assert isinstance(current_parent(), Parent)
        found = parent_of(trace.get_current_span())
        assert found == (TRACE_ID.to_bytes(16, "big"), (0x1234).to_bytes(8, "big"), expected)
    assert current_parent() is None


def test_an_opentelemetry_span_inside_is_a_child_of_the_sites_span() -> None:
    finished = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(finished))
    token = enter(CountedSpan())
    with provider.get_tracer("test").start_as_current_span("child"):
        inner = parent_of(trace.get_current_span())
        assert inner is not None
        assert inner[0] == TRACE_ID.to_bytes(16, "big")
    leave(token)
    (child,) = finished.get_finished_spans()
    assert child.parent is not None
    assert (child.context.trace_id, child.parent.span_id, child.parent.is_remote) == (TRACE_ID, SPAN_ID, False)


def test_an_unsampled_span_of_a_site_has_no_sampled_children() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    token = enter(CountedSpan(flags=0))
    child = provider.get_tracer("test").start_span("child")
    leave(token)
    assert not child.is_recording()
    assert child.get_span_context().trace_id == TRACE_ID


def test_a_sites_own_span_is_the_parent_itself() -> None:
    span = CountedSpan()
    token = enter(span)
    assert current_parent() is span
    leave(token)


def test_ids_are_made_only_when_somebody_asks_and_once() -> None:
    span = CountedSpan()
    token = enter(span)
    current = trace.get_current_span()
    assert current_parent() is span
    assert span.asked == 0
    assert current.get_span_context() is current.get_span_context()
    assert span.asked == 1
    leave(token)


def test_leaving_makes_current_what_was_before() -> None:
    before = context_api.get_current()
    outer = enter(CountedSpan())
    outer_span = trace.get_current_span()
    inner = enter(CountedSpan())
    assert trace.get_current_span() is not outer_span
    leave(inner)
    assert trace.get_current_span() is outer_span
    leave(outer)
    assert context_api.get_current() == before


def test_the_trace_state_goes_on_in_the_same_trace_only() -> None:
    with trace.use_span(otel_span()):
        token = enter(CountedSpan())
        nested = enter(CountedSpan())
        assert trace.get_current_span().get_span_context().trace_state.get("vendor") == "value"
        leave(nested)
        leave(token)
        token = enter(CountedSpan(trace_id=7))
        assert not trace.get_current_span().get_span_context().trace_state
        leave(token)


def everything(span: trace.Span) -> None:
    span.set_attribute("key", 1)
    span.set_attributes({"other": 2})
    span.add_event("event", {"of": "event"}, 3)
    span.add_link(SpanContext(5, 6, is_remote=True), {"of": "link"})
    span.update_name("renamed")
    span.record_exception(LookupError("no till"), {"of": "exception"}, 4)
    span.set_status(Status(StatusCode.ERROR, "bad"))


def test_what_is_set_on_a_sites_span_goes_to_the_recording_span_around() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    finished = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(finished))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("around"):
        outer = enter(CountedSpan())
        inner = enter(CountedSpan())
        assert trace.get_current_span().is_recording()
        everything(trace.get_current_span())
        trace.get_current_span().end()
        leave(inner)
        leave(outer)
        assert trace.get_current_span().is_recording(), "a site's block ends by itself"
    with tracer.start_as_current_span("around"):
        everything(trace.get_current_span())
    through, directly = finished.get_finished_spans()
    assert through.name == "renamed"
    assert through.attributes == directly.attributes
    assert through.status.description == "bad"
    assert [link.context for link in through.links] == [link.context for link in directly.links]
    names = [[(event.name, event.timestamp) for event in span.events] for span in (through, directly)]
    assert names[0] == names[1] == [("event", 3), ("exception", 4)]


def test_what_is_set_where_nothing_records_is_lost_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    ended = provider.get_tracer("test").start_span("ended")
    with trace.use_span(ended):
        token = enter(CountedSpan())
        ended.end()
        span = trace.get_current_span()
        assert isinstance(span, EnteredSpan)
        assert not span.is_recording()
        everything(span)
        leave(token)
    token = enter(CountedSpan())
    assert not trace.get_current_span().is_recording()
    everything(trace.get_current_span())
    leave(token)
    assert not caplog.records


def test_a_block_that_is_left_in_another_context_makes_no_noise_and_is_no_parent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with trace.use_span(otel_span()):
        around = trace.get_current_span().get_span_context()
        tokens = [enter(CountedSpan(trace_id=number)) for number in (7, 8)]
        contextvars.copy_context().run(leave, tokens[1])
        assert current_parent() is tokens[0].span
        assert trace.get_current_span().get_span_context().trace_id == 7
        contextvars.copy_context().run(leave, tokens[0])
        assert isinstance(current_parent(), Parent)
        assert trace.get_current_span().get_span_context() is around
        inner = enter(CountedSpan(trace_id=9))
        assert trace.get_current_span().get_span_context().trace_id == 9
        leave(inner)
    assert not caplog.records
