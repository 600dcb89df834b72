"""A finished span of the OpenTelemetry SDK as the record of a ring: ids and times in the core, the rest as OTLP.

What does not fit the slot is cut as OTLP has it: attributes, events and links are left out whole and counted in
`dropped_attributes_count` and its like. A text that OTLP has no count for (a name, a status message, a trace state) may
take a quarter of the room, and is cut at a character (a trace state: at an entry).

Source: opentelemetry-proto, trace.proto and common.proto; OpenTelemetry specification, "Mapping of arbitrary data types
to OTLP AnyValue".
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ringbuf._ringbuf import lib
from ringbuf.layout.attribute import Attribute
from ringbuf.layout.layout import SpanLayout
from ringbuf.layout.value import cut_utf8

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import Link, SpanContext, TraceState

SPAN_NAME: Final = "otel.span"
"""The layout's only span name; each record has its own. Metrics of the drain, which need a bound, have this one."""

SCOPE_BYTES: Final = 252
"""Room for a record's instrumentation scope and its schema URL, as OTLP."""

LEAST_SLOT_BYTES: Final = 512

_MAX_DEPTH: Final = 16  # of values in values, as the drain takes them: RB_TYPE_OTLP
_MAX_INT64: Final = (1 << 63) - 1
_MIN_INT64: Final = -(1 << 63)
_MAX_UINT32: Final = (1 << 32) - 1
_TWO_TO_64: Final = 1 << 64
_COUNT_BYTES: Final = 6  # the most that a dropped count takes, with its tag
_CORE: Final = struct.Struct("<QQ16s8s8sIHBBIIH")  # rb_record, and the length of the scope
_LENGTH: Final = struct.Struct("<H")
_DOUBLE: Final = struct.Struct("<cd")
_TIME: Final = struct.Struct("<cQ")
_PRESENT: Final = 0b11
_HAS_IS_REMOTE: Final[int] = lib.RB_SPAN_HAS_IS_REMOTE
_IS_REMOTE: Final[int] = lib.RB_SPAN_IS_REMOTE
_MAX_CACHED: Final = 1024
# Field number << 3 | wire type.
_TRACE_STATE, _NAME, _ATTRIBUTE, _EVENT, _LINK, _STATUS = (b"\x1a", b"\x2a", b"\x4a", b"\x5a", b"\x6a", b"\x7a")
_DROPPED_ATTRIBUTES, _DROPPED_EVENTS, _DROPPED_LINKS = (b"\x50", b"\x60", b"\x70")

_small: Final = tuple(bytes((number,)) for number in range(128))
_keys: Final[dict[str, bytes]] = {}


class Encoded(NamedTuple):
    """A span's variable part.

    Attributes:
        otlp: the value of the layout's `otlp`.
        cuts: how many texts were cut.
    """

    otlp: bytes
    cuts: int


def otel_layout(slot_bytes: int, *, resource_schema_url: str = "") -> SpanLayout:
    """Return the layout of a ring for SDK spans.

    Args:
        slot_bytes: of a record, a multiple of 64 from 512 to 16384.
        resource_schema_url: where the meaning of the resource's attributes is published.

    Raises:
        ValueError: `slot_bytes` is no such number.
    """
    if not LEAST_SLOT_BYTES <= slot_bytes <= lib.RB_MAX_SLOT_BYTES or slot_bytes % 64:
        raise ValueError(
            f"slot_bytes: {slot_bytes} is no multiple of 64 from {LEAST_SLOT_BYTES} to {lib.RB_MAX_SLOT_BYTES}"
        )
    taken = lib.RB_CORE_BYTES + 2 + SCOPE_BYTES + 2
    return SpanLayout(
        span_names=[SPAN_NAME],
        attributes=[Attribute("scope", "scope", SCOPE_BYTES), Attribute("otlp", "otlp", slot_bytes - taken)],
        resource_schema_url=resource_schema_url,
    )


def write_record(record: bytearray | memoryview, span: ReadableSpan, scope: bytes, otlp: bytes) -> None:
    """Write a span into a record of `otel_layout`.

    Args:
        record: slot_bytes bytes.
        span: with a context.
        scope: what `encode_scope` returned for its scope.
        otlp: what `encode_span` returned for it.
    """
    context, parent = span.get_span_context(), span.parent
    assert context is not None  # noqa: S101 - for the type checker
    _CORE.pack_into(
        record,
        0,
        span.start_time or 0,
        span.end_time or 0,
        context.trace_id.to_bytes(16, "big"),
        context.span_id.to_bytes(8, "big"),
        parent.span_id.to_bytes(8, "big") if parent is not None else b"",
        _PRESENT,
        0,
        span.kind.value + 1,
        span.status.status_code.value,
        flags_of(context, parent),
        0,
        len(scope),
    )
    at = _CORE.size
    record[at : at + len(scope)] = scope
    at += SCOPE_BYTES
    _LENGTH.pack_into(record, at, len(otlp))
    at += _LENGTH.size
    record[at : at + len(otlp)] = otlp


def flags_of(context: SpanContext, remote: SpanContext | None) -> int:
    """Return OTLP's flags: the W3C flags of `context`, and whether `remote` (a parent, or a link's own) was remote."""
    flags = context.trace_flags & 0xFF | _HAS_IS_REMOTE
    return flags | _IS_REMOTE if remote is not None and remote.is_remote else flags


def encode_span(span: ReadableSpan, room: int) -> Encoded:
    """Return what a record's core has no place for.

    Args:
        span: any.
        room: bytes that there are.
    """
    context, status = span.get_span_context(), span.status
    head = _length_delimited(_NAME, _utf8(span.name))  # an empty one too: else the layout's would take its place
    if context is not None and context.trace_state:
        head = _length_delimited(_TRACE_STATE, _trace_state(context.trace_state)) + head
    tail = b""
    if status.description:
        tail = _length_delimited(_STATUS, _length_delimited(b"\x12", _utf8(status.description)))
    attributes, dropped = _attributes(_ATTRIBUTE, span.attributes, span.dropped_attributes)
    events = [_event(event) for event in span.events]
    links = [_link(link) for link in span.links]
    otlp = b"".join(
        (
            head,
            *attributes,
            _count(_DROPPED_ATTRIBUTES, dropped),
            *events,
            _count(_DROPPED_EVENTS, span.dropped_events),
            *links,
            _count(_DROPPED_LINKS, span.dropped_links),
            tail,
        )
    )
    if len(otlp) <= room:
        return Encoded(otlp, 0)
    return _cut_span(span, attributes, dropped, events, links, room)


def _cut_span(
    span: ReadableSpan, attributes: list[bytes], dropped: int, events: list[bytes], links: list[bytes], room: int
) -> Encoded:
    head, tail, cuts = _cut_texts(span, room // 4)
    left = room - len(head) - len(tail) - 3 * _COUNT_BYTES
    kept_attributes, left = _kept(attributes, left)
    kept_events: list[bytes] = []
    for event, encoded in zip(span.events, events, strict=True):
        fitting = encoded if len(encoded) <= left else _event_within(event, left)
        if fitting:
            kept_events.append(fitting)
            left -= len(fitting)
    kept_links, left = _kept(links, left)
    return Encoded(
        b"".join(
            (
                head,
                *kept_attributes,
                _count(_DROPPED_ATTRIBUTES, dropped + len(attributes) - len(kept_attributes)),
                *kept_events,
                _count(_DROPPED_EVENTS, span.dropped_events + len(events) - len(kept_events)),
                *kept_links,
                _count(_DROPPED_LINKS, span.dropped_links + len(links) - len(kept_links)),
                tail,
            )
        ),
        cuts,
    )


def _cut_texts(span: ReadableSpan, most: int) -> tuple[bytes, bytes, int]:
    """Return the fields before and after the lists, each text within `most` bytes, and how many were cut."""
    context, cuts = span.get_span_context(), 0
    head = tail = b""
    if context is not None and context.trace_state:
        whole = _trace_state(context.trace_state)
        entries = whole if len(whole) <= most else whole[: most + 1].rpartition(b",")[0]
        cuts += len(entries) < len(whole)
        head = _length_delimited(_TRACE_STATE, entries)
    whole = _utf8(span.name)
    name = cut_utf8(whole, most)
    cuts += len(name) < len(whole)
    head += _length_delimited(_NAME, name)
    if span.status.description:
        whole = _utf8(span.status.description)
        message = cut_utf8(whole, most)
        cuts += len(message) < len(whole)
        tail = _length_delimited(_STATUS, _length_delimited(b"\x12", message))
    return head, tail, cuts


def _kept(fields: list[bytes], left: int) -> tuple[list[bytes], int]:
    """Return those that fit, one after the other, and what room is left."""
    kept = []
    for field in fields:
        if len(field) <= left:
            kept.append(field)
            left -= len(field)
    return kept, left


def encode_scope(scope: InstrumentationScope | None) -> Encoded:
    """Return a scope and its schema URL as a `scope` value of at most SCOPE_BYTES."""
    if scope is None:
        return Encoded(b"\x0a\x00", 0)
    name, version, schema_url = (_utf8(text or "") for text in (scope.name, scope.version, scope.schema_url))
    attributes, dropped = _attributes(b"\x1a", scope.attributes, 0)
    encoded = _scope(name, version, attributes, dropped, schema_url)
    if len(encoded) <= SCOPE_BYTES:
        return Encoded(encoded, 0)
    most = SCOPE_BYTES // 4
    cut = tuple(cut_utf8(text, most) for text in (name, version, schema_url))
    cuts = sum(map(len, cut)) < len(name) + len(version) + len(schema_url)
    bare = len(_scope(cut[0], cut[1], [], 0, cut[2])) + _COUNT_BYTES + 1  # one more for the length of the scope
    if len(_scope(name, version, [], 0, schema_url)) + _COUNT_BYTES + 1 <= SCOPE_BYTES:  # only the attributes are many
        cut, cuts = (name, version, schema_url), False
        bare = len(_scope(name, version, [], 0, schema_url)) + _COUNT_BYTES + 1
    kept, _ = _kept(attributes, SCOPE_BYTES - bare)
    return Encoded(_scope(cut[0], cut[1], kept, dropped + len(attributes) - len(kept), cut[2]), int(cuts))


def _scope(name: bytes, version: bytes, attributes: Iterable[bytes], dropped: int, schema_url: bytes) -> bytes:
    inner = b"".join((_text(b"\x0a", name), _text(b"\x12", version), *attributes, _count(b"\x20", dropped)))
    return _length_delimited(b"\x0a", inner) + _text(b"\x1a", schema_url)


# ---- the parts ----


def _event(event: Event) -> bytes:
    attributes, dropped = _attributes(b"\x1a", event.attributes, event.dropped_attributes)
    return _length_delimited(_EVENT, _event_head(event) + b"".join(attributes) + _count(b"\x20", dropped))


def _event_head(event: Event) -> bytes:
    time = _TIME.pack(b"\x09", event.timestamp) if event.timestamp else b""
    return time + _text(b"\x12", _utf8(event.name))


def _event_within(event: Event, room: int) -> bytes:
    """Return an event with as many attributes as fit; nothing when it does not fit without any."""
    head = _event_head(event)
    attributes, dropped = _attributes(b"\x1a", event.attributes, event.dropped_attributes)
    kept, left = _kept(attributes, room - len(head) - _COUNT_BYTES - 4)  # four: the event's own tag and length
    if left < 0:
        return b""
    return _length_delimited(_EVENT, head + b"".join(kept) + _count(b"\x20", dropped + len(attributes) - len(kept)))


def _link(link: Link) -> bytes:
    context = link.context
    attributes, dropped = _attributes(b"\x22", link.attributes, link.dropped_attributes)
    return _length_delimited(
        _LINK,
        b"".join(
            (
                b"\x0a\x10" + context.trace_id.to_bytes(16, "big"),
                b"\x12\x08" + context.span_id.to_bytes(8, "big"),
                _text(b"\x1a", _trace_state(context.trace_state) if context.trace_state else b""),
                *attributes,
                _count(b"\x28", dropped),
                b"\x35" + flags_of(context, context).to_bytes(4, "little"),
            )
        ),
    )


def _trace_state(trace_state: TraceState) -> bytes:
    return _utf8(",".join(f"{key}={value}" for key, value in trace_state.items()))


def _attributes(tag: bytes, attributes: Mapping[str, Any] | None, dropped: int) -> tuple[list[bytes], int]:
    """Return the fields, and how many there are too few: the SDK's count and those that no AnyValue can hold."""
    fields = []
    for key, value in attributes.items() if attributes else ():
        try:
            any_value = _any_value(value, 1)
        except TypeError:
            dropped += 1
        else:
            fields.append(_length_delimited(tag, _key(key) + _length_delimited(b"\x12", any_value)))
    return fields, dropped


def _key(key: str) -> bytes:
    found = _keys.get(key)
    if found is None:
        found = _text(b"\x0a", _utf8(key))
        if len(_keys) < _MAX_CACHED:
            _keys[key] = found
    return found


def _any_value(value: Any, depth: int) -> bytes:  # noqa: PLR0911 - one for each kind of AnyValue
    """Return an AnyValue without tag and length.

    Raises:
        TypeError: OTLP has nothing for it, or it is nested too deeply.
    """
    if isinstance(value, str):
        return _length_delimited(b"\x0a", _utf8(value))
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        if _MIN_INT64 <= value <= _MAX_INT64:
            return b"\x18" + _varint(value % _TWO_TO_64)
        return _length_delimited(b"\x0a", str(value).encode())  # as the drain has a u64 that int64 cannot hold
    if isinstance(value, float):
        return _DOUBLE.pack(b"\x21", value)
    if value is None:
        return b""
    if isinstance(value, bytes):
        return _length_delimited(b"\x3a", value)
    if depth < _MAX_DEPTH and isinstance(value, Sequence):
        items = [_length_delimited(b"\x0a", _any_value(item, depth + 1)) for item in value]
        return _length_delimited(b"\x2a", b"".join(items))
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        entries = [
            _length_delimited(
                b"\x0a", _text(b"\x0a", _utf8(str(key))) + _length_delimited(b"\x12", _any_value(item, depth + 1))
            )
            for key, item in value.items()
        ]
        return _length_delimited(b"\x32", b"".join(entries))
    raise TypeError(type(value).__name__)


# ---- protobuf ----


def _utf8(text: str) -> bytes:
    return text.encode(errors="replace")  # a lone surrogate becomes a question mark


def _text(tag: bytes, data: bytes) -> bytes:
    return _length_delimited(tag, data) if data else b""


def _count(tag: bytes, count: int) -> bytes:
    return tag + _varint(min(count, _MAX_UINT32)) if count else b""


def _length_delimited(tag: bytes, data: bytes) -> bytes:
    length = len(data)
    return tag + (_small[length] if length < len(_small) else _varint(length)) + data


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value >= len(_small):
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)
