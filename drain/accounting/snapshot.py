"""What the drain is doing, as one immutable picture that the loop's thread hands to the threads that show it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from drain.accounting.hold_sums import HoldStatus
    from drain.accounting.sampling_status import SamplingStatus
    from drain.accounting.sums import Sums

# However many ask, the loop makes no more than four pictures a second: each looks at every lane.
_FRESH_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A drain at one moment.

    Attributes:
        services: what became of the spans of each service, since this drain took up its rings.
        lag_seconds: by service, the age of its oldest span that is pending; a service without one is not there.
        rings: how many there are by state.
        quarantined_rings: how many files this drain has set aside.
        batches_in_flight: sent and without a verdict.
        hold: where spans wait for a decision; None without rules.
        sampling: what the rules do; None without rules.
        failed_reloads: signals of which something was not taken up.
    """

    services: Mapping[str, Sums] = field(default_factory=dict)
    lag_seconds: Mapping[str, float] = field(default_factory=dict)
    rings: Mapping[str, int] = field(default_factory=dict)
    quarantined_rings: int = 0
    batches_in_flight: int = 0
    hold: HoldStatus | None = None
    sampling: SamplingStatus | None = None
    failed_reloads: int = 0


class SnapshotExchange:
    """Where the loop leaves a snapshot when somebody asks for one; nobody but the loop touches rings.

    Args:
        wake: ends the loop's sleep; any thread may call it.
        clock: seconds that never go back.
    """

    def __init__(self, wake: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._wake = wake
        self._clock = clock
        self._changed = threading.Condition()
        self._latest = Snapshot()
        self._made_at = clock()
        self._number = 0
        self._is_wanted = False

    @property
    def is_wanted(self) -> bool:
        """Whether the loop should `publish` one; asked by the loop's thread."""
        return self._is_wanted

    def publish(self, snapshot: Snapshot) -> None:
        """Hand a snapshot over."""
        with self._changed:
            self._latest, self._made_at = snapshot, self._clock()
            self._number += 1
            self._is_wanted = False
            self._changed.notify_all()

    def take(self, timeout: float) -> tuple[Snapshot, float]:
        """Return a snapshot and its age in seconds: a new one, or the latest where the loop makes none in time.

        Args:
            timeout: seconds.
        """
        with self._changed:
            number = self._number
            if number and self._clock() - self._made_at < _FRESH_SECONDS:
                return self._latest, self._clock() - self._made_at
            self._is_wanted = True
        self._wake()  # without the lock, which the loop may want first
        with self._changed:
            self._changed.wait_for(lambda: self._number != number, timeout)
            return self._latest, self._clock() - self._made_at
