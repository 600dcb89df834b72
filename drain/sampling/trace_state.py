"""The `ot` entry of a W3C tracestate: the threshold and the randomness that OpenTelemetry puts there.

Source: OpenTelemetry specification, "TraceState Handling"; W3C Trace Context, section 3.3.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ringbuf.sampling import randomness, threshold_text

_MAX_MEMBERS: Final = 32
_MAX_CHARACTERS: Final = 256  # of the entry's value
_DIGITS: Final = 14
_THRESHOLD: Final = re.compile(r"[0-9a-fA-F]{1,14}")
_RANDOMNESS: Final = re.compile(r"[0-9a-fA-F]{14}")
_SUB_KEY: Final = re.compile(r"[a-z][a-z0-9]*:[A-Za-z0-9._-]*")


class Stated(NamedTuple):
    """What a tracestate says.

    Attributes:
        threshold: `th`, below 2**56; None where there is none that can be read.
        randomness: `rv`, the same.
        is_malformed: there is an `ot` entry that is none; it says nothing, and is left as it is.
    """

    threshold: int | None = None
    randomness: int | None = None
    is_malformed: bool = False


def stated(trace_state: str) -> Stated:
    """Read a tracestate.

    >>> stated("ot=th:8;rv:fedcba98765432,vendor=1").threshold == 1 << 55
    True
    """
    value = _entry(trace_state.split(","))
    if value is None:
        return Stated()
    pairs = _pairs(value)
    if pairs is None:
        return Stated(is_malformed=True)
    threshold, random = pairs.get("th"), pairs.get("rv")
    is_malformed = (threshold is not None and not _THRESHOLD.fullmatch(threshold)) or (
        random is not None and not _RANDOMNESS.fullmatch(random)
    )
    if is_malformed:
        return Stated(is_malformed=True)
    return Stated(
        None if threshold is None else int(threshold.ljust(_DIGITS, "0"), 16),
        None if random is None else int(random, 16),
    )


def with_threshold(trace_state: str, threshold: int | None) -> str:
    """Return the tracestate with another `th`, or without one; all else stays, the `ot` entry first, as W3C asks.

    What is malformed stays as it is, and so does an entry that would be longer than 256 characters. Of more than 32
    entries the last go.

    Args:
        trace_state: as it came.
        threshold: below 2**56; None: the probability is not known.

    >>> with_threshold("vendor=1,ot=rv:fedcba98765432;th:8", 0xC << 52)
    'ot=rv:fedcba98765432;th:c,vendor=1'
    >>> with_threshold("ot=th:8", None)
    ''
    """
    members = [member for member in trace_state.split(",") if member.strip(" \t")]
    value = _entry(members)
    pairs: dict[str, str] | None = {} if value is None else _pairs(value)
    if pairs is None or stated(trace_state).is_malformed:
        return trace_state
    before = dict(pairs)
    pairs.pop("th", None)
    if threshold is not None:
        pairs["th"] = threshold_text(threshold)
    if pairs == before:
        return trace_state
    text = ";".join(f"{key}:{sub_value}" for key, sub_value in pairs.items())
    if len(text) > _MAX_CHARACTERS:
        return trace_state
    others = [member for member in members if not member.strip(" \t").startswith("ot=")]
    return ",".join((["ot=" + text] if text else []) + others[: _MAX_MEMBERS - bool(text)])


def randomness_of(trace_id: bytes, says: Stated) -> int:
    """Return R of a trace: `rv` if it is stated, else the low 56 bits of the id."""
    return randomness(trace_id) if says.randomness is None else says.randomness


def _entry(members: list[str]) -> str | None:
    return next((text[3:] for member in members if (text := member.strip(" \t")).startswith("ot=")), None)


def _pairs(value: str) -> dict[str, str] | None:
    """Return the sub-keys of an entry; None where it is malformed."""
    parts = value.split(";")
    if len(value) > _MAX_CHARACTERS or not all(_SUB_KEY.fullmatch(part) for part in parts):
        return None
    pairs = dict(part.split(":", 1) for part in parts)
    return pairs if len(pairs) == len(parts) else None
