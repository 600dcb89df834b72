"""When batches were stored, and how old they are, whatever the clock was set to before or since.

As long as the machine runs, age is measured by the time since its start, which nobody sets. Across a restart there is
only the time of day, and that may be wrong: a machine without a battery begins in 1970 until it has asked for the time.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_EARLIEST_UNIX_NANO: Final = 1_735_689_600 * 10**9  # 2025: before there was a spool


class Moment(NamedTuple):
    """A moment by two clocks.

    Attributes:
        unix_nano: the time of day.
        boot_id: of the start of the machine that the next counts from; empty: not known.
        boot_nano: nanoseconds since then, those in which it slept included.
    """

    unix_nano: int
    boot_id: str = ""
    boot_nano: int = 0


def this_moment() -> Moment:
    """Return the moment that it is."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot_id = ""
    return Moment(time.time_ns(), boot_id, time.clock_gettime_ns(time.CLOCK_BOOTTIME))


class SpoolTime:
    """The spool's idea of now, and of ages.

    Args:
        now: returns the moment that it is.
    """

    def __init__(self, now: Callable[[], Moment] = this_moment) -> None:
        self._now = now
        self._began = now()

    def now(self) -> Moment:
        """Return the moment that it is."""
        return self._now()

    def age_seconds(self, moment: Moment) -> float:
        """Return how long ago that was, at least 0; of what has no credible time, how long this object is there."""
        known = self.known_age_seconds(moment)
        return max(0.0, (self._now().boot_nano - self._began.boot_nano) / 1e9) if known is None else known

    def known_age_seconds(self, moment: Moment) -> float | None:
        """Return how long ago that was, at least 0; None of what has no credible time."""
        now = self._now()
        if moment.boot_id and moment.boot_id == now.boot_id:
            nano = now.boot_nano - moment.boot_nano
        elif moment.unix_nano < _EARLIEST_UNIX_NANO:
            return None
        else:
            nano = now.unix_nano - moment.unix_nano
        return max(0.0, nano / 1e9)
