"""Kind and status of a span, in OpenTelemetry's words."""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import TypeVar

from ringbuf.layout.value import integer, shown

__all__ = ["SpanKind", "Status", "member_of"]

_M = TypeVar("_M", bound=IntEnum)


class SpanKind(IntEnum):
    """What a span is to its trace; the numbers are OTLP's.

    Where one is asked for, `opentelemetry.trace.SpanKind` is taken, too.
    """

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


class Status(IntEnum):
    """How the operation ended; the numbers are OTLP's.

    Where one is asked for, `opentelemetry.trace.StatusCode` is taken, too.
    """

    UNSET = 0
    OK = 1
    ERROR = 2


def member_of(kind: type[_M], name: str, value: object) -> _M:
    """Return the member that a value stands for: itself, its number, or the member of that name of another enumeration.

    By name, since OpenTelemetry's API counts its span kinds from 0, and OTLP from 1.

    Args:
        kind: `SpanKind` or `Status`.
        name: of the argument, for the message.
        value: as it was given.

    Raises:
        TypeError: it is neither an int nor a member of an enumeration.
        ValueError: there is no such member.
    """
    if isinstance(value, kind):
        return value
    if isinstance(value, Enum):
        found = kind.__members__.get(value.name)
        if found is None:
            raise ValueError(f"{name}: {value!r} is none of {', '.join(kind.__members__)}")
        return found
    try:
        number = integer(name, value)
    except TypeError:
        names = ", ".join(f"{kind.__name__}.{one}" for one in kind.__members__)
        raise TypeError(f"{name}: {shown(value)} is none of {names}, and no number of one") from None
    try:
        return kind(number)
    except ValueError:
        raise ValueError(f"{name}: {shown(number)} is no {kind.__name__}") from None
