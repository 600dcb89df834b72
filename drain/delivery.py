"""Delivers batches with several threads, and tries again until each has its final verdict.

What becomes of a batch is decided here and nowhere else: the records behind it are released by `drain.service`, in
order, when its batch is settled. A batch that is not settled stays in the rings.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, assert_never

from drain.exporters import Verdict
from drain.log import RepeatedTrouble
from drain.ring import Outcome
from drain.split import halves

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from drain.batch import Batch
    from drain.exporters import Exporter, Request, Result
    from drain.retry import RetryPolicy


class Delivery:
    """Threads that send batches.

    Args:
        exporter: makes the attempts.
        policy: how long to wait between them.
        concurrency: how many batches are sent at the same time.
        done: called by a thread when it has settled or abandoned a batch.
        log: for state changes.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        exporter: Exporter,
        policy: RetryPolicy,
        concurrency: int,
        *,
        done: Callable[[], None],
        log: FilteringBoundLogger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._exporter = exporter
        self._policy = policy
        self._concurrency = concurrency
        self._done = done
        self._backend = _Backend(exporter.endpoint, log, clock)
        self._clock = clock
        self._waiting: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._settled: deque[Batch] = deque()
        self._in_flight = 0
        self._abandon = threading.Event()
        # Daemons: an attempt that hangs in a system call must not keep a stopped drain alive.
        self._threads = [
            threading.Thread(target=self._work, name=f"delivery-{number}", daemon=True) for number in range(concurrency)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def has_room(self) -> bool:
        """Whether `send` may be called: one batch more than threads, so that a thread that is done has the next."""
        return self._in_flight <= self._concurrency

    @property
    def is_idle(self) -> bool:
        """Whether a thread waits for work."""
        return self._in_flight < self._concurrency

    @property
    def in_flight(self) -> int:
        """Batches that were sent and not taken back by `settled`."""
        return self._in_flight

    @property
    def has_settled(self) -> bool:
        """Whether `settled` has something to give."""
        return bool(self._settled)

    def send(self, batch: Batch) -> None:
        """Send a batch; `settled` gives it back."""
        self._in_flight += 1
        self._waiting.put(batch)

    def settled(self) -> list[Batch]:
        """Return the batches that got their final outcome since the last call."""
        batches = []
        while self._settled:
            batches.append(self._settled.popleft())
        self._in_flight -= len(batches)
        return batches

    def stop(self, seconds: float) -> bool:
        """End the threads: attempts that run are finished, waits are cut short; return whether all ended in time."""
        self._abandon.set()
        for _ in self._threads:
            self._waiting.put(None)
        deadline = self._clock() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - self._clock()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while (batch := self._waiting.get()) is not None:
            outcome = self._deliver(batch.request)
            if outcome is not None:
                batch.settle(outcome)
                self._settled.append(batch)
            self._done()

    def _deliver(self, request: Request) -> Outcome | None:
        """Send a request until its final verdict; None when that did not come before `stop`."""
        started = self._clock()
        failures = 0
        while not self._abandon.is_set():
            result = self._exporter.export(request)
            match result.verdict:
                case Verdict.DELIVERED:
                    self._backend.took(request, result)
                    rejected = min(result.rejected, request.spans)
                    return Outcome(delivered=request.spans - rejected, rejected=rejected)
                case Verdict.REFUSED:
                    self._backend.refused(request, result)
                    return Outcome(rejected=request.spans)
                case Verdict.TOO_LARGE if request.spans > 1:
                    self._backend.found_too_large(request, result)
                    return self._deliver_halves(request)
                case Verdict.TOO_LARGE:
                    self._backend.refused(request, result)
                    return Outcome(rejected=request.spans)
                case Verdict.RETRY:
                    failures += 1
                    self._backend.failed(request, result)
                    if self._policy.gives_up(self._clock() - started):
                        self._backend.refused(request, result)
                        return Outcome(rejected=request.spans)
                    self._abandon.wait(self._policy.delay(failures, result.retry_after))
                case _:
                    assert_never(result.verdict)
        return None

    def _deliver_halves(self, request: Request) -> Outcome | None:
        total = Outcome()
        for half in halves(request):
            outcome = self._deliver(half)
            if outcome is None:
                return None  # the half that arrived is sent again by the next drain: better twice than never
            total = Outcome(*map(sum, zip(total, outcome, strict=True)))
        return total


class _Backend:
    """What is known of the backend, told to the log at each change."""

    def __init__(self, endpoint: str, log: FilteringBoundLogger, clock: Callable[[], float]) -> None:
        self._log = log.bind(endpoint=endpoint)
        self._trouble = RepeatedTrouble(self._log, clock)
        self._clock = clock
        self._lock = threading.Lock()
        self._down_since: float | None = None
        self._failures = 0

    def took(self, request: Request, result: Result) -> None:
        with self._lock:
            down_since, self._down_since = self._down_since, None
            failures, self._failures = self._failures, 0
        if down_since is not None:
            self._log.info("backend is back", seconds=round(self._clock() - down_since, 3), failures=failures)
        if result.rejected:
            self._trouble.warn(
                "backend rejected spans", rejected=result.rejected, of=request.spans, reason=result.message
            )
        elif result.message:
            self._trouble.warn("backend warns", reason=result.message)

    def failed(self, request: Request, result: Result) -> None:
        with self._lock:
            is_news = self._down_since is None
            if is_news:
                self._down_since = self._clock()
            self._failures += 1
        if is_news:
            self._log.warning(
                "backend is unavailable, spans wait in the rings", reason=result.message, spans=request.spans
            )

    def refused(self, request: Request, result: Result) -> None:
        self._trouble.warn("backend refused spans for good", spans=request.spans, reason=result.message)

    def found_too_large(self, request: Request, result: Result) -> None:
        self._trouble.warn(
            "backend takes no request of this size, its halves are sent",
            spans=request.spans,
            bytes=len(request.body),
            reason=result.message,
        )
