"""The spans of a line of OTLP JSON, with only what a report is about.

Source: OTLP specification, "JSON Protobuf Encoding". Not by `from_json_line`, which builds the whole message at ten
times the price, and refuses all spans of a line for one wrong field.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from drain.otlp.json_lines import json_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OPERATION_KEYS: Final = ("grafos.operation",)
OUTCOME_KEYS: Final = ("grafos.outcome", "error.type")

_LONGEST_TEXT: Final = 200
_LATEST: Final = (1 << 63) - 1
_TRACE_ID: Final = re.compile("(?!0{32})[0-9a-f]{32}", re.ASCII)
_STATUS: Final = {0: "unset", 1: "ok", 2: "error"}
_STATUS_BY_NAME: Final = {f"STATUS_CODE_{name.upper()}": code for code, name in _STATUS.items()}
_ERROR: Final = 2


class Span(NamedTuple):
    """What a report needs to know of a span.

    Attributes:
        trace_id: 32 lower-case hex digits; empty if it has none.
        span_id: hex digits.
        parent_span_id: empty for a root.
        name: of the span; the family.
        operation: the value of the attribute that tells operations of a family apart; empty if it has none.
        outcome: the value of the outcome attribute, else the status in words.
        service: `service.name` of the resource.
        start: Unix time in nanoseconds; 0 if it is not known.
        end: the same.
        is_error: its status is ERROR.
        message: of the status.
    """

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    operation: str
    outcome: str
    service: str
    start: int
    end: int
    is_error: bool
    message: str


@dataclass(frozen=True, slots=True)
class Keys:
    """Which attributes tell spans of one name apart; of each, the first that a span has.

    Attributes:
        operation: for the operation.
        outcome: for the outcome.
    """

    operation: Sequence[str] = OPERATION_KEYS
    outcome: Sequence[str] = OUTCOME_KEYS


def spans_of(line: bytes, keys: Keys) -> Iterator[Span]:
    r"""Yield the spans of a line; the line is judged as a whole before the first.

    Args:
        line: a `TracesData` as JSON.
        keys: which attributes matter.

    Raises:
        ValueError: it is no JSON object, or its lists are no lists.

    >>> line = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"read","startTimeUnixNano":"5"}]}]}]}'
    >>> [(span.name, span.start, span.service) for span in spans_of(line, Keys())]
    [('read', 5, '(no service)')]
    """
    try:
        document = json_of(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"no UTF-8 at byte {error.start}") from None
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - of what was read, not of an argument
    found = [
        (_service(resource_spans.get("resource")), _list(scope_spans, "spans"))
        for resource_spans in _list(document, "resourceSpans")
        for scope_spans in _list(resource_spans, "scopeSpans")
    ]
    interests = (*keys.operation, *keys.outcome)
    for service, spans in found:
        for span in spans:
            yield _span(span, service, keys, interests)


def _span(span: dict[str, Any], service: str, keys: Keys, interests: tuple[str, ...]) -> Span:
    values = {}
    attributes = span.get("attributes")
    for attribute in attributes if isinstance(attributes, list) else ():
        if isinstance(attribute, dict) and attribute.get("key") in interests:
            values[attribute["key"]] = _value_text(attribute.get("value"))
    status = span.get("status")
    code = status.get("code", 0) if isinstance(status, dict) else 0
    if not isinstance(code, int):
        code = _STATUS_BY_NAME.get(str(code), 0)  # OTLP wants numbers; some write protobuf's names
    message = _text(status.get("message")) if isinstance(status, dict) else ""
    trace_id = _text(span.get("traceId")).lower()
    return Span(
        trace_id if _TRACE_ID.fullmatch(trace_id) else "",
        _text(span.get("spanId")).lower(),
        _text(span.get("parentSpanId")).lower(),
        _text(span.get("name")) or "(no name)",
        next((values[key] for key in keys.operation if key in values), ""),
        next((values[key] for key in keys.outcome if key in values), _STATUS.get(code, "unset")),
        service,
        _time(span.get("startTimeUnixNano")),
        _time(span.get("endTimeUnixNano")),
        code == _ERROR,
        message,
    )


def _service(resource: object) -> str:
    attributes = resource.get("attributes") if isinstance(resource, dict) else None
    for attribute in attributes if isinstance(attributes, list) else ():
        if isinstance(attribute, dict) and attribute.get("key") == "service.name":
            return _value_text(attribute.get("value")) or "(no service)"
    return "(no service)"


def _list(of: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = of.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ValueError(f"{name} is no list of objects")
    return found


def _time(value: object) -> int:
    """Return a time; 0 for what is none, such as a number that no OTLP field holds."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(_LATEST)):
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LATEST else 0


def _value_text(value: object) -> str:
    """Return the text of an `AnyValue`."""
    if not isinstance(value, dict) or not value:
        return ""
    kind, content = next(iter(value.items()))
    if kind == "boolValue":
        return "true" if content else "false"
    if isinstance(content, str | int | float):
        return _text(str(content))
    return _text(f"({kind})")


def _text(value: object) -> str:
    """Return a text that is short enough to be kept in any number."""
    if not isinstance(value, str):
        return ""
    return value if len(value) <= _LONGEST_TEXT else value[: _LONGEST_TEXT - 1] + "…"
