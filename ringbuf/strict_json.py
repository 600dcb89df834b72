"""JSON that any program may have written, of which all readers must make the same: a layout, a resource."""

from __future__ import annotations

import json
from typing import Any, NoReturn

__all__ = ["json_object"]


def json_object(data: bytes) -> dict[str, Any]:
    """Return the object that UTF-8 JSON holds.

    Raises:
        ValueError: with the reason: it is not UTF-8, not JSON (NaN and the infinities are not), no object, nested too
            deeply, or has a key twice, of which readers would take one or the other.

    >>> json_object(b'{"load":1.0}')
    {'load': 1.0}
    """
    try:
        text = data.decode()  # json.loads would guess UTF-16 and UTF-32 from bytes
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason} at byte {error.start}") from None
    try:
        found = json.loads(text, object_pairs_hook=_members, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None
    except _RefusedError:
        raise
    except ValueError as error:  # a JSONDecodeError, or an integer of more digits than Python converts
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError("JSON that is no object")  # noqa: TRY004 - bad data
    return found


class _RefusedError(ValueError):
    """What is JSON to Python, and not to us."""


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise _RefusedError("a JSON object that has a key twice")
    return members


def _refuse_constant(constant: str) -> NoReturn:
    raise _RefusedError(f"not JSON: {constant}")
