"""Events, links and status messages of a site's spans, as the drain delivers them."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

import ringbuf
from drain.otlp.encoder import Encoder
from ringbuf import Status
from ringbuf.layout.layout import SpanLayout
from ringbuf.ring.resource import resource_from_json
from ringbuf.sites.span_parts import STACKTRACE, SpanParts
from tests.consumer import Consumer, rings_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ROOM = 400
LAYOUT = SpanLayout(
    span_names=["get"],
    attributes=[ringbuf.Attribute("bytes", "u64"), ringbuf.Attribute("parts", "otlp", ROOM)],
)
HEADER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def store(ring_dir: Path) -> Iterator[ringbuf.Emitter]:
    with ringbuf.Emitter("store", ring_dir=ring_dir, layout=LAYOUT, capacity=16) as emitter:
        yield emitter
        delivered(ring_dir)


def delivered(ring_dir: Path) -> list[Span]:
    """Return the spans as the drain sends them."""
    spans: list[Span] = []
    for path in rings_in(ring_dir):
        with Consumer(path) as consumer:
            records = consumer.take_all()
            resource = resource_from_json(consumer.json("resource"))
            data = TracesData.FromString(Encoder(consumer.layout, resource).encode(records).body)
        spans.extend(span for one in data.resource_spans for scope in one.scope_spans for span in scope.spans)
    return spans


def text_of(attributes: Any) -> dict[str, str]:
    return {one.key: one.value.string_value for one in attributes}


def test_events_links_and_a_message_are_delivered(store: ringbuf.Emitter, ring_dir: Path) -> None:
    with store.site("get", varying=["bytes"]).span(512) as span:
        span.add_event("miss", {"tier": "ram", "tries": 2, "bad": object()}, timestamp=1234)
        span.add_event("hit")
        span.add_link(HEADER, {"why": "cause"})
        span.set_status(Status.ERROR, "corrupt")
    (got,) = delivered(ring_dir)
    miss, hit = got.events
    assert (miss.name, miss.time_unix_nano, miss.dropped_attributes_count) == ("miss", 1234, 1)
    assert [one.key for one in miss.attributes] == ["tier", "tries"]
    assert got.start_time_unix_nano <= hit.time_unix_nano <= got.end_time_unix_nano
    (link,) = got.links
    assert f"00-{link.trace_id.hex()}-{link.span_id.hex()}-01" == HEADER
    assert (text_of(link.attributes), link.flags) == ({"why": "cause"}, 0x301)
    assert (got.status.code, got.status.message) == (2, "corrupt")
    assert [one.key for one in got.attributes] == ["bytes"]
    assert (store.stats().truncated, store.stats().invalid_values) == (0, 0)


def test_what_does_not_fit_is_counted_in_the_span_and_by_the_emitter(store: ringbuf.Emitter, ring_dir: Path) -> None:
    with store.site("get").span() as span:
        for number in range(10):
            span.add_event(f"event {number}", {"text": "x" * 60})
        for _ in range(5):
            span.add_link(HEADER)
        span.add_event("large", {"text": "x" * 20_000})
    (got,) = delivered(ring_dir)
    assert 0 < len(got.events) < 10
    assert len(got.events) + got.dropped_events_count == 11
    assert len(got.links) + got.dropped_links_count == 5
    assert got.dropped_events_count
    assert store.stats().truncated == 1


def test_any_number_of_events_takes_a_records_memory_at_most(store: ringbuf.Emitter, ring_dir: Path) -> None:
    with store.site("get").span() as span:
        for _ in range(10_000):
            span.add_event("tick", {"text": "x" * 100})
        assert sum(len(whole) for _, whole, _ in span["otlp (events and links)"]._parts) <= 16384
    (got,) = delivered(ring_dir)
    assert len(got.events) + got.dropped_events_count == 10_000


def test_an_exception_that_passes_is_an_event_as_the_sdk_has_it(store: ringbuf.Emitter, ring_dir: Path) -> None:
    with suppress(KeyError), store.site("get").span() as span:
        span.add_event("before")
        raise KeyError("k")
    (got,) = delivered(ring_dir)
    before, exception = got.events
    assert (before.name, exception.name, got.status.code) == ("before", "exception", 2)
    values = text_of(exception.attributes)
    assert (values["exception.type"], values["exception.message"]) == ("KeyError", "'k'")
    assert values["exception.stacktrace"].endswith("KeyError: 'k'\n")
    assert exception.time_unix_nano == got.end_time_unix_nano, "an event after its span's end is shown nowhere"


def test_the_cost_of_a_trace_does_not_grow_with_the_depth_of_the_stack_or_of_the_causes(
    store: ringbuf.Emitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written at each block that an exception passes: of a thousand blocks that took 20 s."""
    written: list[str] = []

    def add_event(_parts: SpanParts, _name: str, attributes: dict[str, str], _time: int) -> None:
        written.append(attributes[STACKTRACE])

    monkeypatch.setattr(SpanParts, "add_event", add_event)

    def dive(depth: int) -> None:
        with store.site("get").span():
            if depth:
                return dive(depth - 1)
            error = cause = KeyError(0)
            for number in range(1, 100):
                cause.__cause__ = KeyError(number)
                cause = cause.__cause__
            raise error

    with suppress(KeyError):
        dive(100)
    assert len(written) == 101
    assert max(text.count("  File ") for text in written) <= 32
    assert max(text.count("KeyError: ") for text in written) <= 10


@pytest.mark.parametrize("depth", [5, 400])
def test_an_exception_without_room_for_its_trace_is_there_all_the_same(
    store: ringbuf.Emitter, ring_dir: Path, depth: int
) -> None:
    def fail(left: int) -> None:
        if left == 0:
            raise KeyError("k")
        (fail_by_turns if left % 2 else fail)(left - 1)

    def fail_by_turns(left: int) -> None:  # what repeats is shown in one line
        fail(left - 1) if left else fail(0)

    with suppress(KeyError), store.site("get").span():
        fail(depth)
    (got,) = delivered(ring_dir)
    (exception,) = got.events
    assert text_of(exception.attributes) == {"exception.type": "KeyError", "exception.message": "'k'"}
    assert (exception.dropped_attributes_count, store.stats().truncated) == (1, 1)


def test_what_is_no_event_or_link_is_left_out_and_counted(store: ringbuf.Emitter, ring_dir: Path) -> None:
    with store.site("get").span() as span:
        wrong: Any = span
        wrong.add_event("a", 7)
        wrong.add_event("a", None, "now")
        wrong.add_event("a", None, -1)
        wrong.add_link("no header")
        wrong.add_link(None)
    (got,) = delivered(ring_dir)
    assert (len(got.events), len(got.links), store.stats().invalid_values) == (0, 0, 5)


class Moving(dict[str, Any]):
    """Attributes that another thread adds to."""

    def items(self) -> Any:
        raise RuntimeError("dictionary changed size during iteration")

    keys = items


class Silent:
    """What cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


DOORS: dict[str, Callable[[Any], None]] = {
    "a float for a time": lambda span: span.add_event("a", None, 1.5),
    "attributes of an event": lambda span: span.add_event("a", Moving(k=1)),
    "a name": lambda span: span.add_event(Silent()),
    "attributes of a link": lambda span: span.add_link(HEADER, Moving(k=1)),
    "attributes of an exception": lambda span: span.record_exception(KeyError(), "text"),
    "a description": lambda span: span.set_status(Status.ERROR, Silent()),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_nothing_that_a_span_is_given_raises_in_the_program(
    store: ringbuf.Emitter, ring_dir: Path, door: Callable[[Any], None]
) -> None:
    with store.site("get").span() as span:
        door(span)
    assert len(delivered(ring_dir)) == 1
    assert store.stats().invalid_values == 1


def test_an_exception_that_is_handled_happened_before_its_stack_was_written_down(
    store: ringbuf.Emitter, ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    def stack_trace(_exception: BaseException) -> str:
        written.append(ringbuf.unix_nano())
        return ""

    monkeypatch.setattr("ringbuf.sites.span._stack_trace", stack_trace)
    with store.site("get").span() as span:
        span.record_exception(KeyError())
        span.record_exception(KeyError(), timestamp=7)
    (got,) = delivered(ring_dir)
    first, second = (event.time_unix_nano for event in got.events)
    assert first <= written[0]
    assert second == 7


def test_an_exception_is_recorded_without_attributes_that_are_none(store: ringbuf.Emitter, ring_dir: Path) -> None:
    with store.site("get").span() as span:
        span.record_exception(KeyError(), 7)  # type: ignore[arg-type] # as a user might
    (got,) = delivered(ring_dir)
    assert [event.name for event in got.events] == ["exception"]


@pytest.mark.parametrize("is_given", [False, True], ids=["a layout without otlp", "a site that gives it itself"])
def test_without_a_place_for_them_they_are_counted(ring_dir: Path, is_given: bool) -> None:
    layout = LAYOUT if is_given else SpanLayout(span_names=["get"], attributes=[])
    with ringbuf.Emitter("store", ring_dir=ring_dir, layout=layout, capacity=16) as store:
        with store.site("get", varying=["parts"] if is_given else []).span() as span:
            span.add_event("a")
            span.add_link(HEADER)
        assert store.stats().invalid_values == 2
        assert len(delivered(ring_dir)) == 1


def test_of_two_threads_that_add_the_first_event_at_once_neither_loses_it(
    store: ringbuf.Emitter, ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(SpanParts):
        """Takes so long to be made that another thread comes first."""

        def __init__(self) -> None:
            super().__init__()
            monkeypatch.setattr("ringbuf.sites.span.SpanParts", SpanParts)
            threads = [threading.Thread(target=span.add_event, args=("other",))]
            threads[0].start()
            threads[0].join()

    monkeypatch.setattr("ringbuf.sites.span.SpanParts", Slow)
    with store.site("get").span() as span:
        span.add_event("this")
    (found,) = delivered(ring_dir)
    assert [event.name for event in found.events] == ["other", "this"]


def test_what_threads_add_at_once_is_never_more_than_the_room() -> None:
    parts = SpanParts()
    for number in range(4):
        parts.add_event(f"event {number}", None, 1)
    whole, _ = parts.encoded(ROOM)
    parts._bytes = 0  # what threads may leave of their sum, each of which has read it before the others wrote it
    room = len(whole) // 4 * 3
    assert len(parts.encoded(room)[0]) <= room


def test_where_a_test_is_strict_it_raises(store: ringbuf.Emitter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBUF_STRICT", "1")
    with suppress(KeyError), store.site("get").span() as span:
        with pytest.raises(ValueError, match="no traceparent"):
            span.add_link("no header")
        raise KeyError


@pytest.mark.parametrize("is_link_first", [True, False])
@pytest.mark.parametrize("events", [1, 10])
def test_events_and_links_are_delivered_in_whatever_order_they_came(
    store: ringbuf.Emitter, ring_dir: Path, events: int, is_link_first: bool
) -> None:
    """A span that names what caused it, and then fails, is usual; the drain takes fields in their order alone."""
    with suppress(KeyError), store.site("get").span() as span:
        if is_link_first:
            span.add_link(HEADER)
        for _ in range(events):
            span.add_event("tick", {"text": "x" * 30})
        if not is_link_first:
            span.add_link(HEADER)
        raise KeyError
    (got,) = delivered(ring_dir)
    assert len(got.events) + got.dropped_events_count == events + 1
    assert len(got.links) + got.dropped_links_count == 1
    assert len(got.links) == 1 or not is_link_first
