"""The threads that deliver, and their supervision."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from drain.delivery.dispatch import Dispatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from drain.delivery.dead_letters import DeadLetters
    from drain.delivery.dispatch import Hand
    from drain.delivery.retry import RetryPolicy
    from drain.exporters.protocol import Exporter
    from drain.spool.spool import Spool

_PAUSE_SECONDS: Final = 0.05  # after an error, which may be want of memory
_MOST_ERRORS: Final = 100  # of a thread in a row: then it is no passing want


class Delivery(Dispatch):
    """Threads that send batches, and try again until each has its final verdict.

    Args:
        exporter: makes the attempts.
        policy: how long to wait between them.
        concurrency: how many batches are sent at the same time.
        done: called by a thread when it has settled a batch.
        log: for state changes.
        clock: seconds that never go back.
        spool: where batches go that wait; None: they stay in the rings.
        spool_after: seconds that a batch may wait before that.
        dead_letters: where refused batches are kept; None: nowhere.
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
        spool: Spool | None = None,
        spool_after: float = 0.0,
        dead_letters: DeadLetters | None = None,
    ) -> None:
        super().__init__(
            exporter,
            policy,
            concurrency,
            done=done,
            log=log,
            clock=clock,
            spool=spool,
            spool_after=spool_after,
            dead_letters=dead_letters,
        )
        self._why_ended = ""
        # Daemons: an attempt that hangs in a system call must not keep a stopped drain alive.
        self._threads = [
            threading.Thread(target=self._work, args=(self.hand(),), name=f"delivery-{number}", daemon=True)
            for number in range(concurrency)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def why_broken(self) -> str:
        """Why a thread has ended that was to go on; empty as long as none has."""
        if self.is_stopping:
            return ""
        if self._why_ended or not all(thread.is_alive() for thread in self._threads):
            return f"a delivery thread has ended: {self._why_ended or 'nobody knows why'}"
        return f"batches are not stored any more: {self.why_not_stored}" if self.why_not_stored else ""

    def stop(self, seconds: float) -> bool:
        """End the threads: attempts that run are finished, waits are cut short; return whether all ended in time."""
        self.begin_stop()
        deadline = self._clock() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - self._clock()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self, hand: Hand) -> None:
        errors = 0  # in a row
        try:
            while not self.is_stopping:
                try:
                    wait = self.advance(hand)
                    if wait is not None:
                        self.wait(hand, wait.seconds)
                    errors = 0
                except Exception as error:
                    errors += 1
                    if errors > _MOST_ERRORS:
                        raise
                    hand.error = error
                    time.sleep(_PAUSE_SECONDS)
        except BaseException as error:
            self._why_ended = repr(error)
            self._done()
            raise
