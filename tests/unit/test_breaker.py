"""The circuit breaker: open while the backend is down, one probe at a time, and closed when one gets through."""

from __future__ import annotations

import pytest
import structlog

from drain.delivery.breaker import Breaker
from drain.delivery.retry import RetryPolicy
from drain.exporters.protocol import Result, Verdict
from drain.otlp.request import Request

BATCH = Request(b"", 3, "protobuf")
RETRY = Result(Verdict.RETRY, message="down")
DELIVERED = Result(Verdict.DELIVERED)


class Clock:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    policy = RetryPolicy(initial=1.0, maximum=8.0, multiplier=2.0, random=lambda: 0.5)
    return Breaker("test", policy, structlog.get_logger(), clock)


def fail(breaker: Breaker, clock: Clock, result: Result = RETRY, *, started: float | None = None) -> float:
    return breaker.failed(BATCH, result, clock.seconds if started is None else started, 1)


def test_it_lets_a_probe_through_after_the_policy_s_waits(breaker: Breaker, clock: Clock) -> None:
    assert breaker.seconds_until_try() == 0
    for wait in (1, 2, 4, 8, 8):
        breaker.begin()
        assert fail(breaker, clock) == wait
        assert breaker.seconds_until_try() == wait
        assert breaker.is_down
        clock.seconds += wait
        assert breaker.seconds_until_try() == 0


def test_a_probe_goes_alone_and_closes_it_when_it_gets_through(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, clock)
    clock.seconds += 1
    breaker.begin()
    assert breaker.seconds_until_try() is None
    breaker.took(BATCH, DELIVERED)
    assert breaker.seconds_until_try() == 0
    breaker.begin()
    assert breaker.seconds_until_try() == 0, "no probe any more"


def test_a_probe_that_is_not_made_leaves_the_next_one_free(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, clock)
    clock.seconds += 1
    breaker.begin()
    breaker.cancel()
    assert breaker.seconds_until_try() == 0


def test_attempts_that_had_begun_when_it_opened_do_not_lengthen_the_wait(breaker: Breaker, clock: Clock) -> None:
    before = clock.seconds
    clock.seconds += 0.5
    fail(breaker, clock, started=before)
    clock.seconds += 0.5
    assert fail(breaker, clock, started=before) == 0.5
    assert fail(breaker, clock, Result(Verdict.RETRY, retry_after=60), started=before) == 60


def test_a_batch_that_fails_beside_others_that_get_through_does_not_open_it(breaker: Breaker, clock: Clock) -> None:
    started = clock.seconds
    clock.seconds += 1
    breaker.took(BATCH, DELIVERED)
    assert breaker.failed(BATCH, RETRY, started, failures=3) == 4, "the batch waits, by its own failures"
    assert breaker.seconds_until_try() == 0
    assert not breaker.is_down


def test_a_refusal_is_an_answer(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, clock)
    breaker.refused(BATCH, Result(Verdict.REFUSED))
    assert not breaker.is_down
