"""Whether the drain lives, and whether it does what it is for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from drain.accounting.export_state import ExportState

# A round of the loop takes milliseconds, and it sleeps a second at most.
_STALLED_SECONDS: Final = 10.0
# A backend that restarts is no reason to call the drain not ready.
_FAILING_SECONDS: Final = 30.0


class Health:
    """What /healthz and /readyz say; the loop's thread beats, any thread asks.

    Args:
        exports: tells whether the backend accepts anything.
        clock: seconds that never go back.

    Attributes:
        seconds_until_attempt: says when the backend is tried next.
    """

    def __init__(self, exports: Callable[[], ExportState], clock: Callable[[], float] = time.monotonic) -> None:
        self._exports = exports
        self._clock = clock
        self._last_round = clock()
        self._serves = False
        self._broken = ""
        self.seconds_until_attempt: Callable[[], float] = lambda: 0.0

    def beat(self) -> None:
        """Note that the loop goes round."""
        self._last_round = self._clock()

    def serves(self, is_serving: bool) -> None:
        """Note whether rings are being read: from the first look at the directory until a stop is asked for."""
        self._serves = is_serving

    def broke(self, reason: str) -> None:
        """Note that a thread has ended that was to go on: only a new process is well again."""
        self._broken = reason

    @property
    def is_broken(self) -> bool:
        """Whether a thread has ended that was to go on."""
        return bool(self._broken)

    @property
    def stalled_seconds(self) -> float:
        """Seconds since the loop last went round."""
        return self._clock() - self._last_round

    def not_alive(self) -> list[str]:
        """Return why the process should be started again; nothing while it is well."""
        stalled = self.stalled_seconds
        reasons = [self._broken] if self._broken else []
        if stalled > _STALLED_SECONDS:
            reasons.append(f"the loop has not gone round for {stalled:.0f} s")
        return reasons

    def backend(self) -> dict[str, object]:
        """Return what the backend said last, and when it is tried next, for JSON."""
        state = self._exports()
        return {
            "next_attempt_seconds": self.seconds_until_attempt(),
            "failing_seconds": state.failing_seconds,
            "last_error": state.failure,
            "endpoints": {one.name: one.failure for one in state.endpoints if one.failing},
        }

    def not_ready(self) -> list[str]:
        """Return why spans do not arrive; nothing while they do, or while there are none to send."""
        reasons = self.not_alive()
        if not self._serves:
            reasons.append("the ring directory is not served")
        state = self._exports()
        if state.failing_seconds > _FAILING_SECONDS:
            reason = f"the backend has accepted nothing for {state.failing_seconds:.0f} s: {state.failure}"
            wait = self.seconds_until_attempt()
            reasons.append(f"{reason}; next attempt in {wait:.0f} s" if wait else reason)
        return reasons
