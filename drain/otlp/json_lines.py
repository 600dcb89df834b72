"""OTLP as JSON lines: one `TracesData` a line, as the OTLP file exporter writes them.

Source: OTLP specification, "JSON Protobuf Encoding", and "OpenTelemetry Protocol File Exporter". It is protobuf's JSON
mapping with two exceptions, for which `MessageToJson` cannot be used: ids are hex, and enums are always integers. A
third is for receivers that refuse a whole request where a list is missing: those of a span are written also when empty.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import MutableSequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import ParseDict, ParseError
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

if TYPE_CHECKING:
    from google.protobuf.message import Message

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_HEX_FIELDS: Final = frozenset({"traceId", "spanId", "parentSpanId"})
_WRITTEN_LISTS: Final = {
    "Span": ("attributes", "events"),
    "Event": ("attributes",),
    "Link": ("attributes",),
    "ArrayValue": ("values",),
    "KeyValueList": ("values",),
}
_INT64_TYPES: Final = frozenset(
    {
        FieldDescriptor.TYPE_INT64,
        FieldDescriptor.TYPE_UINT64,
        FieldDescriptor.TYPE_FIXED64,
        FieldDescriptor.TYPE_SFIXED64,
        FieldDescriptor.TYPE_SINT64,
    }
)


def to_json_line(traces: TracesData) -> bytes:
    r"""Return a message as one line of UTF-8 JSON that ends with a newline.

    Fields that have their default value are left out, as protobuf's JSON mapping does, but for the lists of a span.

    >>> to_json_line(TracesData())
    b'{}\n'
    """
    return to_json(traces) + b"\n"


def to_json(message: Message) -> bytes:
    """Return any message of OTLP as UTF-8 JSON without spaces or newlines."""
    return json.dumps(_json_of_message(message), ensure_ascii=False, separators=(",", ":")).encode()


def json_of(line: bytes | str) -> object:
    """Return the JSON value that a line holds.

    Raises:
        ValueError: it holds none; the message says where in the line, which Python's counts as a text of lines.
        RecursionError: it is nested too deeply.

    >>> json_of('{"a":')
    Traceback (most recent call last):
    ValueError: Expecting value at character 6
    """
    try:
        return cast("object", json.loads(line))
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos + 1}") from None


def from_json_line(line: bytes | str) -> TracesData:
    """Return the message that a line holds; fields that OTLP does not have are ignored, as it asks of receivers.

    Raises:
        ValueError: the line is no JSON object, or no `TracesData`.

    >>> from_json_line('{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":3}]}]}]}').resource_spans[0]
    scope_spans {
      spans {
        kind: SPAN_KIND_CLIENT
      }
    }
    <BLANKLINE>
    """
    try:
        read = _ids_to_base64(cast("Json", json_of(line)))
        if not isinstance(read, dict):
            raise ParseError("the line is not a JSON object")  # noqa: TRY301 - what any other wrong form raises
        return ParseDict(read, TracesData(), ignore_unknown_fields=True)
    except (ParseError, RecursionError) as error:
        raise ValueError(f"no TracesData in OTLP JSON: {error}") from error


def _json_of_message(message: Message) -> dict[str, Json]:
    found: dict[str, Json] = {}
    kind = message.DESCRIPTOR
    fields: dict[int, tuple[Any, Any]] = {field.number: (field, value) for field, value in message.ListFields()}
    for name in _WRITTEN_LISTS.get(kind.name, ()):
        field = kind.fields_by_name[name]
        fields.setdefault(field.number, (field, []))
    for _, (field, value) in sorted(fields.items()):
        is_list = isinstance(value, MutableSequence)  # field.is_repeated is newer than protobuf 5
        found[field.json_name] = (
            [_json_of_value(field, item) for item in value] if is_list else _json_of_value(field, value)
        )
    return found


def _json_of_value(field: FieldDescriptor, value: object) -> Json:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return _json_of_message(cast("Message", value))
    if isinstance(value, bytes):
        return value.hex() if field.json_name in _HEX_FIELDS else base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if field.type in _INT64_TYPES:
        return str(value)
    return cast("Json", value)


def _ids_to_base64(value: Json, name: str = "") -> Json:
    """Replace hex ids by what protobuf's own reader takes for bytes."""
    if isinstance(value, dict):
        return {key: _ids_to_base64(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_ids_to_base64(item) for item in value]
    if name in _HEX_FIELDS and isinstance(value, str):
        return base64.b64encode(bytes.fromhex(value)).decode()
    return value
