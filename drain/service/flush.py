"""What waits in the hold is decided on what is known and delivered, with no service running."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from drain.accounting.hold_sums import HOLD_SUM_NAMES, HoldSums
from drain.delivery.batch import Batcher
from drain.delivery.delivery import Delivery

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from drain.accounting.sampling_status import SamplingStatus
    from drain.delivery.dead_letters import DeadLetters
    from drain.delivery.retry import RetryPolicy
    from drain.exporters.protocol import Exporter
    from drain.service.limits import Limits
    from drain.service.sampling_plan import SamplingPlan

_NAP_SECONDS: Final = 0.1
_LAST_MOMENT_SECONDS: Final = 0.5  # for threads whose wait was cut short to end


class Flushed(NamedTuple):
    """What became of what waited.

    Attributes:
        sums: of all services; what is `waiting` is left for the next drain.
        sampling: what the rules decided.
    """

    sums: HoldSums
    sampling: SamplingStatus


class Flush:
    """Empties a hold.

    Args:
        plan: the rules, and the hold, which is closed with this.
        exporter: where what is kept goes; the caller closes it.
        policy: when to send a batch again.
        limits: sizes; `shutdown_timeout` is for how long nothing may be delivered before the rest is left.
        dead_letters: where refused batches are kept; None: nowhere.
        log: for changes of state.
        clock: seconds that never go back.

    Attributes:
        found: how many spans waited when it began, of which some may be lost.
        threads_ended: whether all threads have, once it has run.
    """

    def __init__(
        self,
        plan: SamplingPlan,
        exporter: Exporter,
        policy: RetryPolicy,
        limits: Limits,
        *,
        dead_letters: DeadLetters | None,
        log: FilteringBoundLogger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_stopped = False
        self.threads_ended = False
        self._hold = plan.hold
        self.found = sum(sums.taken_up for sums in plan.hold.sums().values())
        self._limits = limits
        self._clock = clock
        self._settled = threading.Event()
        self._batcher = Batcher(exporter.encoding, limits.batch_spans, limits.batch_bytes)
        self._late = plan.decider(self._batcher, exporter, limits, log=log, clock=clock)
        self._delivery = Delivery(
            exporter,
            policy,
            limits.concurrency,
            done=self._settled.set,
            log=log,
            clock=clock,
            dead_letters=dead_letters,
        )

    def stop(self) -> None:
        """Let what is not delivered by now stay in the hold; for signal handlers, and any thread."""
        self._is_stopped = True

    def run(self, progress: Callable[[int], None] = lambda _: None) -> Flushed:
        """Decide and deliver until nothing waits, nothing moves any more, or somebody has stopped it.

        Args:
            progress: told again and again how many spans wait.
        """
        deadline = self._clock() + self._limits.shutdown_timeout
        while self._late.waiting and not self._is_stopped and self._clock() < deadline:
            self._batcher.max_spans = min(self._limits.batch_spans, self._delivery.most_spans)
            self._batcher.max_bytes = min(self._limits.batch_bytes, self._delivery.most_bytes)
            self._late.decide_all(time.monotonic_ns())
            self._send()
            self._settled.wait(_NAP_SECONDS)
            if self._settle():
                deadline = self._clock() + self._limits.shutdown_timeout
            progress(self._late.waiting)
        left = deadline - self._clock() if self._is_stopped else 0.0
        self.threads_ended = self._delivery.stop(max(_LAST_MOMENT_SECONDS, left))
        self._settle()
        progress(self._late.waiting)
        every = self._hold.sums().values()
        sums = HoldSums(*(sum(getattr(one, name) for one in every) for name in HOLD_SUM_NAMES))
        return Flushed(sums, self._late.status())

    def close(self) -> None:
        """Let go of the hold."""
        self._late.close()

    def _send(self) -> None:
        if not self._batcher.full and self._batcher.spans and self._delivery.is_idle:
            self._batcher.close()
        while self._batcher.full and self._delivery.has_room:
            self._delivery.send(self._batcher.full.popleft())

    def _settle(self) -> bool:
        self._settled.clear()
        batches = self._delivery.settled()
        self._late.settle(batches)
        return bool(batches)
