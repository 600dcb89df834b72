"""Sizes and times as people write them: `10GiB`, `30s`; a number without a unit is bytes or seconds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BeforeValidator, Field

if TYPE_CHECKING:
    from collections.abc import Callable

_SIZES: Final[dict[str, int]] = {
    "b": 1,
    **{f"{prefix}b": 1000**power for power, prefix in enumerate("kmgt", 1)},
    **{f"{prefix}i{b}": 1024**power for power, prefix in enumerate("kmgt", 1) for b in ("", "b")},
}
_TIMES: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_NUMBER: Final = r"[0-9]+(?:\.[0-9]+)?"
_SIZE: Final = re.compile(rf"({_NUMBER}) ?([A-Za-z]+)")
_TIME: Final = re.compile(rf"({_NUMBER}) ?(ns|us|µs|ms|min|s|m|h|d) ?")
_LIKE_TIME: Final = re.compile(rf"(?:{_NUMBER} ?[^\W\d_]+ ?)+")
# A sum of several of them is still a time that Python's and the kernel's waits take.
LONGEST_SECONDS: Final = 10 * 366 * 86400.0
# Beyond any disk, and below what SQLite and C count with.
MOST_BYTES: Final = 1 << 50


@dataclass(frozen=True, slots=True)
class Unit:
    """What a number of a setting counts, for the flag that sets it.

    Attributes:
        metavar: stands for the value in the help.
        shown: a value as people write it.
    """

    metavar: str
    shown: Callable[[float], str]


def bytes_of(text: str) -> str | int:
    """Return the number of bytes that a size with a unit is; anything else as it is, for the next to judge.

    Raises:
        ValueError: it has a unit that is none, or one that is read in two ways, or it is no whole number of bytes.

    Example:
        >>> bytes_of("10GiB"), bytes_of("1.5 kB"), bytes_of("4096")
        (10737418240, 1500, '4096')
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return text
    unit = found[2].lower()
    if unit not in _SIZES:
        more = f"; write {unit.upper()}B or {unit.upper()}iB" if unit in "kmgt" else ""
        raise ValueError(f"{found[2]!r} is no unit of sizes: kB, MB, GB, TB, KiB, MiB, GiB, TiB{more}")
    whole, _, fraction = found[1].partition(".")
    size, rest = divmod(int(whole + fraction) * _SIZES[unit], int(10 ** len(fraction)))
    if rest:
        raise ValueError(f"{text.strip()} is no whole number of bytes")
    return size


def seconds_of(text: str) -> str | float:
    """Return the seconds that a time with units is; anything else as it is, for the next to judge.

    Raises:
        ValueError: it has a unit that is none.

    Example:
        >>> seconds_of("30s"), seconds_of("1h30m"), seconds_of("250 ms"), seconds_of("2.5")
        (30.0, 5400.0, 0.25, '2.5')
    """
    parts = _TIME.findall(text.strip())
    if not parts or _TIME.sub("", text.strip()):
        if _LIKE_TIME.fullmatch(text.strip()):
            raise ValueError(f"{text.strip()!r} is no time: the units are ns, us, ms, s, m, h, d")
        return text
    return sum((float(number) * _TIMES[unit] for number, unit in parts), 0.0)


def shown_bytes(count: float) -> str:
    """Return a number of bytes as a setting takes it, exactly.

    >>> shown_bytes(1 << 30), shown_bytes(4_000_000), shown_bytes(0), shown_bytes(1001)
    ('1GiB', '4MB', '0', '1001')
    """
    units = {name: step for name, step in _SHOWN_SIZES.items() if count and count % step == 0}
    return next((f"{count // step:.0f}{name}" for name, step in units.items()), f"{count:.0f}")


def shown_seconds(seconds: float) -> str:
    """Return a time as a setting takes it, exactly.

    >>> shown_seconds(604800.0), shown_seconds(300.0), shown_seconds(0.2), shown_seconds(0.0), shown_seconds(90)
    ('7d', '5m', '200ms', '0', '90s')
    """
    if not seconds:
        return "0"
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    return next(
        f"{seconds / step:.12g}{name}" for name, step in _SHOWN_TIMES.items() if seconds % step == 0 or step == 1
    )


_SHOWN_SIZES: Final = {"TiB": 1 << 40, "GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "MB": 10**6, "kB": 10**3}
_SHOWN_TIMES: Final = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def _of_text(read: Callable[[str], object]) -> BeforeValidator:
    return BeforeValidator(lambda value: read(value) if isinstance(value, str) and len(value) <= _LONGEST else value)


_LONGEST: Final = 100  # of a number with its unit; Python itself refuses to read very long ones

Seconds = Annotated[
    float, Unit("TIME", shown_seconds), _of_text(seconds_of), Field(allow_inf_nan=False, le=LONGEST_SECONDS)
]
"""Seconds, or a time with a unit: ns, us, ms, s, m, h, d."""

Bytes = Annotated[int, Unit("SIZE", shown_bytes), _of_text(bytes_of), Field(le=MOST_BYTES)]
"""Bytes, or a size with a unit: kB, MB, GB, TB and KiB, MiB, GiB, TiB."""
