"""A thread that ends though it was to go on turns health red, stops the watchdog, and ends the process with 70."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any

import pytest

import ringbuf
from drain.delivery.dispatch import Dispatch
from drain.exit_codes import BROKEN, DELIVERED
from drain.spool.spool import Spool
from tests.service.draining import LAYOUT, SECONDS, emit, until

if TYPE_CHECKING:
    from pathlib import Path

    from .watched import Watched


def end_a_delivery_thread(monkeypatch: pytest.MonkeyPatch) -> str:
    advance, calls = Dispatch.advance, itertools.count()

    def ends_once(dispatch: Dispatch, hand: Any) -> Any:
        if not next(calls):
            raise SystemExit("planted")
        return advance(dispatch, hand)

    monkeypatch.setattr(Dispatch, "advance", ends_once)
    return "a delivery thread has ended: SystemExit('planted')"


def end_the_spools_thread(monkeypatch: pytest.MonkeyPatch) -> str:
    def ends(*_arguments: object) -> None:
        raise SystemExit("planted")

    monkeypatch.setattr(Spool, "_gather", ends)
    return "the spool's thread has ended"


@pytest.mark.parametrize("end_it", [end_a_delivery_thread, end_the_spools_thread])
def test_a_thread_that_ends_turns_health_red_stops_the_watchdog_and_ends_the_process(
    watched: Watched, ring_dir: Path, monkeypatch: pytest.MonkeyPatch, end_it: Any
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _arguments: None)  # it is planted
    watched.backend.holds = lambda _request: True
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=64, lanes=1) as emitter:
        emit(emitter, range(10))
        until(lambda: watched.backend.waiting == 1)
        assert watched.get("/healthz") == (200, [])
        until(lambda: "WATCHDOG=1" in watched.told())
        why = end_it(monkeypatch)
        emit(emitter, range(10, 20))
        until(lambda: watched.get("/healthz")[0] == 503)
        for path in ("/healthz", "/readyz"):
            assert watched.get(path)[1][0] == why
        watched.go_rounds(2)  # one may have been under way, and past the question whether all is well
        watched.told()
        watched.go_rounds(20)
        assert "WATCHDOG=1" not in watched.told(), "a manager is to end it, if it does not end by itself"
        assert watched.thread.is_alive(), "an attempt that runs is finished"
        watched.backend.let_go()
        watched.thread.join(SECONDS)
        assert watched.code == BROKEN
        assert set(watched.backend.numbers) >= set(range(10)), "in order: with what it had in hand"


def test_without_such_a_thread_nothing_of_that_happens(watched: Watched, ring_dir: Path) -> None:
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=64, lanes=1) as emitter:
        emit(emitter, range(10))
        until(lambda: len(watched.backend.numbers) == 10)
        watched.told()
        until(lambda: "WATCHDOG=1" in watched.told())
        assert watched.get("/healthz") == (200, [])
        watched.service.request_stop()
        watched.thread.join(SECONDS)
        assert watched.code == DELIVERED
