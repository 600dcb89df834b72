"""The search for a highest rate, whoever makes the trials."""

from __future__ import annotations

from typing import Final

NARROW: Final = 1.1
"""How far above the rate that held the one that did not may lie when a search is over."""

_LEAST_RATE: Final = 100.0


class Search:
    """The highest rate at which a trial holds: doubled until none does, then what is left is halved.

    One that does not hold is made again before that counts: on a busy machine any may fail once. The rates of all
    searches are of one series, so that senders of nearly the same speed are tried at the same ones.

    Args:
        first: spans per second, of the first trial.

    Attributes:
        rate: of the next trial.
        good: the highest that held; 0: none did.
    """

    def __init__(self, first: float) -> None:
        self.rate = first
        self.good = 0.0
        self._bad: float | None = None
        self._has_failed = False  # at this rate

    @property
    def is_over(self) -> bool:
        """Whether what is left is narrow enough."""
        return self._bad is not None and self._bad / max(self.good, _LEAST_RATE) < NARROW

    def note(self, *, holds: bool) -> None:
        """Note what came of a trial at `rate`."""
        if not holds and not self._has_failed:
            self._has_failed = True
            return
        self._has_failed = False
        if holds:
            self.good = self.rate
        else:
            self._bad = self.rate
        if self._bad is None:
            self.rate *= 2
        elif self.good == 0:  # not even the first one held
            self.rate /= 2
        else:
            self.rate = (self.good * self._bad) ** 0.5
