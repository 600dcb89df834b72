"""The circuit breaker: open when nothing gets through, one probe at a time, and closed when one does."""

from __future__ import annotations

import pytest
import structlog

from drain.delivery.breaker import Breaker, opens
from drain.delivery.job import Job
from drain.delivery.retry import RetryPolicy
from drain.exporters.protocol import Result, Verdict
from drain.otlp.request import Request
from tests.clocks import Clock

BATCH = Request(b"", 3, "protobuf")
RETRY = Result(Verdict.RETRY, message="down")
DELIVERED = Result(Verdict.DELIVERED)
ENOUGH = 5


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    policy = RetryPolicy(initial=1.0, maximum=8.0, multiplier=2.0, random=lambda: 0.5)
    return Breaker("test", policy, structlog.get_logger(), clock)


@pytest.mark.parametrize(
    ("recent", "silent_seconds", "is_nothing_taken"),
    [
        ([], 1e9, False),
        ([False] * 4, 1e9, False),
        ([False] * 5, 1e9, True),
        ([False] * 5, 1.0, True),
        ([False] * 30, 0.9, False),  # a flood of batches that are never taken, between two that are
        ([True, False, False, False, False, False], 1e9, False),
        ([False] * 29 + [True], 1e9, False),
    ],
)
def test_when_a_backend_takes_nothing_any_more(
    recent: list[bool], silent_seconds: float, *, is_nothing_taken: bool
) -> None:
    assert opens(recent, silent_seconds) is is_nothing_taken


def a_job() -> Job:
    return Job(BATCH, 0.0)


def fail(
    breaker: Breaker, clock: Clock, result: Result = RETRY, *, started: float | None = None, job: Job | None = None
) -> Job:
    job = job or a_job()
    job.failures += 1
    breaker.failed(BATCH, result, clock.now if started is None else started, job)
    return job


def open_it(breaker: Breaker, clock: Clock, result: Result = RETRY) -> None:
    for _ in range(ENOUGH):
        assert not breaker.is_open
        fail(breaker, clock, result)
    assert breaker.is_open


def probe(breaker: Breaker, clock: Clock, result: Result = RETRY) -> None:
    token = breaker.begin()
    assert token
    assert breaker.state().is_probed
    fail(breaker, clock, result)
    breaker.end(token)


def test_it_opens_when_nothing_gets_through_and_lets_a_probe_through_after_the_policy_s_waits(
    breaker: Breaker, clock: Clock
) -> None:
    open_it(breaker, clock)
    for wait in (1, 2, 4, 8, 8):
        state = breaker.state()
        assert (state.wait, state.untried_wait) == (wait, 1), "whoever has not failed waits no longer than at first"
        clock.now += wait
        assert breaker.state().wait == 0
        probe(breaker, clock)


def test_a_few_that_get_through_keep_it_closed(breaker: Breaker, clock: Clock) -> None:
    for number in range(200):
        clock.now += 1
        if number % 25 == 0:
            breaker.took(BATCH, DELIVERED)
        else:
            fail(breaker, clock)
        assert not breaker.is_open
    assert breaker.state().newest_first


def test_it_opens_though_all_was_well_before(breaker: Breaker, clock: Clock) -> None:
    for _ in range(1000):
        breaker.took(BATCH, DELIVERED)
    attempts = 0
    while not breaker.is_open:
        clock.now += 1
        fail(breaker, clock)
        attempts += 1
    assert attempts == 30


def test_it_opens_of_no_number_of_failures_in_a_moment_once_something_got_through(
    breaker: Breaker, clock: Clock
) -> None:
    open_it(breaker, clock)
    breaker.took(BATCH, DELIVERED)
    for _ in range(1000):
        fail(breaker, clock, started=clock.now + 1)
    assert not breaker.is_open
    assert breaker.state().newest_first
    clock.now += 1
    fail(breaker, clock)
    assert breaker.is_open


def test_a_probe_goes_alone_and_closes_it_when_it_gets_through(breaker: Breaker, clock: Clock) -> None:
    open_it(breaker, clock)
    clock.now += 1
    token = breaker.begin()
    assert breaker.state().is_probed
    breaker.took(BATCH, DELIVERED)
    breaker.end(token)
    assert not breaker.state().is_open
    assert breaker.state().back_at == clock.now
    assert breaker.begin() == 0, "no probe any more"


def test_a_probe_that_is_not_made_leaves_the_next_one_free(breaker: Breaker, clock: Clock) -> None:
    open_it(breaker, clock)
    breaker.end(breaker.begin())
    assert not breaker.state().is_probed


def test_an_attempt_that_had_begun_before_it_opened_does_not_end_the_probe(breaker: Breaker, clock: Clock) -> None:
    earlier = breaker.begin()
    open_it(breaker, clock)
    breaker.begin()
    breaker.end(earlier)
    assert breaker.state().is_probed


def test_attempts_that_had_begun_when_it_opened_do_not_lengthen_the_wait(breaker: Breaker, clock: Clock) -> None:
    before = clock.now
    clock.now += 0.5
    open_it(breaker, clock)
    clock.now += 0.5
    fail(breaker, clock, started=before)
    assert breaker.state().wait == 0.5
    fail(breaker, clock, Result(Verdict.RETRY, retry_after=60), started=before)
    assert breaker.state().wait == breaker.state().untried_wait == 60


def test_what_an_attempt_says_that_had_begun_before_a_renewal_keeps_nobody_waiting(
    breaker: Breaker, clock: Clock
) -> None:
    for _ in range(ENOUGH):
        started = clock.now
        clock.now += 0.5
        breaker.try_now("renewed")
        clock.now += 0.5
        job = fail(breaker, clock, Result(Verdict.RETRY, retry_after=60), started=started)
        assert (job.not_before, job.is_told_when) == (clock.now, False)
    assert breaker.is_open
    assert breaker.state().wait == breaker.state().untried_wait == 0
    job = fail(breaker, clock, Result(Verdict.RETRY, retry_after=60))
    assert (job.not_before, job.is_told_when) == (clock.now + 60, True)
    assert breaker.state().untried_wait == 60


def test_a_batch_that_fails_beside_others_that_get_through_says_nothing_of_the_backend(
    breaker: Breaker, clock: Clock
) -> None:
    poison = a_job()
    for _ in range(3 * ENOUGH):
        clock.now += 1
        started = clock.now
        clock.now += 1
        breaker.took(BATCH, DELIVERED)
        fail(breaker, clock, started=started, job=poison)
    assert not breaker.is_open
    assert not breaker.state().newest_first
    assert poison.own_failures == poison.sure_failures == 3 * ENOUGH
    assert poison.not_before == clock.now + 8, "the batch waits, by its own failures"


def test_what_gets_through_between_two_failures_of_a_batch_shows_that_it_is_the_batch(
    breaker: Breaker, clock: Clock
) -> None:
    poison = fail(breaker, clock)
    assert poison.own_failures == 0, "nobody knows yet"
    clock.now += 1
    breaker.took(BATCH, DELIVERED)
    clock.now += 1
    fail(breaker, clock, job=poison)
    assert poison.own_failures == 1
    clock.now += 1
    fail(breaker, clock, job=poison)
    assert poison.own_failures == 1, "now it may be the backend"


def test_failures_while_most_others_fail_too_are_not_held_against_a_batch(breaker: Breaker, clock: Clock) -> None:
    batch = a_job()
    for _ in range(50):
        clock.now += 1
        breaker.took(BATCH, DELIVERED)
        for _ in range(4):
            fail(breaker, clock, started=clock.now + 1)
        fail(breaker, clock, job=batch)
    assert batch.own_failures > 40
    assert batch.sure_failures < 5, "none after the first moments"


def test_a_refusal_is_an_answer(breaker: Breaker, clock: Clock) -> None:
    open_it(breaker, clock)
    breaker.refused(BATCH, Result(Verdict.REFUSED))
    assert not breaker.is_open
