"""A finished span of the OpenTelemetry SDK as the record of a ring: ids and times in the core, the rest as OTLP.

What does not fit the slot is cut: first the longest texts, to the length at which all fits (of a stack trace the end
stays: it names the error). Where that would leave less than 64 bytes of a text, attributes, events and links are left
out whole from the last on, and counted in `dropped_attributes_count` and its like. A name, a status message or a trace
state may take a quarter of the room.

Source: opentelemetry-proto, trace.proto.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ringbuf._ringbuf import lib
from ringbuf.layout.attribute import Attribute
from ringbuf.layout.layout import SpanLayout
from ringbuf.layout.value import cut_utf8
from ringbuf.protobuf import any_value, count_field, key_value, length_delimited, string_value, text_field, utf8

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import Link, SpanContext, TraceState

SPAN_NAME: Final = "otel.span"
"""The layout's only span name; each record has its own. Metrics of the drain, which need a bound, have this one."""

SCOPE_BYTES: Final = 252
"""Room for a record's instrumentation scope and its schema URL, as OTLP."""

LEAST_SLOT_BYTES: Final = 512

_MAX_UINT64: Final = (1 << 64) - 1
_COUNT_BYTES: Final = 6  # the most that a dropped count takes, with its tag
_CORE: Final = struct.Struct("<QQ16s8s8sIHBBIIH")  # rb_record, and the length of the scope
_LENGTH: Final = struct.Struct("<H")
_TIME: Final = struct.Struct("<cQ")
_PRESENT: Final = 0b11
_HAS_IS_REMOTE: Final[int] = lib.RB_SPAN_HAS_IS_REMOTE
_IS_REMOTE: Final[int] = lib.RB_SPAN_IS_REMOTE
_LEAST_TEXT_BYTES: Final = 64  # what is shorter than this is not worth cutting
_CONTINUATION: Final = bytes(range(0x80, 0xC0))  # bytes that go on a character of UTF-8
_ELLIPSIS: Final = "\u2026".encode()
# Their end tells more than their beginning.
_KEEP_END: Final = frozenset({"exception.stacktrace", "code.stacktrace"})
# Field number << 3 | wire type.
_TRACE_STATE, _NAME, _ATTRIBUTE, _EVENT, _LINK, _STATUS = (b"\x1a", b"\x2a", b"\x4a", b"\x5a", b"\x6a", b"\x7a")
_DROPPED_ATTRIBUTES, _DROPPED_EVENTS, _DROPPED_LINKS = (b"\x50", b"\x60", b"\x70")


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
        _time(span.start_time),
        _time(span.end_time),
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


def _time(unix_nano: int | None) -> int:
    """Return a time that the record can hold; 0, which is none, for what is no time."""
    return unix_nano if isinstance(unix_nano, int) and 0 <= unix_nano <= _MAX_UINT64 else 0


def encode_span(span: ReadableSpan, room: int) -> Encoded:
    """Return what a record's core has no place for.

    Args:
        span: any.
        room: bytes that there are.
    """
    otlp = _Parts(span, None, None).joined()
    if len(otlp) <= room:
        return Encoded(otlp, 0)
    parts = _Parts(span, room // 4, None)
    excess = len(parts.joined()) - room
    if excess > 0:
        parts = _Parts(span, room // 4, max(_level(_lengths(span), excess), _LEAST_TEXT_BYTES))
    otlp = parts.joined()
    return Encoded(otlp if len(otlp) <= room else parts.joined_within(room), parts.cuts)


def _lengths(span: ReadableSpan) -> list[int]:
    """Return the bytes of each text that may be cut, the longest first."""
    texts = [*_texts(span.attributes), *(text for event in span.events for text in _texts(event.attributes))]
    return sorted((len(utf8(text)) for text in texts), reverse=True)


def _texts(attributes: Mapping[str, Any] | None) -> list[str]:
    return [value for value in attributes.values() if isinstance(value, str)] if attributes else []


def _level(lengths: list[int], excess: int) -> int:
    """Return the length to which the longest texts are cut, so that `excess` bytes go; 0 when all together have less.

    Args:
        lengths: in bytes, the longest first.
        excess: bytes, at least one.

    >>> _level([100, 60, 10], 50)
    55
    """
    for count, (length, shorter) in enumerate(pairwise([*lengths, 0]), 1):
        if count * (length - shorter) >= excess:
            return length - -(-excess // count)
        excess -= count * (length - shorter)
    return 0


class _Event(NamedTuple):
    """An event's time and name, its attributes, and how many of these are too few."""

    head: bytes
    fields: list[bytes]
    dropped: int

    def whole(self) -> bytes:
        return length_delimited(_EVENT, self.head + b"".join(self.fields) + count_field(b"\x20", self.dropped))

    def within(self, room: int) -> bytes:
        """Return it with as many attributes as fit; nothing when it does not fit without any."""
        whole = self.whole()
        if len(whole) <= room:
            return whole
        kept, left = _kept(self.fields, room - len(self.head) - _COUNT_BYTES - 4)  # four: its own tag and length
        if left < 0:
            return b""
        return _Event(self.head, kept, self.dropped + len(self.fields) - len(kept)).whole()


class _Parts:
    """The fields of a span, in their order.

    Args:
        span: any.
        most: bytes of the name, of the status message and of the trace state; None: any.
        level: bytes of a text among the attributes of the span and of its events; None: any.

    Attributes:
        cuts: how many texts were cut.
    """

    def __init__(self, span: ReadableSpan, most: int | None, level: int | None) -> None:
        self.cuts = 0
        self._span = span
        self._level = level
        context, status = span.get_span_context(), span.status
        # An empty name, too: else the layout's would take its place.
        self._head = length_delimited(_NAME, self._cut(cut_utf8, utf8(span.name), most))
        if context is not None and context.trace_state:
            trace_state = self._cut(_cut_entries, _trace_state(context.trace_state), most)
            self._head = length_delimited(_TRACE_STATE, trace_state) + self._head
        self._tail = b""
        if status.description:
            message = self._cut(cut_utf8, utf8(status.description), most)
            self._tail = length_delimited(_STATUS, length_delimited(b"\x12", message))
        self._attributes, self._dropped = self._fields(_ATTRIBUTE, span.attributes, span.dropped_attributes)
        self._events = [self._event(event) for event in span.events]
        self._links = [self._link(link) for link in span.links]

    def joined(self) -> bytes:
        """Return all of them."""
        return self._join(self._attributes, [event.whole() for event in self._events], self._links)

    def joined_within(self, room: int) -> bytes:
        """Return those that fit, the first of each kind, with the others counted."""
        left = room - len(self._head) - len(self._tail) - 3 * _COUNT_BYTES
        attributes, left = _kept(self._attributes, left)
        events: list[bytes] = []
        for event in self._events:
            fitting = event.within(left)
            if fitting:
                events.append(fitting)
                left -= len(fitting)
        links, left = _kept(self._links, left)
        return self._join(attributes, events, links)

    def _join(self, attributes: list[bytes], events: list[bytes], links: list[bytes]) -> bytes:
        span = self._span
        return b"".join(
            (
                self._head,
                *attributes,
                count_field(_DROPPED_ATTRIBUTES, self._dropped + len(self._attributes) - len(attributes)),
                *events,
                count_field(_DROPPED_EVENTS, span.dropped_events + len(self._events) - len(events)),
                *links,
                count_field(_DROPPED_LINKS, span.dropped_links + len(self._links) - len(links)),
                self._tail,
            )
        )

    def _cut(self, cut: Callable[[bytes, int], bytes], text: bytes, most: int | None) -> bytes:
        if most is None or len(text) <= most:
            return text
        self.cuts += 1
        return cut(text, most)

    def _fields(self, tag: bytes, attributes: Mapping[str, Any] | None, dropped: int) -> tuple[list[bytes], int]:
        """Return the fields, and how many are too few: the SDK's count and those that no AnyValue can hold."""
        fields, level = [], self._level
        for key, value in attributes.items() if attributes else ():
            try:
                if level is not None and isinstance(value, str):
                    cut = _cut_start if key in _KEEP_END else _cut_end
                    encoded = string_value(self._cut(cut, utf8(value), level))
                else:
                    encoded = any_value(value)
                fields.append(key_value(tag, key, encoded))
            except (TypeError, ValueError):  # of the value alone: the others go on
                dropped += 1
        return fields, dropped

    def _event(self, event: Event) -> _Event:
        unix_nano = _time(event.timestamp)
        head = (_TIME.pack(b"\x09", unix_nano) if unix_nano else b"") + text_field(b"\x12", utf8(event.name))
        return _Event(head, *self._fields(b"\x1a", event.attributes, event.dropped_attributes))

    def _link(self, link: Link) -> bytes:
        context = link.context
        fields, dropped = self._fields(b"\x22", link.attributes, link.dropped_attributes)
        return length_delimited(
            _LINK,
            b"".join(
                (
                    b"\x0a\x10" + context.trace_id.to_bytes(16, "big"),
                    b"\x12\x08" + context.span_id.to_bytes(8, "big"),
                    text_field(b"\x1a", _trace_state(context.trace_state) if context.trace_state else b""),
                    *fields,
                    count_field(b"\x28", dropped),
                    b"\x35" + flags_of(context, context).to_bytes(4, "little"),
                )
            ),
        )


def _kept(fields: list[bytes], left: int) -> tuple[list[bytes], int]:
    """Return those that fit, one after the other, and what room is left."""
    kept = []
    for field in fields:
        if len(field) <= left:
            kept.append(field)
            left -= len(field)
    return kept, left


def _cut_end(text: bytes, size: int) -> bytes:
    return cut_utf8(text, size - len(_ELLIPSIS)) + _ELLIPSIS


def _cut_start(text: bytes, size: int) -> bytes:
    return _ELLIPSIS + text[len(text) - size + len(_ELLIPSIS) :].lstrip(_CONTINUATION)


def _cut_entries(trace_state: bytes, size: int) -> bytes:
    return trace_state[: size + 1].rpartition(b",")[0]


def _trace_state(trace_state: TraceState) -> bytes:
    return utf8(",".join(f"{key}={value}" for key, value in trace_state.items()))


def encode_scope(scope: InstrumentationScope | None) -> Encoded:
    """Return a scope and its schema URL as a `scope` value of at most SCOPE_BYTES."""
    if scope is None:
        return Encoded(b"\x0a\x00", 0)
    texts = tuple(utf8(text or "") for text in (scope.name, scope.version, scope.schema_url))
    attributes, dropped = _scope_attributes(scope)
    encoded = _scope(texts, attributes, dropped)
    if len(encoded) <= SCOPE_BYTES:
        return Encoded(encoded, 0)
    cuts = 0
    bare = len(_scope(texts, [], 0)) + _COUNT_BYTES + 1  # one more for the length of the scope
    if bare > SCOPE_BYTES:
        whole, texts = texts, tuple(cut_utf8(text, SCOPE_BYTES // 4) for text in texts)
        cuts = sum(len(text) < len(before) for text, before in zip(texts, whole, strict=True))
        bare = len(_scope(texts, [], 0)) + _COUNT_BYTES + 1
    kept, _ = _kept(attributes, SCOPE_BYTES - bare)
    return Encoded(_scope(texts, kept, dropped + len(attributes) - len(kept)), cuts)


def _scope_attributes(scope: InstrumentationScope) -> tuple[list[bytes], int]:
    fields, dropped = [], 0
    for key, value in scope.attributes.items() if scope.attributes else ():
        try:
            fields.append(key_value(b"\x1a", key, any_value(value)))
        except (TypeError, ValueError):
            dropped += 1
    return fields, dropped


def _scope(texts: tuple[bytes, ...], attributes: Iterable[bytes], dropped: int) -> bytes:
    name, version, schema_url = texts
    parts = (text_field(b"\x0a", name), text_field(b"\x12", version), *attributes, count_field(b"\x20", dropped))
    return length_delimited(b"\x0a", b"".join(parts)) + text_field(b"\x1a", schema_url)
