"""Which batch is sent next, case by case: no thread, no clock, no backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from drain.delivery.breaker import BreakerState
from drain.delivery.job import Job
from drain.delivery.queue import Send, SpoolView, Take, Turns, Wait, Which, next_step, seconds_until_attempt
from drain.otlp.request import Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drain.delivery.queue import Step

NOW = 100.0
CLOSED = BreakerState()
STRESSED = BreakerState(newest_first=True)
BACK = BreakerState(back_at=NOW - 1)
OPEN = BreakerState(is_open=True, newest_first=True)
SHUT = BreakerState(is_open=True, newest_first=True, wait=20.0, untried_wait=2.0)
SHUT_FOR_FAILED = BreakerState(is_open=True, newest_first=True, wait=20.0)
PROBED = BreakerState(is_open=True, newest_first=True, is_probed=True)
EMPTY = SpoolView(untried=False, unsuspected=False, suspect=False)
FULL = SpoolView(untried=True, unsuspected=True, suspect=True)
GOOD = SpoolView(untried=True, unsuspected=True, suspect=False)
POISONED = SpoolView(untried=False, unsuspected=False, suspect=True)
FAILED_WITH_THE_BACKEND = SpoolView(untried=False, unsuspected=True, suspect=False)


def job(name: str, **fields: Any) -> Job:
    request = Request(name.encode(), 1, "protobuf")
    return Job(request, 0.0, **fields)


NEW = job("new")
NEWER = job("newer")
FAILED = job("failed", failures=1, failed_at=NOW - 5, not_before=NOW + 7)
FAILED_AND_DUE = job("failed, due", failures=1, failed_at=NOW - 5, not_before=NOW)
TOLD_WHEN = job("told when", failures=1, failed_at=NOW - 5, not_before=NOW + 9, is_told_when=True)
SUSPECT = job("suspect", failures=4, own_failures=2, failed_at=NOW - 5, not_before=NOW - 1)
OLDER_SUSPECT = job("older suspect", failures=4, own_failures=3, failed_at=NOW - 5, not_before=NOW - 2)
SUSPECT_RESTS = job("suspect rests", failures=4, own_failures=2, failed_at=NOW - 5, not_before=NOW + 3)
DECIDED = job("decided", failures=1, not_before=NOW + 50)
DECIDED.left.clear()

SPOOLS_TURN = Turns(is_spools=True)
SUSPECTS_TURN = Turns(since_suspect=3)
SUSPECTS_RUN = Turns(since_suspect=9, suspects_running=2, most_suspects=2)


@pytest.mark.parametrize(
    ("waiting", "breaker", "spool", "turns", "step"),
    [
        # the breaker is closed: oldest first, in turn with the spool
        ([], CLOSED, None, Turns(), Wait(None)),
        ([], CLOSED, EMPTY, Turns(), Wait(1.0)),
        ([NEW, NEWER], CLOSED, None, Turns(), Send(NEW)),
        ([NEW], CLOSED, GOOD, Turns(), Send(NEW)),
        ([NEW], CLOSED, GOOD, SPOOLS_TURN, Take(Which.UNSUSPECTED)),
        ([NEW], CLOSED, EMPTY, SPOOLS_TURN, Send(NEW)),
        ([], CLOSED, GOOD, Turns(), Take(Which.UNSUSPECTED)),
        # one that failed with the backend waits its time, or until the backend is back
        ([FAILED], CLOSED, None, Turns(), Wait(7.0)),
        ([FAILED], CLOSED, EMPTY, Turns(), Wait(1.0)),
        ([FAILED], BACK, None, Turns(), Send(FAILED)),
        ([FAILED, NEW], CLOSED, None, Turns(), Send(NEW)),
        ([FAILED_AND_DUE, NEW], CLOSED, None, Turns(), Send(FAILED_AND_DUE)),
        ([TOLD_WHEN], BACK, None, Turns(), Wait(9.0)),
        ([SUSPECT_RESTS], BACK, None, Turns(), Wait(3.0)),
        # the suspect do not stand before the others, and are not forgotten
        ([SUSPECT, NEW], CLOSED, None, Turns(), Send(NEW)),
        ([SUSPECT], CLOSED, GOOD, Turns(), Take(Which.UNSUSPECTED)),
        ([SUSPECT, OLDER_SUSPECT], CLOSED, None, Turns(), Send(OLDER_SUSPECT)),
        ([SUSPECT, NEW], CLOSED, None, SUSPECTS_TURN, Send(SUSPECT)),
        ([NEW], CLOSED, FULL, SUSPECTS_TURN, Take(Which.ANY)),
        ([NEW], CLOSED, POISONED, Turns(), Send(NEW)),
        ([], CLOSED, POISONED, Turns(), Take(Which.ANY)),
        # nor take more than their share of the threads
        ([SUSPECT, NEW], CLOSED, FULL, SUSPECTS_RUN, Send(NEW)),
        ([SUSPECT], CLOSED, None, SUSPECTS_RUN, Wait(None)),
        ([SUSPECT, FAILED], CLOSED, None, SUSPECTS_RUN, Wait(7.0)),
        ([], CLOSED, POISONED, SUSPECTS_RUN, Wait(1.0)),
        # most fails: the newest first
        ([NEW, NEWER], STRESSED, None, Turns(), Send(NEWER)),
        ([], STRESSED, GOOD, Turns(), Take(Which.UNSUSPECTED, newest=True)),
        # open: a probe, of one that nobody has tried, if there is one
        ([FAILED_AND_DUE, NEW, NEWER, SUSPECT], OPEN, FULL, Turns(), Send(NEWER)),
        ([FAILED_AND_DUE, SUSPECT], OPEN, FULL, Turns(), Take(Which.UNTRIED, newest=True)),
        ([SUSPECT, FAILED], OPEN, POISONED, Turns(), Send(FAILED)),
        ([OLDER_SUSPECT, SUSPECT], OPEN, POISONED, Turns(), Send(SUSPECT)),
        ([], OPEN, POISONED, Turns(), Take(Which.ANY)),
        ([], OPEN, FAILED_WITH_THE_BACKEND, Turns(), Take(Which.ANY)),
        ([], OPEN, EMPTY, Turns(), Wait(1.0)),
        # and not before its time
        ([NEW], SHUT, None, Turns(), Wait(2.0)),
        ([FAILED, SUSPECT], SHUT, None, Turns(), Wait(20.0)),
        ([FAILED, SUSPECT], SHUT_FOR_FAILED, None, Turns(), Wait(20.0)),
        ([FAILED, NEW], SHUT_FOR_FAILED, None, Turns(), Send(NEW)),
        ([FAILED], SHUT_FOR_FAILED, FULL, Turns(), Take(Which.UNTRIED, newest=True)),
        ([NEW, FAILED_AND_DUE], PROBED, None, Turns(), Wait(None)),
        ([NEW, FAILED_AND_DUE], PROBED, FULL, Turns(), Wait(1.0)),
        # one of which nothing is left to be sent asks nobody
        ([NEW, DECIDED], CLOSED, FULL, Turns(), Send(DECIDED)),
        ([NEW, DECIDED], PROBED, None, Turns(), Send(DECIDED)),
    ],
)
def test_what_is_sent_next(
    waiting: Sequence[Job], breaker: BreakerState, spool: SpoolView | None, turns: Turns, step: Step
) -> None:
    assert next_step(waiting, breaker, spool, turns, NOW) == step


@pytest.mark.parametrize(
    ("waiting", "breaker", "seconds"),
    [
        ([], CLOSED, None),
        ([NEW], CLOSED, 0.0),
        ([FAILED, TOLD_WHEN], CLOSED, 7.0),
        ([FAILED, TOLD_WHEN], BACK, 0.0),
        ([FAILED], SHUT, 20.0),
        ([FAILED, NEW], SHUT, 2.0),
        ([NEW], PROBED, None),
    ],
)
def test_when_the_next_attempt_is_made(waiting: Sequence[Job], breaker: BreakerState, seconds: float | None) -> None:
    assert seconds_until_attempt(waiting, breaker, NOW) == seconds
