"""The name and the attributes of a record, wherever they lie: in the layout's fields, or in OTLP that it carries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    from ringbuf.layout.layout import SpanLayout

INVALID: Final = "(invalid)"

_HALF: Final = 1 << 63


def durations_of(records: np.ndarray) -> np.ndarray:
    """Return end minus start in nanoseconds, an int64 for each record; an end before the start is negative."""
    found: np.ndarray = (records["end_unix_nano"] - records["start_unix_nano"]).view(np.int64)
    return found


def duration_of(record: np.void) -> int:
    """Return the same of one record."""
    difference = int(record["end_unix_nano"]) - int(record["start_unix_nano"])
    return (difference + _HALF) % (2 * _HALF) - _HALF


def carries_otlp(layout: SpanLayout) -> bool:
    """Return whether names and attributes may lie outside the layout's own fields."""
    return any(attribute.type == "otlp" for attribute in layout.attributes)


def name_of(layout: SpanLayout, record: np.void) -> str:
    """Return the span's name; what is out of bounds is `(invalid)`."""
    carried = _carried(layout, record)
    if carried is not None and carried.name:
        return str(carried.name)
    index = int(record["name"])
    return layout.span_names[index] if index < len(layout.span_names) else INVALID


def attributes_of(layout: SpanLayout, record: np.void) -> dict[str, Any] | None:
    """Return the attributes that the record has set, by key; None when one of them is out of bounds."""
    try:
        values: dict[str, Any] = dict(layout.values(record))
    except ValueError:
        return None
    for attribute in layout.attributes:
        if attribute.row.is_carried:
            values.pop(attribute.key, None)
    carried = _carried(layout, record)
    if carried is not None:
        values.update({item.key: _plain(item.value) for item in carried.attributes})
    return values


def key_of(keys: Iterable[str], word: str) -> str | None:
    """Return the key that a word means: it is the key, or what comes after a dot in exactly one of the keys.

    >>> key_of(["grafos.bytes", "grafos.outcome"], "bytes"), key_of(["a.bytes", "b.bytes"], "bytes")
    ('grafos.bytes', None)
    """
    found = list(keys)
    if word in found:
        return word
    endings = [key for key in found if key.endswith(f".{word}")]
    return endings[0] if len(endings) == 1 else None


def _carried(layout: SpanLayout, record: np.void) -> Span | None:
    for index, attribute in enumerate(layout.attributes):
        if attribute.type == "otlp" and int(record["present"]) >> index & 1:
            from google.protobuf.message import DecodeError  # noqa: PLC0415 - most rings carry none: 50 ms less
            from opentelemetry.proto.trace.v1.trace_pb2 import Span  # noqa: PLC0415 - the same

            value = record[attribute.key]
            try:
                return Span.FromString(value["data"].tobytes()[: int(value["length"])])
            except DecodeError:
                return None
    return None


def _plain(value: Any) -> Any:
    """Return an `AnyValue` as Python has it."""
    kind = value.WhichOneof("value")
    match kind:
        case None:
            return None
        case "array_value":
            return [_plain(item) for item in value.array_value.values]
        case "kvlist_value":
            return {item.key: _plain(item.value) for item in value.kvlist_value.values}
        case _:
            return getattr(value, kind)
