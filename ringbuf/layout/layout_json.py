"""The JSON in which a ring's header describes the ring's records.

    {"scope_name": "grafos.dataplane", "scope_version": "219", "schema_url": "",
     "span_names": ["grafos.dataplane.fbmu", …],
     "slot_bytes": 128,
     "attributes": [{"key": "grafos.lease.id", "type": "hex", "offset": 72, "bytes": 16},
                    {"key": "grafos.outcome", "type": "label", "offset": 88, "bytes": 1,
                     "labels": ["ok", "error"], "metric_label": true}, …]}

Attribute i has bit i of `present`; `offset` and `bytes` are its place in the record, so that no reader needs the rules
by which it was chosen. A `str`, `bytes`, `otlp` or `scope` of n bytes takes n + 2: a u16 length comes first. A `label`
is a u8 index into `labels`, or a u16 when there are more than 256; `error_labels` are those of them that make the
status of a span ERROR. That, the three scope strings, `metric_label` and `resource_schema_url` may be left out. Keys
that are not listed here are ignored: a later version may add some.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ringbuf._ringbuf import lib
from ringbuf.exceptions import LayoutError
from ringbuf.layout.attribute import Attribute, LayoutField, check_placement
from ringbuf.layout.attribute_types import LENGTH_BYTES, TYPES, Shape
from ringbuf.strict_json import json_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

T = TypeVar("T")

_TEXTS = ("scope_name", "scope_version", "schema_url", "resource_schema_url")

KINDS = {str: "a string", int: "an integer", bool: "true or false", list: "an array", dict: "an object"}


class Content(NamedTuple):
    """What a layout says, and in the order in which SpanLayout checks it."""

    span_names: Iterable[str]
    fields: tuple[LayoutField, ...]
    slot_bytes: int
    scope_name: str
    scope_version: str
    schema_url: str
    resource_schema_url: str


def dump(content: Content) -> bytes:
    """Return the JSON of a layout whose content was checked: compact, UTF-8, the same bytes for the same layout."""
    attributes = []
    for field in content.fields:
        attribute = field.attribute
        entry: dict[str, Any] = {
            "key": attribute.key,
            "type": attribute.type,
            "offset": field.offset,
            "bytes": field.nbytes,
        }
        if attribute.labels is not None:
            entry["labels"] = attribute.labels
        if attribute.metric_label:
            entry["metric_label"] = True
        if attribute.error_labels:
            entry["error_labels"] = attribute.error_labels
        attributes.append(entry)
    whole: dict[str, Any] = {
        "scope_name": content.scope_name,
        "scope_version": content.scope_version,
        "schema_url": content.schema_url,
        "span_names": content.span_names,
        "slot_bytes": content.slot_bytes,
        "attributes": attributes,
    }
    if content.resource_schema_url:
        whole["resource_schema_url"] = content.resource_schema_url
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()


def parse(data: bytes) -> Content:
    """Read the JSON of a layout, which any program may have written.

    Raises:
        LayoutError: With the reason.
    """
    whole = _load(data)
    entries = _member(whole, "attributes", list, "the layout")
    if len(entries) > lib.RB_MAX_ATTRIBUTES:
        raise LayoutError(f"{len(entries)} attributes; there may be {lib.RB_MAX_ATTRIBUTES}")
    fields = tuple(_field(entry, index) for index, entry in enumerate(entries))
    slot_bytes = _member(whole, "slot_bytes", int, "the layout")
    try:
        check_placement(fields, slot_bytes)
    except ValueError as error:
        raise LayoutError(str(error)) from None
    names = _member(whole, "span_names", list, "the layout")
    return Content(
        _strings(names, "span_names"),
        fields,
        slot_bytes,
        *(_member(whole, key, str, "the layout", "") for key in _TEXTS),
    )


def _load(data: bytes) -> dict[str, Any]:
    if len(data) > lib.RB_MAX_JSON_BYTES:
        raise LayoutError(f"{len(data)} bytes of JSON; there may be {lib.RB_MAX_JSON_BYTES}")
    try:
        return json_object(data)
    except ValueError as error:
        raise LayoutError(str(error)) from None


def _field(entry: object, index: int) -> LayoutField:
    where = f"attribute {index}"
    if not isinstance(entry, dict):
        raise LayoutError(f"{where} is no object")
    key = _member(entry, "key", str, where)
    where = f"attribute {key!r}"
    kind: Any = _member(entry, "type", str, where)
    if kind not in TYPES:
        raise LayoutError(f"{where}: no such type as {kind!r}")
    offset = _member(entry, "offset", int, where)
    nbytes = _member(entry, "bytes", int, where)
    metric_label = _member(entry, "metric_label", bool, where, False)
    labels = None
    if "labels" in entry:
        labels = tuple(_strings(_member(entry, "labels", list, where), f"{where}: labels"))
    error_labels = tuple(_strings(_member(entry, "error_labels", list, where, []), f"{where}: error_labels"))
    size = {Shape.EXACT: nbytes, Shape.INLINE: nbytes - LENGTH_BYTES}.get(TYPES[kind].shape)
    try:
        attribute = Attribute(key, kind, size, labels, metric_label, error_labels)
    except ValueError as error:
        raise LayoutError(str(error)) from None
    if nbytes != attribute.nbytes:
        raise LayoutError(f"{where}: {nbytes} bytes, where its type takes {attribute.nbytes}")
    return LayoutField(attribute, index, offset, nbytes, attribute.format)


def _member(members: Mapping[str, Any], key: str, kind: type[T], where: str, default: T | None = None) -> T:
    if key not in members:
        if default is None:
            raise LayoutError(f"{where}: {key!r} is missing")
        return default
    value = members[key]
    if type(value) is not kind:  # not isinstance: true is an int to that
        raise LayoutError(f"{where}: {key!r} is not {KINDS[kind]}")
    return value


def _strings(values: list[Any], what: str) -> list[str]:
    if not all(isinstance(value, str) for value in values):
        raise LayoutError(f"{what}: not all of them are strings")
    return values
