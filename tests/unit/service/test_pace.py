"""How long the loop sleeps."""

from __future__ import annotations

from drain.service.pace import Pace


def test_naps_halve_while_the_loop_comes_late_and_grow_again() -> None:
    pace = Pace()
    late = [pace.nap(came_late=True) for _ in range(6)]
    assert late == [0.01, 0.005, 0.0025, 0.00125, 0.001, 0.001]
    in_time = [pace.nap(came_late=False) for _ in range(6)]
    assert in_time == [0.002, 0.004, 0.008, 0.016, 0.02, 0.02]


def test_records_gather_for_five_naps_and_less_while_the_loop_comes_late() -> None:
    pace = Pace()
    assert [pace.gathering(came_late=late) for late in (False, True, True)] == [0.1, 0.05, 0.025]
    assert pace.nap(came_late=False) == 0.01


def test_there_is_no_rest_before_the_naps_are_long_again() -> None:
    pace = Pace()
    nap = pace.nap(came_late=True)
    assert pace.rest() == (nap, nap)
    assert pace.nap(came_late=False) == 0.02
    assert pace.rest() == (0.02, 0.25)


def test_after_a_rest_without_news_the_next_is_long_until_there_is_news() -> None:
    pace = Pace()
    rests = []
    for has_news in (False, False, True, False):
        pace.nap(came_late=False)
        rests.append(pace.rest())
        pace.woke(has_news=has_news)
    assert rests == [(0.02, 0.25), (0.04, 1.0), (0.04, 1.0), (0.02, 0.25)]


def test_a_sleep_that_is_no_rest_ends_the_quiet() -> None:
    pace = Pace()
    pace.nap(came_late=False)
    pace.rest()
    pace.woke(has_news=False)
    pace.nap(came_late=False)
    pace.woke(has_news=False)
    pace.nap(came_late=False)
    assert pace.rest() == (0.02, 0.25)
