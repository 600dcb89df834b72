"""The time of day that nobody sets: where it is compared with itself, a step of the clock must not look like age."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class SteadyTime:
    """Reads the time of day once, at its first call, and goes on from there as evenly as `clock`.

    Args:
        unix_nano: the time of day.
        clock: seconds that never go back.

    >>> steady = SteadyTime(lambda: 5_000_000_000, iter([10.0, 12.5]).__next__)
    >>> steady(), steady()
    (5000000000, 7500000000)
    """

    def __init__(self, unix_nano: Callable[[], int], clock: Callable[[], float]) -> None:
        self._unix_nano = unix_nano
        self._clock = clock
        self._began: tuple[int, float] | None = None

    def __call__(self) -> int:
        """Return nanoseconds since 1970, as of the first call's clock."""
        if self._began is None:
            began = (self._unix_nano(), self._clock())
            self._began = began
            return began[0]
        return self._began[0] + int((self._clock() - self._began[1]) * 1e9)
