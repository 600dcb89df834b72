"""The waits between attempts, with the dice in the test's hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drain.accounting.outcome import Outcome
from drain.delivery.retry import RetryPolicy
from drain.exporters.protocol import Result, Verdict
from tests.unit.delivery.world import World


def policy(dice: float = 0.5, **changes: Any) -> RetryPolicy:
    return RetryPolicy(random=lambda: dice, **changes)


def test_waits_grow_by_the_multiplier_up_to_the_maximum() -> None:
    waits = [policy(initial=1, maximum=10, multiplier=2).delay(failures) for failures in range(1, 7)]
    assert waits == [1, 2, 4, 8, 10, 10]


@pytest.mark.parametrize(("dice", "wait"), [(0.0, 2.0), (0.5, 4.0), (0.75, 5.0)])
def test_jitter_spreads_the_wait_evenly_around_its_length(dice: float, wait: float) -> None:
    assert policy(dice, initial=4, jitter=0.5).delay(1) == wait


def test_jitter_is_rolled_anew_for_each_wait() -> None:
    assert len({RetryPolicy().delay(3) for _ in range(50)}) > 1


@pytest.mark.parametrize(("retry_after", "wait"), [(None, 1.0), (0.0, 1.0), (0.5, 1.0), (40.0, 40.0), (1e9, 300.0)])
def test_a_backends_wish_is_never_undercut_and_bounded(retry_after: float | None, wait: float) -> None:
    assert policy().delay(1, retry_after) == wait


def test_zero_never_gives_up() -> None:
    assert not policy(elapsed_limit=0).gives_up(1e12)


def test_it_gives_up_at_the_elapsed_limit() -> None:
    assert [policy(elapsed_limit=300).gives_up(elapsed) for elapsed in (0, 299.9, 300, 301)] == [
        False,
        False,
        True,
        True,
    ]


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True), st.floats(1, 10))
def test_every_wait_is_positive_and_bounded(failures: int, dice: float, multiplier: float) -> None:
    assert 0.5 <= policy(dice, multiplier=multiplier).delay(failures) <= 45


@pytest.mark.parametrize(
    "changes",
    [
        {"initial": 0},
        {"initial": 31},
        {"multiplier": 0.9},
        {"jitter": 0},
        {"jitter": 1},
        {"elapsed_limit": -1},
        {"longest_retry_after": -1},
    ],
)
def test_numbers_that_would_hammer_a_backend_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="retry: "):
        policy(**changes)


@pytest.mark.parametrize("has_spool", [False, True])
def test_nothing_waits_any_more_when_what_failed_was_given_up(*, has_spool: bool) -> None:
    policy = RetryPolicy(elapsed_limit=20, attempts_limit=0)
    world = World(lambda *_: Result(Verdict.RETRY), has_spool=has_spool, seed=1, policy=policy)
    has_more = [world.dispatch.has_more]
    world.come(0.0, b"1")
    for seconds in (15, 60):
        world.run(seconds)
        has_more.append(world.dispatch.has_more)
    assert has_more == [False, True, False]
    assert world.outcomes == Outcome(rejected=1)
