"""Layouts that several tests look at: one with an attribute of each type, and a small one."""

from __future__ import annotations

from typing import Any

from ringbuf.layout.layout import Attribute, SpanLayout

# One of each type, in an order in which every alignment would need padding.
EVERY_TYPE = SpanLayout(
    span_names=["read", "schreiben ✎"],
    attributes=[
        Attribute("flag", "bool", metric_label=True),
        Attribute("a.i64", "i64"),
        Attribute("a.i8", "i8"),
        Attribute("a.u64", "u64"),
        Attribute("a.u8", "u8"),
        Attribute("a.i32", "i32"),
        Attribute("a.i16", "i16"),
        Attribute("a.u32", "u32"),
        Attribute("a.u16", "u16"),
        Attribute("a.f64", "f64"),
        Attribute("label", "label", labels=("ok", "fehlgeschlagen")),
        Attribute("wide label", "label", labels=tuple(f"l{index}" for index in range(257))),
        Attribute("id", "hex", 3),
        Attribute("text", "str", 5),
        Attribute("raw", "bytes", 4),
    ],
    scope_name="scope",
    scope_version="1.2",
    schema_url="https://example.org/s",
)
EVERY_VALUE: dict[str, Any] = {
    "flag": True,
    "a.i64": -2,
    "a.i8": -3,
    "a.u64": 2**64 - 4,
    "a.u8": 200,
    "a.i32": -5,
    "a.i16": -6,
    "a.u32": 2**32 - 7,
    "a.u16": 60000,
    "a.f64": 1.5,
    "label": "fehlgeschlagen",
    "wide label": "l256",
    "id": b"\x0a\x0b\x0c",
    "text": "Öl",
    "raw": b"\xff\x00",
}
SMALL = SpanLayout(
    span_names=["read"], attributes=[Attribute("size", "u32"), Attribute("outcome", "label", labels=("ok", "error"))]
)


def layout_of(*attributes: Attribute, **more: Any) -> SpanLayout:
    return SpanLayout(**{"span_names": ["name"], "attributes": attributes, **more})


def labels_of(count: int) -> tuple[str, ...]:
    return tuple(f"{index:x}" for index in range(count))
