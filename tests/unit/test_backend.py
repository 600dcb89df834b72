"""The gate before the backend: shut while that is down, one probe at a time, and open for all when one gets through."""

from __future__ import annotations

import pytest
import structlog

from drain.delivery.breaker import Backend
from drain.delivery.retry import RetryPolicy
from drain.exporters import Request, Result, Verdict

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
def backend(clock: Clock) -> Backend:
    policy = RetryPolicy(initial=1.0, maximum=8.0, multiplier=2.0, random=lambda: 0.5)
    return Backend("test", policy, structlog.get_logger(), clock)


def fail(backend: Backend, clock: Clock, result: Result = RETRY, *, started: float | None = None) -> float:
    return backend.failed(BATCH, result, clock.seconds if started is None else started, 1)


def test_it_opens_after_the_policy_s_waits_and_shuts_again(backend: Backend, clock: Clock) -> None:
    assert backend.seconds_until_try() == 0
    for wait in (1, 2, 4, 8, 8):
        backend.begin()
        assert fail(backend, clock) == wait
        assert backend.seconds_until_try() == wait
        assert backend.is_down
        clock.seconds += wait
        assert backend.seconds_until_try() == 0


def test_a_probe_goes_alone_and_lets_all_in_when_it_gets_through(backend: Backend, clock: Clock) -> None:
    fail(backend, clock)
    clock.seconds += 1
    backend.begin()
    assert backend.seconds_until_try() is None
    backend.took(BATCH, DELIVERED)
    assert backend.seconds_until_try() == 0
    backend.begin()
    assert backend.seconds_until_try() == 0, "no probe any more"


def test_a_probe_that_is_not_made_leaves_the_next_one_free(backend: Backend, clock: Clock) -> None:
    fail(backend, clock)
    clock.seconds += 1
    backend.begin()
    backend.cancel()
    assert backend.seconds_until_try() == 0


def test_attempts_that_had_begun_when_it_shut_do_not_lengthen_the_wait(backend: Backend, clock: Clock) -> None:
    before = clock.seconds
    clock.seconds += 0.5
    fail(backend, clock, started=before)
    clock.seconds += 0.5
    assert fail(backend, clock, started=before) == 0.5
    assert fail(backend, clock, Result(Verdict.RETRY, retry_after=60), started=before) == 60


def test_a_batch_that_fails_beside_others_that_get_through_does_not_shut_it(backend: Backend, clock: Clock) -> None:
    started = clock.seconds
    clock.seconds += 1
    backend.took(BATCH, DELIVERED)
    assert backend.failed(BATCH, RETRY, started, failures=3) == 4, "the batch waits, by its own failures"
    assert backend.seconds_until_try() == 0
    assert not backend.is_down


def test_a_refusal_is_an_answer(backend: Backend, clock: Clock) -> None:
    fail(backend, clock)
    backend.refused(BATCH, Result(Verdict.REFUSED))
    assert not backend.is_down
