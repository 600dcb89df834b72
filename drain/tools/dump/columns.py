"""Spans of any layouts as columns: one schema over all rings, and arrays of values for each piece of a ring."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from drain.tools.looking.span_fields import attributes_of, carries_otlp, durations_of, name_of
from drain.tools.looking.span_text import KINDS, STATUSES, json_value
from ringbuf.layout.attribute_types import Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from drain.tools.looking.observed_ring import ObservedRing
    from ringbuf.layout.attribute import LayoutField
    from ringbuf.layout.layout import SpanLayout

CARRIED: Final = "attributes"
"""The column of the attributes that are not in a layout, as JSON; there when a ring has such."""

_TEXT: Final = "str"
_CORE: Final = {
    "ring": "str",
    "service": "str",
    "name": "str",
    "start_unix_nano": "u64",
    "end_unix_nano": "u64",
    "duration_nano": "i64",
    "trace_id": "str",
    "span_id": "str",
    "parent_span_id": "str",
    "kind": "str",
    "status": "str",
    "flags": "u32",
}


@dataclass(slots=True)
class Schema:
    """The columns of a table of spans.

    Attributes:
        types: by name, in their order: `bool`, `i8` to `u64`, `f64`, `str` or `bytes`.
    """

    types: dict[str, str] = field(default_factory=lambda: dict(_CORE))

    @classmethod
    def of(cls, layouts: Iterable[SpanLayout]) -> Schema:
        """Return the schema that all layouts fit; a key that two of them have with two types is text."""
        schema = cls()
        for layout in layouts:
            carries = carries_otlp(layout)
            wanted = {CARRIED: _TEXT} if carries else {}
            wanted |= {attribute.key: attribute.row.column for attribute in layout.attributes if attribute.row.column}
            for key, kind in wanted.items():
                name = _column_name(key)
                schema.types[name] = kind if schema.types.get(name, kind) == kind else _TEXT
        return schema

    def columns(self, ring: ObservedRing, records: np.ndarray) -> dict[str, list[Any]]:
        """Return the values of valid records by column; None where a span has no such attribute."""
        layout = ring.layout
        parents = [_hex(value) for value in records["parent_span_id"]]
        found: dict[str, list[Any]] = {
            "ring": [ring.name] * len(records),
            "service": [ring.service] * len(records),
            "name": [name_of(layout, record) for record in records]
            if carries_otlp(layout)
            else [layout.span_names[index] for index in records["name"]],
            "start_unix_nano": records["start_unix_nano"].tolist(),
            "end_unix_nano": records["end_unix_nano"].tolist(),
            "duration_nano": durations_of(records).tolist(),
            "trace_id": [_hex(value) for value in records["trace_id"]],
            "span_id": [_hex(value) for value in records["span_id"]],
            "parent_span_id": [parent if parent.strip("0") else None for parent in parents],
            "kind": [KINDS[kind] for kind in records["kind"]],
            "status": [STATUSES[status] for status in records["status"]],
            "flags": records["flags"].tolist(),
        }
        for of_layout in layout.fields:
            key = _column_name(of_layout.attribute.key)
            if key in self.types:
                found[key] = _values(of_layout, records, as_text=self.types[key] == _TEXT)
        if carries_otlp(layout):
            own = {attribute.key for attribute in layout.attributes}
            found[CARRIED] = [
                json.dumps({key: json_value(value) for key, value in (attributes or {}).items() if key not in own})
                for attributes in (attributes_of(layout, record) for record in records)
            ]
        return {name: found.get(name) or [None] * len(records) for name in self.types}


def _column_name(key: str) -> str:
    """An attribute that is called as a column of the core gets an underscore."""
    return f"{key}_" if key in _CORE else key


def _is_set(of_layout: LayoutField, records: np.ndarray) -> np.ndarray:
    return np.asarray(records["present"] >> np.uint32(of_layout.index) & np.uint32(1), bool)


def _values(of_layout: LayoutField, records: np.ndarray, *, as_text: bool) -> list[Any]:
    attribute, raw = of_layout.attribute, records[of_layout.attribute.key]
    read: Callable[[Any], Any]
    row = attribute.row
    match row.shape:
        case Shape.LABEL:
            labels = attribute.labels or ()
            read = labels.__getitem__
        case Shape.EXACT:
            read = _hex
        case Shape.INLINE:
            is_text = row.python is str or as_text

            def read(value: np.void) -> str | bytes:
                data: bytes = value["data"].tobytes()[: int(value["length"])]
                return data.decode(errors="replace") if is_text else data

        case Shape.NUMBER if row.python is bool:
            raw, read = raw.view(np.uint8), (lambda value: "true" if value else "false") if as_text else bool
        case Shape.NUMBER:
            read = (lambda value: str(value.item())) if as_text else (lambda value: value.item())
    return [read(value) if is_set else None for value, is_set in zip(raw, _is_set(of_layout, records), strict=True)]


def _hex(value: np.ndarray) -> str:
    return value.tobytes().hex()
