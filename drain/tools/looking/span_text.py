"""A span as text for people, and as a JSON object for programs."""

from __future__ import annotations

import base64
import json
import math
import time
from typing import TYPE_CHECKING, Any, Final

from drain.tools.looking.span_fields import INVALID, attributes_of, duration_of, name_of

if TYPE_CHECKING:
    import numpy as np

    from drain.tools.looking.observed_ring import ObservedRing

KINDS: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")
STATUSES: Final = ("unset", "ok", "error")

_INTERNAL: Final = 1  # which nearly all are

_NANO: Final = 1_000_000_000
_UNITS: Final = ((_NANO, "s"), (1_000_000, "ms"), (1_000, "µs"))
_THOUSAND: Final = 1000
_ROUNDS_UP: Final = 0.9995  # from here on three digits are 1.00 of the next unit
_ID_DIGITS: Final = 8  # of a trace id in a line: `--trace` takes the beginning of one


def printable(text: str, most: int = 200, *, keep_end: bool = False) -> str:
    r"""Return text out of a ring so that it cannot steer a terminal, nor fill it.

    >>> printable("a\x1b[31mb"), printable("service-17", 6), printable("service-17", 6, keep_end=True)
    ('a�[31mb', 'servi…', '…ce-17')
    """
    shown = cut(text, most, keep_end=keep_end)
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in shown)


def cut(text: str, width: int, *, keep_end: bool = False) -> str:
    """Return text in at most `width` characters, with an ellipsis where some are missing.

    >>> cut("grafos.dataplane.fbmu", 8), cut("grafos.dataplane.fbmu", 8, keep_end=True)
    ('grafos.…', '…ne.fbmu')
    """
    if len(text) <= width:
        return text
    return "…" + text[len(text) - width + 1 :] if keep_end else text[: width - 1] + "…"


def json_text(value: object) -> str:
    r"""Return a value as JSON on one line, in which nothing steers a terminal: it means the same to a program.

    >>> json_text({"name": "é\x1b[31m\x9b"})
    '{"name": "é\\u001b[31m\\u009b"}'
    """
    return escaped_json(json.dumps(value, ensure_ascii=False))


def escaped_json(text: str) -> str:
    """Return JSON with escapes for all characters that are not printable; ends of lines stay."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\n" else _json_escape(one) for one in text)


def duration(nano: int) -> str:
    """Return a duration in the unit that fits it.

    >>> duration(950), duration(12_300), duration(1_500_000_000), duration(-2_000)
    ('950ns', '12.3µs', '1.50s', '-2.00µs')
    """
    size = abs(nano)
    for unit, name in _UNITS:
        if size >= unit * _ROUNDS_UP:
            value = nano / unit
            digits = f"{value:#.3g}".rstrip(".") if size < _THOUSAND * unit * _ROUNDS_UP else f"{value:.0f}"
            return f"{digits}{name}"
    return f"{nano}ns"


def age(nano: int) -> str:
    """Return an age as its largest unit.

    >>> age(5 * 10**9), age(3_700 * 10**9), age(10 * 86_400 * 10**9)
    ('5s', '1h', '10d')
    """
    seconds = max(0, nano) // _NANO
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= unit:
            return f"{seconds // unit}{name}"
    return f"{seconds}s"


def clock(unix_nano: int) -> str:
    """Return the time of day to the microsecond, in UTC as on every screen, in the drain's log and in reports.

    >>> clock(1_700_000_000_123_456_789)
    '22:13:20.123456Z'
    """
    return moment(unix_nano).partition("T")[2]


def moment(unix_nano: int) -> str:
    """Return date and time of day to the microsecond, in UTC.

    >>> moment(1_700_000_000_123_456_789)
    '2023-11-14T22:13:20.123456Z'
    """
    try:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(unix_nano // _NANO))
    except (OverflowError, ValueError, OSError):
        return "????-??-??T??:??:??.??????Z"
    return f"{seconds}.{unix_nano % _NANO // 1_000:06}Z"


def line(ring: ObservedRing, record: np.void) -> str:
    """Return a span as a line: end, duration, service, name, unusual kind and status, attributes, trace id's start."""
    attributes = attributes_of(ring.layout, record)
    status = int(record["status"])
    words = [
        clock(int(record["end_unix_nano"])),
        f"{duration(duration_of(record)):>7}",
        f"{printable(ring.service)}[{ring.header.pid}]",
        printable(name_of(ring.layout, record)),
    ]
    kind = int(record["kind"])
    if kind > _INTERNAL:
        words.append(KINDS[kind] if kind < len(KINDS) else INVALID)
    if status:
        words.append(STATUSES[status].upper() if status < len(STATUSES) else INVALID)
    if attributes is None:
        words.append(INVALID)
    else:
        words += [f"{printable(key)}={_word(value)}" for key, value in attributes.items()]
    words.append(f"trace={record['trace_id'].tobytes().hex()[:_ID_DIGITS]}")
    return " ".join(words)


def json_object(ring: ObservedRing, record: np.void) -> dict[str, Any]:
    """Return a span as one flat object, its attributes in a nested one."""
    parent = record["parent_span_id"].tobytes()
    kind, status = int(record["kind"]), int(record["status"])
    attributes = attributes_of(ring.layout, record)
    return {
        "ring": ring.name,
        "service": ring.service,
        "name": name_of(ring.layout, record),
        "start_unix_nano": int(record["start_unix_nano"]),
        "end_unix_nano": int(record["end_unix_nano"]),
        "duration_nano": duration_of(record),
        "trace_id": record["trace_id"].tobytes().hex(),
        "span_id": record["span_id"].tobytes().hex(),
        "parent_span_id": parent.hex() if any(parent) else None,
        "kind": KINDS[kind] if kind < len(KINDS) else INVALID,
        "status": STATUSES[status] if status < len(STATUSES) else INVALID,
        "flags": int(record["flags"]),
        "attributes": None if attributes is None else {key: json_value(value) for key, value in attributes.items()},
    }


def json_value(value: Any) -> Any:
    """Return a value as JSON has it: bytes in base64, and the floats that JSON lacks as OTLP writes them."""
    if isinstance(value, list):
        return [json_value(item) for item in value]
    if isinstance(value, dict):
        return {key: json_value(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.hex()[:64]
    text = printable(str(value))
    return repr(text) if isinstance(value, str) and (not text or " " in text or '"' in text) else text
