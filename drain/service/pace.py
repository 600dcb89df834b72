"""How long the loop sleeps: less where it was late, more where there is nothing to do."""

from __future__ import annotations

from typing import Final

_LONGEST_NAP_SECONDS: Final = 0.02
_SHORTEST_NAP_SECONDS: Final = 0.001
# What waits for a decision anyway waits longer, so that a look finds more: 100 ms, half of what a batch would wait for.
_GATHERING_NAPS: Final = 5
_REST_SECONDS: Final = 0.25  # with nothing to do the loop goes round so often; rings are looked at after each nap
# After a rest without news. What comes next waits longer by a nap, once, which the batch delay leaves room for: 100 ms.
_QUIET_NAP_SECONDS: Final = 0.04
_QUIET_REST_SECONDS: Final = 1.0


class Pace:
    """The length of the sleep that comes next; knows nothing of rings, and reads no clock."""

    def __init__(self) -> None:
        self._nap = _LONGEST_NAP_SECONDS
        self._is_rest = False  # this sleep
        self._is_quiet = False  # the last rest brought no news

    def nap(self, *, came_late: bool) -> float:
        """Return for how many seconds to sleep while there is something to do.

        Args:
            came_late: whether a lane was found half full since the last sleep: the next is half as long.
        """
        self._is_rest = False
        if came_late:
            self._nap = max(_SHORTEST_NAP_SECONDS, self._nap / 2)
        else:
            self._nap = min(_LONGEST_NAP_SECONDS, self._nap * 2)
        return self._nap

    def gathering(self, *, came_late: bool) -> float:
        """Return for how many seconds to let more records gather, after some were found for which nobody waits.

        Args:
            came_late: as `nap`.
        """
        return _GATHERING_NAPS * self.nap(came_late=came_late)

    def rest(self) -> tuple[float, float]:
        """Return the nap and the whole sleep, in seconds, where there is nothing to do; after `nap`."""
        self._is_rest = self._nap == _LONGEST_NAP_SECONDS
        if not self._is_rest:
            return self._nap, self._nap
        return (_QUIET_NAP_SECONDS, _QUIET_REST_SECONDS) if self._is_quiet else (self._nap, _REST_SECONDS)

    def woke(self, *, has_news: bool) -> None:
        """Note whether the sleep ended before its time was over."""
        self._is_quiet = self._is_rest and not has_news
