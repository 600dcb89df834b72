"""What the loop, a sender and the spool's thread do at the same moment is done once."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from drain.accounting.outcome import Outcome
from drain.delivery.batch import Batch
from drain.delivery.delivery import Delivery
from drain.delivery.dispatch import Hand
from drain.delivery.job import Keeping
from drain.delivery.queue import Which
from drain.delivery.retry import RetryPolicy
from drain.delivery.route import Grip
from drain.exporters.protocol import Result, Verdict
from drain.otlp.request import Request
from drain.rings.segment import Segment
from tests.service.draining import SECONDS, until
from tests.unit.delivery.world import World, batch_of

if TYPE_CHECKING:
    from drain.otlp.request import Encoding

NOBODY: Any = None
BATCH_SPANS = 5
AT_ONCE = threading.Event()
AT_ONCE.set()
STORED: Any = SimpleNamespace(stored=SimpleNamespace(id=1), generation=0)  # an entry


class OneAnswer:
    """An exporter with one answer to everything."""

    encoding: Encoding = "protobuf"
    endpoint = "nowhere"

    def __init__(self, verdict: Verdict, go: threading.Event) -> None:
        self.verdict = verdict
        self.go = go
        self.attempts = 0

    def export(self, _request: Request) -> Result:
        self.attempts += 1
        assert self.go.wait(SECONDS)
        return Result(self.verdict)

    def close(self) -> None:
        pass


class NotedSpool:
    """A spool that notes what it is asked; what is put, the test stores."""

    def __init__(self) -> None:
        self.puts: list[Future[Any]] = []
        self.backs = 0
        self.withdrawn: list[Any] = []

    def look(self) -> None:
        pass

    def room(self) -> int:
        return 1

    def withdraw(self, entry: Any) -> None:
        self.withdrawn.append(entry)

    def put(self, _request: Request) -> Future[Any]:
        self.puts.append(Future())
        return self.puts[-1]

    def back(self, _entry: Any, _not_before: float = 0.0) -> None:
        self.backs += 1

    def destinations(self) -> list[str]:
        return []

    def can_take(self, _destination: str) -> bool:
        return False


def start(verdict: Verdict, spool: Any, *, spool_after: float, go: threading.Event = AT_ONCE) -> Delivery:
    return Delivery(
        OneAnswer(verdict, go),
        RetryPolicy(initial=3600, maximum=3600),
        1,
        done=lambda: None,
        log=structlog.get_logger(),
        spool=spool,
        spool_after=spool_after,
    )


def batch() -> Batch:
    ring: Any = SimpleNamespace(service="shop", capacity_slots=1 << 20)
    lane: Any = SimpleNamespace(unreleased=0)
    return Batch(
        [Request(b"", BATCH_SPANS, "protobuf", services={"shop": BATCH_SPANS})], [Segment(ring, lane, BATCH_SPANS, 0)]
    )


def look_before_each_settling(delivery: Delivery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the loop look for late batches at the last moment before one is settled."""
    settle = delivery._settlement._settle

    def settle_beside_the_loop(*arguments: Any) -> None:
        delivery.spool_after = 0
        delivery.spool_late()
        settle(*arguments)

    monkeypatch.setattr(delivery._settlement, "_settle", settle_beside_the_loop)


def test_a_batch_that_has_its_verdict_is_not_spooled_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    spool = NotedSpool()
    delivery = start(Verdict.DELIVERED, spool, spool_after=3600)
    look_before_each_settling(delivery, monkeypatch)
    sent = batch()
    delivery.send(sent)
    until(lambda: delivery.has_settled)
    assert delivery.stop(SECONDS)
    assert delivery.settled() == [sent]
    assert sent.segments[0].outcome == Outcome(delivered=BATCH_SPANS)
    assert not spool.puts


def test_a_batch_that_is_stored_is_not_spooled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    spool = NotedSpool()
    delivery = start(Verdict.RETRY, spool, spool_after=0)
    look_before_each_settling(delivery, monkeypatch)
    sent = batch()
    delivery.send(sent)
    delivery.spool_late()
    spool.puts[0].set_result(STORED)
    assert delivery.stop(SECONDS)
    assert delivery.settled() == [sent]
    assert sent.segments[0].outcome == Outcome(spooled=BATCH_SPANS)
    assert len(spool.puts) == 1


def test_a_batch_that_is_stored_when_its_attempt_fails_is_given_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    spool = NotedSpool()
    delivery = start(Verdict.RETRY, spool, spool_after=0)
    notify_all = delivery._changes.notify_all

    def store_beside_it() -> None:
        delivery.spool_late()
        (future,) = spool.puts
        if not future.done():
            future.set_result(STORED)
        notify_all()

    monkeypatch.setattr(delivery._changes, "notify_all", store_beside_it)
    sent = batch()
    delivery.send(sent)
    until(lambda: delivery.has_settled)
    assert delivery.stop(SECONDS)
    assert sent.segments[0].outcome == Outcome(spooled=BATCH_SPANS)
    assert spool.backs == 1


def test_a_delivered_batch_does_not_wait_for_a_disk_that_hangs() -> None:
    spool = NotedSpool()
    go = threading.Event()
    delivery = start(Verdict.DELIVERED, spool, spool_after=0, go=go)
    sent = [batch(), batch()]
    for one in sent:
        delivery.send(one)
        delivery.spool_late()
    begun, queued = spool.puts
    begun.set_running_or_notify_cancel()
    go.set()
    until(queued.cancelled)
    assert delivery.stop(SECONDS)
    assert delivery.settled() == sent
    assert [one.segments[0].outcome for one in sent] == [Outcome(delivered=BATCH_SPANS)] * 2
    begun.set_result(STORED)
    assert spool.withdrawn == [STORED], "it is counted as delivered by the ring, and must not be sent again"
    assert delivery.settled() == []


def test_a_verdict_that_comes_while_the_spool_says_no_is_the_one_that_counts() -> None:
    dispatch = World(lambda *_: Result(Verdict.REFUSED), has_spool=True, seed=1).dispatch
    sent = batch_of(b"1")
    dispatch.send(sent)
    settlement = dispatch._settlement
    (job,) = settlement._unsettled
    job.keeping = Keeping.STORING
    lock = settlement._changes

    class ConcludesFirst:
        """The lock, which the thread that sends gets before the spool's."""

        def __enter__(self) -> None:
            settlement._changes = lock
            dispatch.advance(dispatch.hand())
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()

    concludes_first: Any = ConcludesFirst()
    settlement._changes = concludes_first
    for step in settlement._stored(job, None):
        step()
    assert dispatch.settled() == [sent]
    assert sent.segments[0].outcome == Outcome(rejected=1)


def test_a_batch_that_the_spool_has_is_not_put_again_though_nobody_is_told_when_it_is_stored() -> None:
    class NoMemory(Future[Any]):
        def add_done_callback(self, fn: object) -> None:
            raise MemoryError(fn)

    spool: Any = NotedSpool()
    puts = spool.puts

    def put(_request: Request) -> Future[Any]:
        puts.append(NoMemory())
        future: Future[Any] = puts[-1]
        return future

    spool.put = put
    made = World(lambda *_: Result(Verdict.RETRY), has_spool=True, seed=1)
    assert made.dispatch._storing is not None
    made.dispatch._storing._spool = spool
    sent = batch_of(b"1")
    made.dispatch.send(sent)
    made.run(10.0)
    assert len(puts) == 1
    assert not made.settled
    puts[0].set_result(STORED)
    made.run(10.0)
    assert (made.settled, len(puts)) == ([sent], 1)
    assert sent.segments[0].outcome == Outcome(spooled=1)


def test_a_batch_that_is_stored_when_an_error_came_behind_its_delivery_is_done_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = World(lambda *_: Result(Verdict.DELIVERED), has_spool=True, seed=1)
    dispatch, spool = made.dispatch, made.spool
    assert spool is not None
    stored: Future[Any] = Future()
    monkeypatch.setattr(spool, "put", lambda _request: stored)
    sent = batch_of(b"1")
    dispatch.send(sent)
    dispatch.spool_after = 0
    dispatch.spool_late()
    with monkeypatch.context() as patched:

        def break_down(*_: object) -> None:
            raise MemoryError

        patched.setattr(dispatch._size, "took", break_down)
        hand = dispatch.hand()
        with pytest.raises(MemoryError):
            dispatch.advance(hand)
    dispatch._put_back(hand)
    stored.set_result(spool._add(Request(b"1", 1, "protobuf"), made.now, float("inf")))
    assert dispatch.why_not_stored == ""
    dispatch.advance(hand)
    assert dispatch.settled() == [sent]
    assert sent.segments[0].outcome == Outcome(spooled=1)
    assert spool.outcomes == [Outcome(delivered=1)], "it is not sent again"
    assert spool.entries == {}


def test_what_a_thread_has_in_hand_is_put_down_under_the_lock() -> None:
    class Watched(list[Grip]):
        def remove(self, grip: Grip) -> None:
            # Who counts what is in hand goes through all of it.
            assert made.dispatch._changes._is_owned()  # type: ignore[attr-defined]
            put_down.append(grip)
            super().remove(grip)

    put_down: list[Grip] = []
    made = World(lambda *_: Result(Verdict.DELIVERED), has_spool=False, seed=1)
    hand = Hand(Watched())
    made.dispatch._hands.append(hand)
    made.dispatch.send(batch_of(b"1"))
    assert made.dispatch.advance(hand) is None
    assert len(put_down) == 1
    made.dispatch.send(batch_of(b"2"))
    made.dispatch._take_up(hand)
    hand.error = MemoryError()
    made.dispatch.advance(hand)
    assert len(put_down) == 2


def test_batches_of_a_new_database_are_not_passed_over_for_the_failures_of_an_old_one() -> None:
    world = World(lambda *_: Result(Verdict.DELIVERED), has_spool=True, seed=1)
    spool, storing = world.spool, world.dispatch._storing
    assert spool is not None
    assert storing is not None
    spool.put(batch_of(b"old").parts[0])
    spool.back(spool.entries[1])
    failed = storing.take("", Which.UNTRIED, newest=False)
    assert failed is not None
    assert failed.entry is not None
    failed.failures = failed.own_failures = 1
    storing.give_back(failed, failed.entry)
    assert storing.take("", Which.UNTRIED, newest=False) is None, "it has failed"
    # It is set aside; the next one's ids begin at 1 again.
    spool.generation += 1
    spool.entries[1].request, spool.entries[1].generation = batch_of(b"new").parts[0], 1
    for which in (Which.UNTRIED, Which.UNSUSPECTED):
        job = storing.take("", which, newest=False)
        assert job is not None
        assert (job.left[0].body, job.failures) == (b"new", 0)
        assert job.entry is not None
        spool.back(job.entry)
