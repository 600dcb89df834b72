"""Sends what is left of a batch, and says what each answer means for it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, assert_never

from google.protobuf.message import DecodeError

from drain.accounting.outcome import Outcome
from drain.delivery.halves import halves
from drain.exporters.protocol import Result, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from drain.delivery.breaker import Breaker
    from drain.delivery.dead_letters import DeadLetters
    from drain.delivery.job import Job
    from drain.delivery.request_size import RequestSize
    from drain.delivery.retry import RetryPolicy
    from drain.exporters.protocol import Exporter
    from drain.otlp.request import Request

# After so many failures while most others got through, it is the batch. Without a spool it then has to go when half
# of its lane waits behind it: the producer would drop what the backend takes.
_SURE_FAILURES: Final = 20


class Attempts:
    """Makes the attempts for batches; any thread may call it.

    Args:
        exporter: sends.
        policy: when to give up.
        breaker: is told what came of each attempt.
        size: how large requests may be.
        dead_letters: where refused batches are kept; None: nowhere.
        has_spool: whether batches that wait let their lanes go on.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        exporter: Exporter,
        policy: RetryPolicy,
        breaker: Breaker,
        size: RequestSize,
        dead_letters: DeadLetters | None,
        *,
        has_spool: bool,
        clock: Callable[[], float],
    ) -> None:
        self._exporter = exporter
        self._policy = policy
        self._breaker = breaker
        self._size = size
        self._dead_letters = dead_letters
        self._has_spool = has_spool
        self._clock = clock

    def run(self, job: Job) -> bool:
        """Send what is left of a batch; return whether all of it has its final verdict."""
        while job.parts:
            request = job.parts[0]
            if request.spans > self._size.spans and _is_halved(job):
                continue
            started = self._clock()
            result = self._export(request)
            if not result.is_timeout:
                self._size.answered(request.spans)
            match result.verdict:
                case Verdict.DELIVERED:
                    rejected = min(result.rejected, request.spans)
                    _decide(job, Outcome(delivered=request.spans - rejected, rejected=rejected))
                    self._breaker.took(request, result)
                case Verdict.TOO_LARGE if request.spans > 1 and _is_halved(job):
                    self._breaker.found_too_large(request, result)
                case Verdict.REFUSED | Verdict.TOO_LARGE:
                    kept = self._keep(request, result)
                    _decide(job, Outcome(dead_lettered=request.spans) if kept else Outcome(rejected=request.spans))
                    self._breaker.refused(request, result)
                case Verdict.RETRY:
                    if not self._failed(job, request, result, started):
                        return False
                case _:
                    assert_never(result.verdict)
        return True

    def _export(self, request: Request) -> Result:
        try:
            return self._exporter.export(request)
        except ValueError as error:  # a spooled request in another encoding, which does not parse
            return Result(Verdict.REFUSED, message=str(error))
        except Exception as error:  # noqa: BLE001 - no memory, no thread: a batch that nobody settles would wait for ever
            return Result(Verdict.RETRY, message=repr(error))

    def _failed(self, job: Job, request: Request, result: Result, started: float) -> bool:
        """Note an attempt in vain; return whether the batch goes on with its next part, since this one is given up."""
        job.failures += 1
        if result.is_timeout and request.spans > 1:
            self._breaker.timed_out(request, result, self._size.timed_out(request.spans))
        self._breaker.failed(request, result, started, job)
        if not self._gives_up(job):
            return False
        kept = self._keep(request, result)
        if self._dead_letters is not None and not kept:
            return False  # it waits until it can be kept
        _decide(job, Outcome(dead_lettered=request.spans) if kept else Outcome(rejected=request.spans))
        self._breaker.gave_up(request, result, job)
        return True

    def _gives_up(self, job: Job) -> bool:
        if self._policy.gives_up(self._clock() - job.born) or self._policy.has_enough_of(job.sure_failures):
            return True
        is_sure = self._policy.attempts_limit > 0 and job.sure_failures >= _SURE_FAILURES
        return is_sure and not self._has_spool and job.batch is not None and job.batch.is_pressing()

    def _keep(self, request: Request, result: Result) -> bool:
        letters = self._dead_letters
        return letters is not None and letters.keep(request, result.message, self._exporter.endpoint)


def _is_halved(job: Job) -> bool:
    """Cut the first part in halves, unless nobody can read it."""
    try:
        first, second = halves(job.parts[0])
    except (DecodeError, ValueError):
        return False
    job.parts = deque((first, second, *tuple(job.parts)[1:]))
    return True


def _decide(job: Job, became: Outcome) -> None:
    """Let the first part have its final outcome."""
    so_far = Outcome(*map(sum, zip(job.so_far, became, strict=True)))
    job.parts.popleft()
    job.so_far = so_far
