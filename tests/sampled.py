"""Matrices of which `make test` runs a part, and `make prove` all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def every(nth: int, values: Iterable[Any], name: Callable[[Any], str] = str) -> list[Any]:
    """Return parameters of which each n-th, from the first on, runs in `make test`, too.

    Args:
        nth: how many share one.
        values: of one argument; a tuple is of several.
        name: of a value, for the test's id.
    """
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), id=name(value), marks=_proved(at % nth != 0))
        for at, value in enumerate(values)
    ]


def _proved(is_proved: bool) -> list[pytest.MarkDecorator]:
    return [pytest.mark.prove] if is_proved else []
