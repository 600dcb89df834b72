"""Waits that end when the thing has happened, and fail when it does not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 120.0  # bounds every wait: a test that hangs fails, and one on a machine with much else to do does not


def comes_true(
    condition: Callable[[], object],
    step: Callable[[], object] = lambda: time.sleep(0.002),
    *,
    within: float = SECONDS,
) -> bool:
    """Repeat `step` until the condition holds; return whether it did within so many seconds."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() >= deadline:
            return False
        step()
    return True


def until(
    condition: Callable[[], object],
    step: Callable[[], object] = lambda: time.sleep(0.002),
    *,
    within: float = SECONDS,
    why: Callable[[], str] = lambda: "the condition did not come true",
) -> None:
    """Repeat `step` until the condition holds; fail with what `why` returns when it does not within so many seconds."""
    assert comes_true(condition, step, within=within), why()
