"""What goes wrong in a fake, where those who call it would take an exception for a failed attempt.

A fake of a backend is called by a thread of the delivery, which sends a batch again whatever was raised. So a fake
keeps what its checks raise, and the test fails by that at its end (conftest.py), or as soon as it asks.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

_FAULTS: list[Exception] = []


def keeps_faults(function: Callable[P, R]) -> Callable[P, R]:
    """Keep what a function raises, for the end of the test."""

    @functools.wraps(function)
    def kept(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            return function(*arguments, **named)
        except Exception as fault:
            _FAULTS.append(fault)
            raise

    return kept


def raise_fault() -> None:
    """Raise the first fault that was kept, if there is one, and forget all."""
    faults = _FAULTS[:1]
    _FAULTS.clear()
    if faults:
        raise faults[0]
