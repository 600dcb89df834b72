"""How long to wait before a batch is sent again: exponential back-off with jitter, as OTLP demands.

Source: opentelemetry-proto `docs/specification.md`, "Failures" and "OTLP/gRPC Throttling".
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Waits between the attempts for one batch.

    The shape is the Collector's (x1.5 up to 30 s, half up or down by chance); the first wait is the SDKs' 1 s instead
    of its 5 s, since a restarted backend is back sooner than that. The Collector gives up after 300 s; here the default
    is never to, since giving up loses spans and the spool's bounds already limit what is kept.

    Attributes:
        initial: seconds after the first failure, before jitter.
        maximum: seconds that a wait grows to, before jitter.
        multiplier: growth from one wait to the next.
        jitter: the wait is spread evenly over [1 - jitter, 1 + jitter] times its length, so that many drains do not
            return to a restarted backend in step.
        elapsed_limit: seconds after a batch's first attempt at which it is given up; 0 is never.
        attempts_limit: failed attempts, while most other batches get through, after which a batch is given up; 0 is
            never. Chance brings none there, at a backend that fails at random.
        longest_retry_after: seconds at which a backend's own wish is cut, so that a wrong clock, a wrong header, or one
            service of many cannot silence the drain for long.
        random: gives a number in [0, 1).

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> policy = RetryPolicy(random=lambda: 0.5)
        >>> [policy.delay(failures) for failures in (1, 2, 3, 100)]
        [1.0, 1.5, 2.25, 30.0]
        >>> policy.delay(1, retry_after=7)
        7.0
    """

    initial: float = 1.0
    maximum: float = 30.0
    multiplier: float = 1.5
    jitter: float = 0.5
    elapsed_limit: float = 0.0
    attempts_limit: int = 100
    longest_retry_after: float = 300.0
    random: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        """Refuse what would retry without a pause, or never."""
        if not 0 < self.initial <= self.maximum:
            raise ValueError(f"retry: initial must be above 0 and at most maximum, not {self.initial}, {self.maximum}")
        if self.multiplier < 1:
            raise ValueError(f"retry: multiplier must be at least 1, not {self.multiplier}")
        if not 0 < self.jitter < 1:
            raise ValueError(f"retry: jitter must be between 0 and 1 (OTLP demands jitter), not {self.jitter}")
        if self.elapsed_limit < 0 or self.longest_retry_after < 0 or self.attempts_limit < 0:
            raise ValueError("retry: elapsed limit, attempts limit and longest retry-after must not be negative")

    def delay(self, failures: int, retry_after: float | None = None) -> float:
        """Return the seconds to wait before the next attempt.

        Args:
            failures: attempts that failed so far, at least 1.
            retry_after: seconds that the backend asked for; the wait is never shorter than that.
        """
        wait = self.initial
        for _ in range(failures - 1):
            wait *= self.multiplier
            if wait >= self.maximum or self.multiplier == 1:
                break
        wait = min(wait, self.maximum) * (1 + self.jitter * (2 * self.random() - 1))
        if retry_after is None:
            return wait
        return max(wait, min(float(retry_after), self.longest_retry_after))

    def gives_up(self, elapsed: float) -> bool:
        """Return whether a batch that was first sent `elapsed` seconds ago is not to be sent again."""
        return 0 < self.elapsed_limit <= elapsed

    def has_enough_of(self, sure_failures: int) -> bool:
        """Return whether a batch that failed so often while most others got through is not to be sent again."""
        return 0 < self.attempts_limit <= sure_failures
