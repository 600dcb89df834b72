"""A span of the SDK as OTLP within a bounded room: what is cut, from which end, and what is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import SpanContext, TraceFlags

from ringbuf.otel.span import _Event, _level, encode_span, otel_layout

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTEXT = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1))


def encoded(room: int, attributes: dict[str, Any] | None = None, *, events: Sequence[Event] = ()) -> Span:
    made = encode_span(ReadableSpan("sale", CONTEXT, attributes=attributes or {}, events=events), room)
    assert len(made.otlp) <= room
    return Span.FromString(made.otlp)


def values(attributes: Any) -> dict[str, str]:
    return {attribute.key: attribute.value.string_value for attribute in attributes}


def test_of_a_stack_trace_the_end_stays() -> None:
    trace = "".join(f'  File "app.py", line {number}, in call\n' for number in range(400)) + "LookupError: no till"
    exception = Event("exception", {"exception.type": "LookupError", "exception.stacktrace": trace}, timestamp=1)
    (event,) = encoded(2000, events=[exception]).events
    found = values(event.attributes)
    assert found["exception.type"] == "LookupError"
    assert len(found["exception.stacktrace"]) > 1800, "all the room is used"
    assert found["exception.stacktrace"].startswith("\u2026")
    assert trace.endswith(found["exception.stacktrace"][1:])
    assert event.dropped_attributes_count == 0


def test_of_another_text_the_beginning_stays() -> None:
    statement = "SELECT " + ", ".join(f"column_{number}" for number in range(400))
    found = values(encoded(2000, {"db.statement": statement, "db.system": "sqlite"}).attributes)
    assert found["db.system"] == "sqlite"
    assert len(found["db.statement"]) > 1800
    assert found["db.statement"].endswith("\u2026")
    assert statement.startswith(found["db.statement"][:-1])


def test_the_longest_texts_are_cut_and_the_shorter_ones_stay() -> None:
    exception = Event("exception", {"exception.stacktrace": "s" * 3000, "exception.message": "m" * 300}, timestamp=1)
    made = encode_span(
        ReadableSpan("sale", CONTEXT, attributes={"long": "l" * 2000, "short": "x" * 200}, events=[exception]), 2000
    )
    span = Span.FromString(made.otlp)
    found = {**values(span.attributes), **values(span.events[0].attributes)}
    assert (len(found["short"]), len(found["exception.message"])) == (200, 300)
    assert len(found["long"].encode()) == len(found["exception.stacktrace"].encode()) > 650
    assert made.cuts == 2


@pytest.mark.parametrize("character", ["é", "€", "🙂"])
@pytest.mark.parametrize("key", ["db.statement", "exception.stacktrace"])
def test_a_text_is_cut_at_a_character(character: str, key: str) -> None:
    for room in range(300, 320):
        (text,) = values(encoded(room, {key: character * 400}).attributes).values()
        assert text.strip("\u2026") == character * (len(text) - 1)
        assert len(text.encode()) > room - 60


def test_where_cutting_is_not_enough_the_last_are_left_out_and_counted() -> None:
    span = encoded(1000, {f"key{number}": "x" * 100 for number in range(30)})
    assert [attribute.key for attribute in span.attributes] == [f"key{n}" for n in range(len(span.attributes))]
    assert 8 <= len(span.attributes) < 30
    assert len(span.attributes) + span.dropped_attributes_count == 30
    assert all(len(text.encode()) == 64 for text in values(span.attributes).values())


def test_an_event_is_cut_to_the_room_there_is() -> None:
    event = _Event(b"\x12\x01e", [b"\x1a" + bytes([number]) + b"x" * number for number in range(40)], 0)
    for room in range(1000):
        used = len(event.within(room))
        assert used <= room
        assert used > room - 60 or room < 40 or used == len(event.whole()), "only what does not fit is left out"


@pytest.mark.parametrize(
    ("lengths", "excess", "level"),
    [([100], 1, 99), ([100, 60, 10], 40, 60), ([100, 60, 10], 41, 59), ([9, 9, 9], 27, 0), ([9], 10, 0), ([], 1, 0)],
)
def test_the_level_to_which_texts_are_cut(lengths: list[int], excess: int, level: int) -> None:
    assert _level(lengths, excess) == level


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2**63, 'string_value: "9223372036854775808"\n'),
        (-(2**63) - 1, 'string_value: "-9223372036854775809"\n'),
        ("\ud800", 'string_value: "?"\n'),
        (float("nan"), "double_value: nan\n"),
    ],
)
def test_values_that_the_sdk_could_not_send_arrive_nearly(value: Any, expected: str) -> None:
    assert str(encoded(1000, {"key": value}).attributes[0].value) == expected


def test_a_value_that_otlp_has_nothing_for_is_counted_as_dropped() -> None:
    deep: Any = 1
    for _ in range(16):
        deep = [deep]
    # The digits of the last are more than Python writes.
    span = encoded(1000, {"object": object(), "deep": deep, "kept": deep[0], "endless": 10**5000})
    assert [attribute.key for attribute in span.attributes] == ["kept"]
    assert span.dropped_attributes_count == 3


def test_names_that_are_no_texts_arrive_as_texts() -> None:
    name: Any = 7
    span = Span.FromString(
        encode_span(ReadableSpan(name, CONTEXT, events=[Event(name, timestamp=-1)]), 1000).otlp  # as a caller may
    )
    assert (span.name, span.events[0].name, span.events[0].time_unix_nano) == ("7", "7", 0)


def test_the_layout_has_the_resources_schema_url() -> None:
    layout = otel_layout(1024, resource_schema_url="https://schema/resource")
    assert type(layout).from_json(layout.to_json()).resource_schema_url == "https://schema/resource"
    assert b"resource_schema_url" not in otel_layout(1024).to_json()
