"""What strict receivers cannot read in OTLP/JSON, and nothing else, is written otherwise or left out."""

from __future__ import annotations

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from drain.otlp.json_lines import from_json_line, to_json_line
from drain.otlp.strict_json import without_non_finite


def message_of() -> TracesData:
    message = TracesData()
    span = message.resource_spans.add().scope_spans.add().spans.add(name='"doubleValue":"NaN"')
    span.attributes.add(key="finite").value.double_value = 1.5
    span.attributes.add(key="none")
    span.attributes.add(key="text").value.string_value = "NaN"
    span.attributes.add(key="empty").value.array_value.SetInParent()
    span.attributes.add(key="no entries").value.kvlist_value.SetInParent()
    return message


def test_a_body_without_them_is_left_as_it_is() -> None:
    line = to_json_line(message_of())
    assert without_non_finite(line) == (line, 0)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_doubles_that_are_no_numbers_are_left_out_and_counted(number: float) -> None:
    message = message_of()
    span = message.resource_spans[0].scope_spans[0].spans[0]
    span.attributes.add(key="bad").value.double_value = number
    span.attributes[3].value.array_value.values.add().double_value = number
    span.attributes[4].value.kvlist_value.values.add(key="bad").value.double_value = number
    span.events.add(name="e").attributes.add(key="bad").value.double_value = number
    line, left_out = without_non_finite(to_json_line(message))
    assert left_out == 4
    expected = message_of()
    expected.resource_spans[0].scope_spans[0].spans[0].events.add(name="e")
    assert from_json_line(line) == expected
    assert line.endswith(b"\n")
