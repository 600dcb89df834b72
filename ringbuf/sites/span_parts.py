"""Events, links and the status message of a site's span: what goes into the `otlp` attribute of its layout.

They are encoded as they are added, and those that come first are kept for as long as they fit the attribute; the others
are counted in `dropped_events_count` and `dropped_links_count`.

Source: opentelemetry-proto, trace.proto.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from ringbuf._ringbuf import lib
from ringbuf.layout.value import cut_utf8
from ringbuf.protobuf import any_value, count_field, key_value, length_delimited, text_field, utf8

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ringbuf.traceparent import TraceParent

__all__ = ["PARTS", "STACKTRACE", "SpanParts"]

PARTS: Final = "otlp (events and links)"
"""By this name a site's spans have their `SpanParts`, where the layout's `otlp` is not the site's own."""

STACKTRACE: Final = "exception.stacktrace"
"""Goes where it would cost an event its place."""

_TIME: Final = struct.Struct("<cQ")
_FLAGS: Final = struct.Struct("<cI")
_MAX_UINT64: Final = (1 << 64) - 1
# Field number << 3 | wire type.
_EVENT, _DROPPED_EVENTS, _LINK, _DROPPED_LINKS, _STATUS = (b"\x5a", b"\x60", b"\x6a", b"\x70", b"\x7a")
_COUNT_BYTES: Final = 6  # the most that a dropped count takes, with its tag
_MESSAGE_SHARE: Final = 4  # of the room, a quarter


class SpanParts:
    """The parts of one span."""

    __slots__ = ("_bytes", "_dropped", "_is_cut", "_is_told", "_message", "_parts")

    def __init__(self) -> None:
        self._parts: list[tuple[bytes, bytes, bytes]] = []  # the tag, all of it, and what of it may do
        self._bytes = 0
        self._dropped = {_EVENT: 0, _LINK: 0}
        self._message = b""
        self._is_cut = False
        self._is_told = False

    def add_event(self, name: str, attributes: Mapping[str, Any] | None, unix_nano: int) -> None:
        """Add an event.

        Raises:
            TypeError, ValueError: the time is none, or the attributes are no mapping.
        """
        if not 0 <= unix_nano <= _MAX_UINT64:
            raise ValueError(f"{unix_nano} is no time")
        head = _TIME.pack(b"\x09", unix_nano) + text_field(b"\x12", utf8(name))
        less = {key: value for key, value in (attributes or {}).items() if key != STACKTRACE}
        bare = head + _event_attributes(less, lost=1)
        self._add(_EVENT, head + _event_attributes(attributes), bare if len(less) < len(attributes or {}) else b"")

    def add_link(self, context: TraceParent, attributes: Mapping[str, Any] | None) -> None:
        """Add a link to the span of a header.

        Raises:
            TypeError: the attributes are no mapping.
        """
        fields, dropped = _attributes(b"\x22", attributes)
        flags = context.trace_flags | lib.RB_SPAN_HAS_IS_REMOTE | lib.RB_SPAN_IS_REMOTE
        ids = length_delimited(b"\x0a", context.trace_id) + length_delimited(b"\x12", context.parent_id)
        self._add(_LINK, ids + fields + count_field(b"\x28", dropped) + _FLAGS.pack(b"\x35", flags))

    def set_message(self, text: str) -> None:
        """Set what the status says."""
        self._message = utf8(text)

    def _add(self, tag: bytes, content: bytes, less: bytes = b"") -> None:
        whole = length_delimited(tag, content)
        if less and self._bytes + len(whole) > lib.RB_MAX_SLOT_BYTES:
            whole, self._is_cut = length_delimited(tag, less), True
        if self._bytes + len(whole) > lib.RB_MAX_SLOT_BYTES:  # fits no record: a span may last, and have any number
            self._dropped[tag] += 1
        else:
            self._parts.append((tag, whole, length_delimited(tag, less) if less else whole))
            self._bytes += len(whole)

    def encoded(self, room: int) -> tuple[bytes, bool]:
        """Return the fields that fit `room` bytes, with the counts of the others, and once whether there are any."""
        message = cut_utf8(self._message, room // _MESSAGE_SHARE)
        status = length_delimited(_STATUS, length_delimited(b"\x12", message)) if message else b""
        parts = tuple(self._parts)  # another thread may add to it
        dropped, left = dict(self._dropped), room - len(status)
        if sum(len(whole) for _, whole, _ in parts) > left or any(dropped.values()):
            left -= _COUNT_BYTES * len(dropped)
        # All events lie before all links: a record whose fields are in another order than their numbers is no span.
        kept: dict[bytes, list[bytes]] = {_EVENT: [], _LINK: []}
        has_less = self._is_cut
        for tag, whole, less in parts:
            fitting = whole if len(whole) <= left else less
            if len(fitting) <= left:
                kept[tag].append(fitting)
                left -= len(fitting)
                has_less |= fitting is not whole
            else:
                dropped[tag] += 1
        events = (*kept[_EVENT], count_field(_DROPPED_EVENTS, dropped[_EVENT]))
        links = (*kept[_LINK], count_field(_DROPPED_LINKS, dropped[_LINK]))
        is_cut = (any(dropped.values()) or has_less or len(message) < len(self._message)) and not self._is_told
        self._is_told |= is_cut  # an exception that passes the block has it encoded again
        return (b"".join((*events, *links, status)), is_cut)


def _event_attributes(attributes: Mapping[str, Any] | None, lost: int = 0) -> bytes:
    fields, dropped = _attributes(b"\x1a", attributes)
    return fields + count_field(b"\x20", dropped + lost)


def _attributes(tag: bytes, attributes: Mapping[str, Any] | None) -> tuple[bytes, int]:
    """Return the fields, and how many are too few: those that no AnyValue can hold."""
    fields, dropped = [], 0
    for key, value in attributes.items() if attributes else ():
        try:
            fields.append(key_value(tag, key, any_value(value)))
        except (TypeError, ValueError):
            dropped += 1
    return b"".join(fields), dropped
