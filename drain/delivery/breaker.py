"""The circuit breaker before the backend: whether it may be tried now, and what the log hears of it."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drain.log import RepeatedTrouble

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from structlog.typing import FilteringBoundLogger

    from drain.delivery.job import Job
    from drain.delivery.retry import RetryPolicy
    from drain.exporters.protocol import Result
    from drain.otlp.request import Request

_RECENT: Final = 30  # attempts that are remembered
_FEWEST: Final = 5  # attempts that say anything
# For so long nothing has got through before it opens: a hundred batches that are never taken are tried in a moment.
_SILENT_SECONDS: Final = 1.0
_STRESSED_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True)
class BreakerState:
    """What the queue asks the breaker.

    Attributes:
        is_open: all that was tried lately failed: one attempt at a time.
        is_probed: while it is open, that attempt is running.
        wait: while it is open, seconds until a batch may be tried that has failed already.
        untried_wait: the same of a batch that has not: it may be of those that the backend would take.
        newest_first: so much of what was tried lately failed that the oldest batches may be what is wrong.
        back_at: when it closed last, on the clock.
        open_since: when it opened, on the clock; None: it is closed.
        failed_at: when an attempt failed last, that did not fail for its batch.
    """

    is_open: bool = False
    is_probed: bool = False
    wait: float = 0.0
    untried_wait: float = 0.0
    newest_first: bool = False
    back_at: float = float("-inf")
    open_since: float | None = None
    failed_at: float = float("-inf")


def opens(recent: Sequence[bool], silent_seconds: float) -> bool:
    """Return whether a backend takes nothing any more.

    One that takes one batch of ten is better used than left alone.

    Args:
        recent: whether each of the last attempts got an answer, without those of batches that fail for themselves.
        silent_seconds: since the last answer to any.
    """
    return len(recent) >= _FEWEST and not any(recent) and silent_seconds >= _SILENT_SECONDS


class Breaker:
    """Opens when all of the recent attempts failed (`opens`): then one attempt at a time is made, after growing waits.

    A batch that fails while others get through fails for itself: that says nothing of the backend.

    Args:
        endpoint: for the log.
        policy: how long to wait.
        log: a line for each change of state.
        clock: seconds that never go back.

    Attributes:
        answers: how often the backend took or refused something.
    """

    def __init__(
        self, endpoint: str, policy: RetryPolicy, log: FilteringBoundLogger, clock: Callable[[], float]
    ) -> None:
        self._policy = policy
        self._unbound = log
        self._log = log.bind(endpoint=endpoint)
        self._trouble = RepeatedTrouble(self._log, clock)
        self._clock = clock
        self._lock = threading.Lock()
        self._recent: deque[bool] = deque(maxlen=_RECENT)  # whether each attempt got an answer
        self._open_since: float | None = None
        self._back_at = float("-inf")
        self._tried_now_at = float("-inf")
        self._gate_set_at = 0.0
        self._wait_until = 0.0
        self._untried_wait_until = 0.0
        self._failures = 0  # waits in a row
        self._failed_attempts = 0
        self._last_answer = float("-inf")
        self._failed_at = float("-inf")
        self.answers = 0
        self._probes = 0
        self._probe = 0  # the running one, 0 without

    @property
    def is_open(self) -> bool:
        """Whether all that was tried lately failed."""
        return self._open_since is not None

    def state(self) -> BreakerState:
        """Return what the queue needs to know."""
        with self._lock:
            now = self._clock()
            if self._open_since is None:
                return BreakerState(
                    newest_first=self._fails(_STRESSED_SHARE), back_at=self._back_at, failed_at=self._failed_at
                )
            return BreakerState(
                is_open=True,
                is_probed=self._probe != 0,
                wait=max(0.0, self._wait_until - now),
                untried_wait=max(0.0, self._untried_wait_until - now),
                newest_first=True,
                back_at=self._back_at,
                open_since=self._open_since,
                failed_at=self._failed_at,
            )

    def try_now(self, endpoint: str) -> None:
        """The exporter is another, or has other connections: what was waited for may be over.

        Args:
            endpoint: where it sends now.
        """
        with self._lock:
            self._log = self._unbound.bind(endpoint=endpoint)
            self._trouble = RepeatedTrouble(self._log, self._clock)
            self._wait_until = self._untried_wait_until = self._tried_now_at = self._clock()

    def begin(self) -> int:
        """An attempt begins; return what `end` is to be called with, whatever becomes of it."""
        with self._lock:
            if self._open_since is None:
                return 0
            self._probes += 1
            self._probe = self._probes
            return self._probe

    def end(self, token: int) -> None:
        """The attempt that was begun has ended, or was not made."""
        with self._lock:
            if token == self._probe:
                self._probe = 0

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

    def gave_up(self, request: Request, result: Result, job: Job) -> None:
        """A batch is not sent again, however long the backend is away."""
        self._trouble.warn(
            "backend did not take spans in time, or while it took others",
            spans=request.spans,
            attempts=job.failures,
            reason=result.message,
        )

    def found_too_large(self, request: Request, result: Result) -> None:
        """A batch is to be sent in halves."""
        self._answered()
        self._trouble.warn(
            "backend takes no request of this size, its halves are sent",
            spans=request.spans,
            bytes=request.body_bytes,
            reason=result.message,
        )

    def may_be_too_large(self, request: Request, result: Result) -> None:
        """A batch is to be sent in halves, which is a try: its failure is one as any other."""
        self._trouble.warn(
            "backend answers a batch in the same words again and again, its halves are tried",
            spans=request.spans,
            bytes=request.body_bytes,
            reason=result.message,
        )

    def failed(self, request: Request, result: Result, started: float, job: Job) -> None:
        """An attempt failed, and may be made again: decides when, and what that says of the backend.

        Args:
            request: what was sent.
            result: what came of it.
            started: when, on the clock.
            job: is told; its `failures` count this one.
        """
        with self._lock:
            now = self._clock()
            # By what was replaced meanwhile: how long that wants to be left alone says nothing of what is there now.
            is_outdated = started < self._tried_now_at
            delay = 0.0 if is_outdated else self._policy.delay(job.failures, result.retry_after)
            others_got_through = self._last_answer >= min(started, job.failed_at if job.failures > 1 else started)
            job.failed_at = now
            job.not_before = now + delay
            job.is_told_when = result.retry_after is not None and not is_outdated
            if others_got_through:
                job.own_failures += 1
                job.sure_failures += not (result.needs_operator or self._fails(_STRESSED_SHARE))
            else:
                self._recent.append(False)
                self._failed_at = now
            was_open = self._open_since is not None
            if not was_open and opens(self._recent, now - self._last_answer):
                self._open_since = now
                self._failures = 0
            if self._open_since is not None:
                self._failed_attempts += 1
                if not is_outdated:
                    self._set_gate(result, started, now, is_news=not was_open)
            opened = self._open_since is not None and not was_open
            next_attempt = self._untried_wait_until - now
        if opened:
            self._log.warning(
                "backend is unavailable, spans wait",
                reason=result.message,
                spans=request.spans,
                next_attempt_seconds=round(next_attempt, 3),
            )
        elif not was_open:
            self._trouble.warn(
                "backend did not take a batch, it is sent again",
                reason=result.message,
                spans=request.spans,
                attempts=job.failures,
                next_attempt_seconds=round(delay, 3),
            )

    def timed_out(self, request: Request, result: Result, largest: int) -> None:
        """A request was not answered in time: smaller ones are sent from now on."""
        self._trouble.warn(
            "backend does not answer in time, smaller requests are sent",
            spans=request.spans,
            bytes=request.body_bytes,
            largest=largest,
            reason=result.message,
        )

    def _fails(self, share: float) -> bool:
        failed = len(self._recent) - sum(self._recent)
        return len(self._recent) >= _FEWEST and failed >= share * len(self._recent)

    def _set_gate(self, result: Result, started: float, now: float, *, is_news: bool) -> None:
        if is_news or started >= self._gate_set_at:  # those that had begun before it was set say nothing new
            self._failures += 1
            self._gate_set_at = now
            self._wait_until = now + self._policy.delay(self._failures, result.retry_after)
            self._untried_wait_until = now + self._policy.delay(1, result.retry_after)
        elif result.retry_after is not None:
            until = now + self._policy.delay(1, result.retry_after)
            self._wait_until = max(self._wait_until, until)
            self._untried_wait_until = max(self._untried_wait_until, until)

    def _answered(self) -> None:
        with self._lock:
            self._last_answer = now = self._clock()
            self.answers += 1
            open_since, self._open_since = self._open_since, None
            failures, self._failed_attempts = self._failed_attempts, 0
            if open_since is not None:
                self._recent.clear()
                self._back_at = now
            self._recent.append(True)
        if open_since is not None:
            self._log.info("backend is back", seconds=round(now - open_since, 3), failures=failures)
