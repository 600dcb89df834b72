"""Waits that end when the thing has happened, and fail when it does not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 120.0  # bounds every wait: a test that hangs fails, and one on a machine with much else to do does not
_SHORTEST_PAUSE_SECONDS = 0.002
_LONGEST_PAUSE_SECONDS = 0.1
_PAUSES = 4  # each so long as the look: what is waited for has the processor, and not who waits


def comes_true(
    condition: Callable[[], object], step: Callable[[], object] | None = None, *, within: float = SECONDS
) -> bool:
    """Repeat `step` until the condition holds; return whether it did within so many seconds.

    Args:
        condition: what is looked at.
        step: what is done between two looks; None: a pause, the longer the longer a look takes.
        within: seconds.
    """
    deadline = time.monotonic() + within
    begun = time.monotonic()
    while not condition():
        now = time.monotonic()
        if now >= deadline:
            return False
        if step is None:
            time.sleep(min(max(_SHORTEST_PAUSE_SECONDS, _PAUSES * (now - begun)), _LONGEST_PAUSE_SECONDS))
        else:
            step()
        begun = time.monotonic()
    return True


def until(
    condition: Callable[[], object],
    step: Callable[[], object] | None = None,
    *,
    within: float = SECONDS,
    why: Callable[[], str] = lambda: "the condition did not come true",
) -> None:
    """Repeat `step` until the condition holds; fail with what `why` returns when it does not within so many seconds."""
    assert comes_true(condition, step, within=within), why()
