"""A ring whose file is removed under its producer: whoever emits gets another, and what is lost is said."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

import ringbuf
from ringbuf._ringbuf import lib
from ringbuf.dataplane import LeaseId, OpType, site
from ringbuf.log import wait_until_told
from ringbuf.otel import RingSpanProcessor
from tests.consumer import Consumer, records_in, rings_in
from tests.records import fresh_records
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LEASE = LeaseId(7)
PATIENCE = 120.0
SECOND = 1.1  # how often a ring that nobody reads is looked for, and what the coarse clock is behind


@pytest.fixture
def doors(ring_dir: Path) -> Iterator[dict[str, Callable[[], Any]]]:
    """Yield all doors, each with a ring of its own, in a directory named after it."""
    with ExitStack() as opened:

        def emitter(door: str, **settings: Any) -> ringbuf.Emitter:
            return opened.enter_context(ringbuf.Emitter(door, ring_dir=ring_dir / door, **settings))

        of_site, of_span, of_record, of_batch = map(emitter, ("site", "span", "record", "batch"))
        full = emitter("full", capacity=4)
        processor = RingSpanProcessor(ring_dir=ring_dir / "bridge")
        opened.callback(processor.shutdown)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(processor)
        tracer = provider.get_tracer("tracer")
        emit = site(OpType.FBMU_READ, emitter=of_site).emit
        span = site(OpType.FBMU_READ, emitter=of_span).span

        def leave_a_block() -> None:
            with span(LEASE):
                pass

        def emit_a_record() -> None:
            record = fresh_records(of_record, 1)[0]
            record["end_unix_nano"] = time.time_ns()
            of_record.emit(record)

        yield {
            "site": lambda: emit(LEASE, time.time_ns()),
            "span": leave_a_block,
            "record": emit_a_record,
            "batch": lambda: of_batch.emit_batch(fresh_records(of_batch, 2)),
            "full": lambda: full.emit_batch(fresh_records(full, 5)),
            "bridge": lambda: tracer.start_span("work").end(),
        }


def consumer_state(ring_dir: Path, door: str, state: int) -> None:
    (path,) = rings_in(ring_dir / door)
    with Consumer(path) as consumer:
        consumer.set_state(state)


@pytest.mark.parametrize("drain", ["none before", "killed", "gone"])
def test_a_ring_that_is_removed_is_made_anew_by_each_door(
    ring_dir: Path, doors: dict[str, Callable[[], Any]], drain: str
) -> None:
    removed = {}
    for door, emit in doors.items():
        emit()
        (removed[door],) = rings_in(ring_dir / door)
        if drain == "gone":  # it had read what was there, and left
            assert len(records_in(ring_dir / door)) > 0
            emit()
        elif drain == "killed":
            consumer_state(ring_dir, door, lib.RB_CONSUMER_ATTACHED)
        removed[door].unlink()
    waiting = dict(doors)

    def emit_at_those_that_wait() -> None:
        for door, emit in list(waiting.items()):
            emit()
            if rings_in(ring_dir / door):
                del waiting[door]
                emit()
        time.sleep(0.05)

    until(lambda: not waiting, emit_at_those_that_wait, why=lambda: f"without a ring: {list(waiting)}")
    for door in doors:
        (found,) = rings_in(ring_dir / door)
        assert found != removed[door]
        assert len(records_in(ring_dir / door)) > 0, door


def test_a_ring_that_nobody_reads_yet_stays(ring_dir: Path, doors: dict[str, Callable[[], Any]]) -> None:
    for emit in doors.values():
        emit()
    before = {door: rings_in(ring_dir / door) for door in doors}
    time.sleep(SECOND)
    for emit in doors.values():
        emit()
        emit()
    assert {door: rings_in(ring_dir / door) for door in doors} == before


def test_a_removed_ring_that_cannot_be_made_anew_is_warned_about(
    ring_dir: Path, emitter: ringbuf.Emitter, caplog: pytest.LogCaptureFixture
) -> None:
    emitter.emit_batch(fresh_records(emitter, 1))
    rings_in(ring_dir)[0].unlink()
    ring_dir.rename(ring_dir.with_name(f"{ring_dir.name}-moved"))
    try:
        ring_dir.write_bytes(b"")
        emitter.stats()
        wait_until_told(60)
        (record,) = caplog.records
        assert "was removed, what it still takes is lost" in record.getMessage()
    finally:
        ring_dir.unlink()
        ring_dir.with_name(f"{ring_dir.name}-moved").rename(ring_dir)


# ---- closing ----


def closing_words(emitter: ringbuf.Emitter, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    emitter.close()
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("count", "words"),
    [(1, "1 span that no drain had taken: it is"), (3, "3 spans that no drain had taken: they are")],
)
def test_a_close_says_that_the_spans_of_a_removed_ring_are_lost(
    ring_dir: Path, emitter: ringbuf.Emitter, caplog: pytest.LogCaptureFixture, count: int, words: str
) -> None:
    emitter.emit_batch(fresh_records(emitter, count))
    (path,) = rings_in(ring_dir)
    path.unlink()
    assert closing_words(emitter, caplog) == [f"{path} was removed with {words} lost"]


def test_a_close_is_silent_where_the_drain_has_set_the_ring_aside(
    ring_dir: Path, emitter: ringbuf.Emitter, caplog: pytest.LogCaptureFixture
) -> None:
    emitter.emit_batch(fresh_records(emitter, 3))
    (path,) = rings_in(ring_dir)
    with Consumer(path) as consumer:
        consumer.set_state(lib.RB_CONSUMER_DETACHED)
    path.unlink()  # as it goes to quarantine/
    assert closing_words(emitter, caplog) == []
