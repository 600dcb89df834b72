"""Which batch is sent next: a pure function of what waits, the breaker, the spool and the time.

Batches that have not failed go first, the oldest of them; so that whatever the backend takes gets to it, those that
failed while others got through (the suspect) have at most half of the threads, and every fourth turn. When most of what
is tried fails, the newest go first: the oldest may be what is wrong. When nearly all fails the breaker lets one attempt
at a time through, and that is made with a batch that nobody has tried, if there is one.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drain.delivery.job import Sending

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from drain.delivery.breaker import BreakerState
    from drain.delivery.job import Job

LOOK_AGAIN_SECONDS: Final = 1.0  # at a spool that could give nothing, or in which everything rests
_SUSPECTS_TURN: Final = 4


class Which(enum.Enum):
    """Which of the spooled batches."""

    UNTRIED = "untried"
    """One that has not failed in this process."""
    UNSUSPECTED = "unsuspected"
    """One that has not failed while others got through."""
    ANY = "any"
    SURE = "sure"
    """One of which it is known what came of each attempt, so that it may go to another destination."""


@dataclass(frozen=True, slots=True)
class Send:
    """This one; it waits.

    Attributes:
        job: which.
        is_move: its destination is away: it is for others, whatever the breaker says.
    """

    job: Job
    is_move: bool = False


@dataclass(frozen=True, slots=True)
class Take:
    """One of those that the spool has.

    Attributes:
        which: of them.
        newest: the last that came, else the first.
    """

    which: Which
    newest: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """None for so many seconds, unless something changes; None: until then."""

    seconds: float | None


@dataclass(frozen=True, slots=True)
class SpoolView:
    """What a spool may give, as far as is known.

    Attributes:
        untried: whether it may have one that has not failed in this process.
        unsuspected: whether it may have one that has not failed while others got through.
        suspect: whether it may have one that has.
    """

    untried: bool
    unsuspected: bool
    suspect: bool


@dataclass(frozen=True, slots=True)
class Turns:
    """Whose turn it is.

    Attributes:
        is_spools: the last that was sent had waited here, so that the next comes from the spool.
        since_suspect: attempts since the last that was to be made with a suspect batch.
        suspects_running: attempts with such batches that run.
        most_suspects: of them at the same time.
    """

    is_spools: bool = False
    since_suspect: int = 0
    suspects_running: int = 0
    most_suspects: int = 1


Step = Send | Take | Wait


def next_step(waiting: Sequence[Job], breaker: BreakerState, spool: SpoolView | None, turns: Turns, now: float) -> Step:
    """Return what a thread that has nothing to send does.

    Args:
        waiting: in the order in which they came.
        breaker: whether anything may be sent.
        spool: None where there is none.
        turns: of new and spooled batches, and of the suspect.
        now: seconds of the clock of `Job.not_before`.
    """
    decided = next((job for job in waiting if not job.left), None)
    if decided is not None:
        return Send(decided)  # nothing is left to be sent
    step = _probe(waiting, breaker, spool, now) if breaker.is_open else _attempt(waiting, breaker, spool, turns, now)
    if step is not None:
        return step
    # What is ready and was not chosen waits for a thread, or for an attempt that is running: both come with a change.
    pauses = [] if breaker.is_probed else [wait for wait in _waits(waiting, breaker, now) if wait > 0]
    return Wait(min(pauses if spool is None else [*pauses, LOOK_AGAIN_SECONDS], default=None))


def is_question_due(question: Job, breaker: BreakerState, now: float) -> bool:
    """Return whether a destination may be asked now whether it is there.

    Args:
        question: an empty request.
        breaker: whether anything may be sent.
        now: the time.
    """
    if question.sending is not Sending.WAITING or breaker.is_probed or question.ready_in(now, breaker.back_at):
        return False
    # Not for as long as one that has failed: each part that is tried meanwhile puts that off.
    return not (breaker.is_open and breaker.untried_wait)


def seconds_until_attempt(waiting: Sequence[Job], breaker: BreakerState, now: float) -> float | None:
    """Return when the first of these may be sent; None when there is none, or a probe is running.

    Args:
        waiting: batches.
        breaker: whether anything may be sent.
        now: the time.
    """
    return None if breaker.is_probed else min(_waits(waiting, breaker, now), default=None)


def _waits(waiting: Sequence[Job], breaker: BreakerState, now: float) -> Iterator[float]:
    for job in waiting:
        if breaker.is_open:
            yield breaker.untried_wait if job.is_untried else breaker.wait
        else:
            yield job.ready_in(now, breaker.back_at)


def _attempt(
    waiting: Sequence[Job], breaker: BreakerState, spool: SpoolView | None, turns: Turns, now: float
) -> Send | Take | None:
    good, suspect = _first_ready(waiting, breaker, now)
    steps: list[Send | Take] = []  # the first is done
    if good is not None:
        steps.append(Send(good))
    if spool is not None and spool.unsuspected:
        take = Take(Which.UNSUSPECTED, newest=breaker.newest_first)
        steps.insert(0 if turns.is_spools else len(steps), take)
    if turns.suspects_running < turns.most_suspects:
        at = 0 if turns.since_suspect >= _SUSPECTS_TURN - 1 else len(steps)
        if suspect is not None:
            steps.insert(at, Send(suspect))
        elif spool is not None and spool.suspect:
            steps.insert(at, Take(Which.ANY))
    return steps[0] if steps else None


def _first_ready(waiting: Sequence[Job], breaker: BreakerState, now: float) -> tuple[Job | None, Job | None]:
    """Return the first of those that are not suspect, and of those that are, among them which may be sent now."""
    good = suspect = None
    for job in waiting:
        if job.own_failures:
            if job.not_before <= now and (suspect is None or job.not_before < suspect.not_before):
                suspect = job
        elif (good is None or breaker.newest_first) and not job.ready_in(now, breaker.back_at):
            good = job
    return good, suspect


def _probe(waiting: Sequence[Job], breaker: BreakerState, spool: SpoolView | None, now: float) -> Send | Take | None:
    if breaker.is_probed:
        return None
    if not breaker.untried_wait:
        untried = next((job for job in reversed(waiting) if job.is_untried), None)
        if untried is not None:
            return Send(untried)
        if spool is not None and spool.untried:
            return Take(Which.UNTRIED, newest=True)
    if breaker.wait:
        return None
    if waiting:
        return Send(min(waiting, key=lambda job: (job.own_failures, job.failures, job.ready_in(now, breaker.back_at))))
    return Take(Which.ANY) if spool is not None and (spool.suspect or spool.unsuspected) else None
