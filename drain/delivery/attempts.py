"""Sends what is left of a part, and says what each answer means for it."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Final, assert_never

from google.protobuf.message import DecodeError

from drain.accounting.outcome import Outcome
from drain.delivery.halves import pieces
from drain.delivery.route import where
from drain.exporters.protocol import Result, Verdict, group_exporter, most_bytes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from drain.delivery.dead_letters import DeadLetters
    from drain.delivery.hand_over import HandOver
    from drain.delivery.job import Job
    from drain.delivery.request_size import RequestSize
    from drain.delivery.retry import RetryPolicy
    from drain.delivery.route import Route
    from drain.exporters.protocol import Exporter
    from drain.otlp.request import Request

# After so many failures while most others got through, it is the batch. Without a spool it then has to go when half
# of its lane waits behind it: the producer would drop what the backend takes.
_SURE_FAILURES: Final = 20

# Of the bound, by a piece: spans differ, and each piece has the resource again.
_FILLED: Final = 0.8


class Attempts:
    """Makes the attempts for batches; any thread may call it.

    Args:
        exporter: sends.
        policy: when to give up.
        route_of: to a destination; its breaker is told what came of each attempt.
        size: how large requests may be.
        dead_letters: where refused batches are kept; None: nowhere.
        divide: lets what is left of a part be jobs of their own; returns whether they are.
        hand_over: knows which destinations are left to the others.
        has_spool: whether batches that wait let their lanes go on.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        exporter: Exporter,
        policy: RetryPolicy,
        route_of: Callable[[str], Route],
        size: RequestSize,
        dead_letters: DeadLetters | None,
        *,
        divide: Callable[[Job], bool],
        hand_over: HandOver,
        has_spool: bool,
        clock: Callable[[], float],
    ) -> None:
        self._exporter = exporter
        self._policy = policy
        self._route_of = route_of
        self._size = size
        self._dead_letters = dead_letters
        self._divide = divide
        self._hand_over = hand_over
        self._has_spool = has_spool
        self._clock = clock

    @property
    def most_bytes(self) -> int:
        """How large a body may be, by what the destination has told and refused."""
        told = most_bytes_of(self._exporter)
        return self._size.bytes if told is None else min(told, self._size.bytes)

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, bool]]:
        """Send what is left of parts, of each one request at a time, and those of all together.

        Yields:
            each part, and whether all of it has its final verdict: as soon as that is so, or it has to wait, or its
            pieces are jobs of their own.
        """
        going = list(jobs)
        while going:
            ready = []
            for job in going:
                if self._is_ready(job):
                    ready.append(job)
                else:
                    yield job, not job.left
            started = self._clock()
            results = self._export([job.left[0] for job in ready]) if ready else []
            # All are noted before the first is told: what raises here must not let the others be sent again.
            going = [job for job, result in zip(ready, results, strict=True) if self._goes_on(job, result, started)]
            for job in ready:
                if job not in going:
                    yield job, False

    def _is_ready(self, job: Job) -> bool:
        """Return whether the first request of a part is to be sent; not where none is left, or it waits to be kept."""
        while job.left:
            request = job.left[0]
            if job.refusal is not None:
                if not self._is_put_away(job, request, job.refusal):
                    return self._waits_to_be_kept(job, job.refusal)
                continue
            made = self._hand_over.rehomed(job, request)
            if made == []:
                return False
            if made is None:
                count = self._pieces(job, request)
                made = None if count <= 1 else _pieces_of(request, count)
            if made is None:
                return True
            if self._is_divided(job, made):
                return False
        return False

    def _is_divided(self, job: Job, made: Sequence[Request]) -> bool:
        """Put pieces in the place of the first request; return whether they are no longer this job's."""
        job.left = deque((*made, *tuple(job.left)[1:]))
        return self._divide(job)

    def _pieces(self, job: Job, request: Request) -> int:
        """Return into how many requests one is cut before it is sent; 1: it is sent as it is."""
        timely = self._route_of(request.destination).timely
        by_spans = 2 if request.spans > min(timely.most, job.most_spans) else 1
        size, most = request.body_bytes, self.most_bytes
        by_bytes = 1 if size <= most else math.ceil(size / (most * _FILLED))
        return min(request.spans, max(by_spans, by_bytes))

    def _goes_on(self, job: Job, result: Result, started: float) -> bool:
        """Take note of what came of the first request; return whether the part goes on with what is left then."""
        request = job.left[0]
        route = self._route_of(request.destination)
        breaker = route.breaker
        if not result.is_timeout:
            route.timely.answered(request.spans)
        match result.verdict:
            case Verdict.DELIVERED:
                rejected = min(result.rejected, request.spans)
                _decide(job, Outcome(delivered=request.spans - rejected, rejected=rejected))
                self._size.took(request.body_bytes)
                breaker.took(request, result)
            case Verdict.TOO_LARGE if request.spans > 1 and (made := _pieces_of(request, 2)) is not None:
                if result.is_about_size:
                    self._size.was_refused(request.body_bytes)
                breaker.found_too_large(request, result)
                return not self._is_divided(job, made)
            case Verdict.REFUSED | Verdict.TOO_LARGE if not request.spans:
                breaker.took(request, result)  # it answers
                _decide(job, Outcome())
            case Verdict.REFUSED | Verdict.TOO_LARGE:
                breaker.refused(request, result)
                return self._is_put_away(job, request, result) or self._waits_to_be_kept(job, result)
            case Verdict.RETRY:
                return self._failed(job, request, result, started, route)
            case _:
                assert_never(result.verdict)
        return True

    def _export(self, requests: Sequence[Request]) -> Sequence[Result]:
        try:
            together = group_exporter(self._exporter)
            if together is not None:
                return together.export_together(requests)
            (request,) = requests
            return [self._exporter.export(request)]
        except ValueError as error:  # a spooled request in another encoding, which does not parse
            verdict = Verdict.REFUSED if len(requests) == 1 else Verdict.RETRY  # of several nobody knows which
            return [Result(verdict, message=str(error))] * len(requests)
        except Exception as error:  # noqa: BLE001 - no memory, no thread: a batch that nobody settles would wait for ever
            return [Result(Verdict.RETRY, message=repr(error))] * len(requests)

    def _failed(self, job: Job, request: Request, result: Result, started: float, route: Route) -> bool:
        """Note an attempt in vain; return whether the part goes on with its next request: this one is given up."""
        breaker = route.breaker
        job.failures += 1
        job.is_doubtful |= not result.is_not_taken
        if result.is_timeout and request.spans > 1:
            breaker.timed_out(request, result, route.timely.timed_out(request.spans))
        breaker.failed(request, result, started, job)
        if result.may_be_too_large and request.spans > 1:
            job.most_spans = (request.spans + 1) // 2
            breaker.may_be_too_large(request, result)
        if not (self._gives_up(job) and self._is_put_away(job, request, result)):
            return False
        breaker.gave_up(request, result, job)
        return True

    def _gives_up(self, job: Job) -> bool:
        if not job.spans:
            return False  # it asks whether the destination is there, for as long as nobody knows
        if self._policy.gives_up(self._clock() - job.born) or self._policy.has_enough_of(job.sure_failures):
            return True
        is_sure = self._policy.attempts_limit > 0 and job.sure_failures >= _SURE_FAILURES
        return is_sure and not self._has_spool and job.batch is not None and job.batch.is_pressing()

    def _is_put_away(self, job: Job, request: Request, result: Result) -> bool:
        """Give the first, which is not to be sent again, its outcome; return False where it cannot be kept now."""
        if self._dead_letters is None:
            _decide(job, Outcome(rejected=request.spans))
        elif self._dead_letters.keep(request, result.message, where(self._exporter.endpoint, request.destination)):
            _decide(job, Outcome(dead_lettered=request.spans))
        else:
            return False
        return True

    def _waits_to_be_kept(self, job: Job, refusal: Result) -> bool:
        """Let a batch wait as one that failed for itself; returns that it has no verdict yet."""
        job.refusal = refusal
        job.failures += 1
        job.own_failures += 1
        job.failed_at = self._clock()
        job.not_before = job.failed_at + self._policy.delay(job.failures)
        return False


def _pieces_of(request: Request, count: int) -> list[Request] | None:
    """Return a request in pieces; None where nobody can read it."""
    try:
        return pieces(request, count)
    except (DecodeError, ValueError):
        return None


def _decide(job: Job, became: Outcome) -> None:
    """Let the first request have its final outcome."""
    so_far = Outcome(*map(sum, zip(job.so_far, became, strict=True)))
    job.left.popleft()
    job.so_far = so_far
    job.refusal = None
