"""Which batch is sent next: a pure function of what waits, the breaker, the spool and the time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

    from drain.delivery.job import Job

LOOK_AGAIN_SECONDS: Final = 1.0  # at a spool that could give nothing, or in which everything rests


@dataclass(frozen=True, slots=True)
class Send:
    """This one; it waits."""

    job: Job


@dataclass(frozen=True, slots=True)
class Take:
    """The oldest that the spool has."""


@dataclass(frozen=True, slots=True)
class Wait:
    """None for so many seconds, unless something changes; None: until then."""

    seconds: float | None


def next_step(
    waiting: Collection[Job],
    *,
    breaker_wait: float | None,
    has_spool: bool,
    may_take: bool,
    is_spools_turn: bool,
    now: float,
) -> Send | Take | Wait:
    """Return what a thread that has nothing to send does.

    Args:
        waiting: oldest first.
        breaker_wait: seconds until the breaker lets an attempt through; None: until the running probe has ended.
        has_spool: whether there is one.
        may_take: whether it has something to give.
        is_spools_turn: whether the last was one that waited.
        now: seconds of the clock of `Job.not_before`.
    """
    if breaker_wait == 0:
        if may_take and is_spools_turn:
            return Take()
        for job in waiting:
            if job.not_before <= now:
                return Send(job)
        if may_take:
            return Take()
    pauses = [] if not breaker_wait else [breaker_wait]
    pauses += [max(0.0, job.not_before - now) for job in waiting]
    if has_spool:
        pauses.append(LOOK_AGAIN_SECONDS)
    return Wait(min((pause for pause in pauses if pause > 0 or breaker_wait == 0), default=None))
