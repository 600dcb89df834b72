"""The circuit breaker before the backend: whether it may be tried now, and what the log hears of it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from drain.log import RepeatedTrouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from drain.delivery.retry import RetryPolicy
    from drain.exporters.protocol import Result
    from drain.otlp.request import Request


class Breaker:
    """Opens when the backend is down: then one attempt at a time is made, after the waits of the policy.

    A batch that fails while others are delivered does not open it: then it is the batch.

    Args:
        endpoint: for the log.
        policy: how long to wait.
        log: a line for each change of state.
        clock: seconds that never go back.
    """

    def __init__(
        self, endpoint: str, policy: RetryPolicy, log: FilteringBoundLogger, clock: Callable[[], float]
    ) -> None:
        self._policy = policy
        self._log = log.bind(endpoint=endpoint)
        self._trouble = RepeatedTrouble(self._log, clock)
        self._clock = clock
        self._lock = threading.Lock()
        self._down_since: float | None = None
        self._opened_at = 0.0
        self._open_until = 0.0
        self._failures = 0  # waits in a row
        self._failed_attempts = 0
        self._last_answer = float("-inf")
        self._is_probed = False

    @property
    def is_down(self) -> bool:
        """Whether the last that is known is a failure."""
        return self._down_since is not None

    def seconds_until_try(self) -> float | None:
        """Return for how long nothing may be sent: 0 is now, None until the running probe has ended."""
        with self._lock:
            if self._down_since is None:
                return 0.0
            if self._is_probed:
                return None
            return max(0.0, self._open_until - self._clock())

    def begin(self) -> None:
        """An attempt begins; while the backend is down it is the only one."""
        with self._lock:
            self._is_probed = self._down_since is not None

    def cancel(self) -> None:
        """The attempt that was begun is not made."""
        with self._lock:
            self._is_probed = False

    def took(self, request: Request, result: Result) -> None:
        """A batch was delivered."""
        self._answered()
        if result.rejected:
            self._trouble.warn(
                "backend rejected spans", rejected=result.rejected, of=request.spans, reason=result.message
            )
        elif result.message:
            self._trouble.warn("backend warns", reason=result.message)

    def refused(self, request: Request, result: Result) -> None:
        """A batch was refused for good: the backend is there."""
        self._answered()
        self._trouble.warn("backend refused spans for good", spans=request.spans, reason=result.message)

    def gave_up(self, request: Request, result: Result) -> None:
        """A batch is not sent again, however long the backend is away."""
        self._trouble.warn("backend did not take spans in time", spans=request.spans, reason=result.message)

    def found_too_large(self, request: Request, result: Result) -> None:
        """A batch is to be sent in halves."""
        self._answered()
        self._trouble.warn(
            "backend takes no request of this size, its halves are sent",
            spans=request.spans,
            bytes=len(request.body),
            reason=result.message,
        )

    def failed(self, request: Request, result: Result, started: float, failures: int) -> float:
        """An attempt failed, and may be made again.

        Args:
            request: what was sent.
            result: what came of it.
            started: when, on the clock.
            failures: of this batch, this one included.

        Returns:
            seconds until this batch should be sent again.
        """
        with self._lock:
            now = self._clock()
            self._is_probed = False
            is_the_batch = self._last_answer >= started
            is_news = self._down_since is None and not is_the_batch
            if is_the_batch:
                return self._policy.delay(failures, result.retry_after)
            if is_news:
                self._down_since = now
            self._failed_attempts += 1
            if is_news or started >= self._opened_at:  # those that had begun before it opened say nothing new
                self._failures += 1
                self._opened_at = now
                self._open_until = now + self._policy.delay(self._failures, result.retry_after)
            elif result.retry_after is not None:
                self._open_until = max(self._open_until, now + self._policy.delay(1, result.retry_after))
            wait = self._open_until - now
        if is_news:
            self._log.warning("backend is unavailable, spans wait", reason=result.message, spans=request.spans)
        return wait

    def _answered(self) -> None:
        with self._lock:
            self._is_probed = False
            self._last_answer = self._clock()
            down_since, self._down_since = self._down_since, None
            failures, self._failed_attempts = self._failed_attempts, 0
            self._failures = 0
        if down_since is not None:
            self._log.info("backend is back", seconds=round(self._clock() - down_since, 3), failures=failures)
