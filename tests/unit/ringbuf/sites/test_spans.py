"""The span of a `with` block: its times, its parent, its outcome, and what it tells the next hop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import ringbuf
from ringbuf.dataplane import DATAPLANE_LAYOUT, DataplaneSite, LeaseId, Outcome
from ringbuf.sites.span import Span
from tests.consumer import records_in

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    import numpy as np

LEASE = LeaseId(7)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
HEADER = f"00-{TRACE}-{PARENT}-01"


def written(ring_dir: Path) -> list[np.void]:
    """Return the spans in the order in which they ended."""
    return list(records_in(ring_dir))


def ids(record: np.void) -> tuple[str, str, str]:
    """Return trace, parent and span id of a record as hex digits."""
    trace_id, parent_span_id, span_id = (
        record[name].tobytes().hex() for name in ("trace_id", "parent_span_id", "span_id")
    )
    return trace_id, parent_span_id, span_id


def parent_of(record: np.void) -> tuple[str, str]:
    return ids(record)[:2]


def own_ids(span: Any) -> tuple[str, str]:
    return span.trace_id.hex(), span.span_id.hex()


def value(record: np.void, key: str) -> Any:
    return DATAPLANE_LAYOUT.values(record).get(key)


# ---- times ----


def test_a_span_lasts_as_long_as_its_block(read: DataplaneSite, ring_dir: Path) -> None:
    before, monotonic_before = time.time_ns(), time.monotonic_ns()
    with read.span(LEASE):
        inside, monotonic_inside = time.time_ns(), time.monotonic_ns()
        while time.monotonic_ns() == monotonic_inside:
            pass
        monotonic_last = time.monotonic_ns()
    monotonic_after = time.monotonic_ns()
    (record,) = written(ring_dir)
    duration = int(record["end_unix_nano"]) - int(record["start_unix_nano"])
    assert before <= record["start_unix_nano"] <= inside
    assert monotonic_last - monotonic_inside <= duration <= monotonic_after - monotonic_before


# ---- parents ----


def test_an_outer_span_is_a_root(read: DataplaneSite, ring_dir: Path) -> None:
    with read.span(LEASE) as span:
        pass
    (record,) = written(ring_dir)
    assert ids(record) == (span.trace_id.hex(), "0" * 16, span.span_id.hex())
    assert record["flags"] == 0x103


def test_a_nested_span_is_a_child(read: DataplaneSite, ring_dir: Path) -> None:
    with read.span(LEASE) as outer, read.span(LEASE) as middle, read.span(LEASE) as inner:
        pass
    first, second, third = written(ring_dir)
    assert ids(first) == (outer.trace_id.hex(), middle.span_id.hex(), inner.span_id.hex())
    assert ids(second) == (outer.trace_id.hex(), outer.span_id.hex(), middle.span_id.hex())
    assert ids(third) == (outer.trace_id.hex(), "0" * 16, outer.span_id.hex())


def test_what_is_emitted_in_a_block_is_a_child(read: DataplaneSite, ring_dir: Path) -> None:
    with read.span(LEASE) as span:
        assert read.emit(LEASE, 1, 2)
    child, _ = written(ring_dir)
    assert parent_of(child) == own_ids(span)


def test_a_sibling_has_the_same_parent(read: DataplaneSite, ring_dir: Path) -> None:
    with read.span(LEASE) as outer:
        for _ in range(2):
            with read.span(LEASE):
                pass
    assert [parent_of(record) for record in written(ring_dir)[:2]] == [own_ids(outer)] * 2


def test_behind_the_block_spans_are_roots_again(read: DataplaneSite, ring_dir: Path) -> None:
    with read.span(LEASE):
        pass
    assert read.emit(LEASE, 1, 2)
    assert ids(written(ring_dir)[1])[1] == "0" * 16
    assert ringbuf.current_traceparent() is None


def test_spans_of_two_emitters_nest(read: DataplaneSite, ring_dir: Path) -> None:
    layout = ringbuf.SpanLayout(span_names=["get"], attributes=[])
    with ringbuf.Emitter("other", ring_dir=ring_dir / "other", layout=layout) as emitter:
        with emitter.site("get").span() as outer:
            assert read.emit(LEASE, 1, 2)
        assert parent_of(written(ring_dir)[0]) == own_ids(outer)
        written(ring_dir / "other")


def test_every_thread_has_its_own_parent(read: DataplaneSite, ring_dir: Path) -> None:
    seen = {}
    barrier = threading.Barrier(8)

    def work(number: int) -> None:
        barrier.wait(120)
        for _ in range(20):
            with read.span(LEASE) as outer:
                barrier.wait(120)  # all threads are inside their outer span
                with read.span(LEASE) as inner:
                    seen[own_ids(inner)] = own_ids(outer)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    inner = [record for record in written(ring_dir) if ids(record)[1] != "0" * 16]
    assert len(inner) == 160
    assert all(seen[ids(record)[0], ids(record)[2]] == parent_of(record) for record in inner)


def test_a_thousand_interleaved_tasks_have_their_own_parents(read: DataplaneSite, ring_dir: Path) -> None:
    seen = {}
    order = random.Random(219)  # noqa: S311 - an order, no secret

    async def work() -> None:
        with read.span(LEASE) as outer:
            for _ in range(order.randrange(4)):
                await asyncio.sleep(0)
            with read.span(LEASE) as inner:
                await asyncio.sleep(0)
                seen[own_ids(inner)] = own_ids(outer)

    async def main() -> None:
        await asyncio.gather(*(work() for _ in range(1000)))

    asyncio.run(main())
    inner = [record for record in written(ring_dir) if ids(record)[1] != "0" * 16]
    assert len(inner) == 1000
    assert all(seen[ids(record)[0], ids(record)[2]] == parent_of(record) for record in inner)


def test_a_task_is_a_child_of_the_span_that_started_it(read: DataplaneSite, ring_dir: Path) -> None:
    async def work() -> None:
        assert read.emit(LEASE, 1, 2)

    async def main() -> tuple[str, str]:
        with read.span(LEASE) as span:
            task = asyncio.create_task(work())
        await task
        return own_ids(span)

    started_by = asyncio.run(main())
    assert parent_of(written(ring_dir)[1]) == started_by


def test_a_generator_closed_in_another_context_leaves_no_parent_behind(read: DataplaneSite, ring_dir: Path) -> None:
    def steps() -> Generator[int, None, None]:
        with read.span(LEASE):
            yield 1

    generator = steps()
    contextvars.copy_context().run(next, generator)
    contextvars.copy_context().run(generator.close)
    assert ringbuf.current_traceparent() is None
    (record,) = written(ring_dir)
    assert value(record, "grafos.outcome") == "ok"  # GeneratorExit, which passed through the block, is no failure


def test_a_generator_closed_in_another_thread_writes_its_span(read: DataplaneSite, ring_dir: Path) -> None:
    def steps() -> Generator[int, None, None]:
        with read.span(LEASE):
            yield 1

    generator = contextvars.copy_context().run(lambda: (made := steps(), next(made))[0])
    thread = threading.Thread(target=generator.close)
    thread.start()
    thread.join()
    assert len(written(ring_dir)) == 1


def test_spans_nest_as_deep_as_anybody_likes(read: DataplaneSite, ring_dir: Path) -> None:
    def nest() -> None:
        spans = [read.span(LEASE).__enter__() for _ in range(1500)]
        assert read.emit(LEASE, 1, 2)
        for span in reversed(spans):
            span.__exit__(None, None, None)

    contextvars.copy_context().run(nest)
    emitted, *spans = written(ring_dir)
    assert len(spans) == 1500
    assert [ids(record)[1] for record in (emitted, *spans)] == [*(ids(record)[2] for record in spans), "0" * 16]
    assert {ids(record)[0] for record in (emitted, *spans)} == {ids(emitted)[0]}


def test_a_span_that_ended_is_still_the_parent_of_a_task_that_it_started(read: DataplaneSite, ring_dir: Path) -> None:
    with read.span(LEASE) as span:
        context = contextvars.copy_context()
    del span
    assert context.run(read.emit, LEASE, 1, 2)
    first, later = written(ring_dir)
    assert parent_of(later) == (ids(first)[0], ids(first)[2])


def test_spans_that_go_on_from_ended_ones_do_not_keep_them(read: DataplaneSite, ring_dir: Path) -> None:
    def step() -> contextvars.Context:
        with read.span(LEASE):
            return contextvars.copy_context()

    context = contextvars.copy_context()
    for _ in range(300):
        context = context.run(step)
    gc.collect()
    alive = [found for found in gc.get_objects() if isinstance(found, Span)]
    assert len(alive) < 10
    records = written(ring_dir)
    assert [ids(record)[1] for record in records] == ["0" * 16, *(ids(record)[2] for record in records[:-1])]


# ---- headers ----


def test_a_header_continues_the_remote_trace(read: DataplaneSite, ring_dir: Path) -> None:
    with read.span(LEASE, traceparent=HEADER):
        pass
    (record,) = written(ring_dir)
    assert (parent_of(record), record["flags"]) == ((TRACE, PARENT), 0x301)


def test_the_children_of_a_span_with_a_remote_parent_have_a_local_one(read: DataplaneSite, ring_dir: Path) -> None:
    with read.span(LEASE, traceparent=HEADER) as span:
        assert read.emit(LEASE, 1, 2)
    child, _ = written(ring_dir)
    assert (parent_of(child), child["flags"]) == ((TRACE, span.span_id.hex()), 0x101)


def test_a_header_beats_the_enclosing_span(read: DataplaneSite, ring_dir: Path) -> None:
    with read.span(LEASE), read.span(LEASE, traceparent=HEADER):
        pass
    assert parent_of(written(ring_dir)[0]) == (TRACE, PARENT)


@pytest.mark.parametrize("header", ["", "garbage", HEADER.upper()])
def test_an_invalid_header_starts_a_trace_even_inside_a_span(read: DataplaneSite, ring_dir: Path, header: str) -> None:
    with read.span(LEASE) as outer, read.span(LEASE, traceparent=header) as span:
        pass
    record = written(ring_dir)[0]
    assert ids(record) == (span.trace_id.hex(), "0" * 16, span.span_id.hex())
    assert span.trace_id != outer.trace_id


def test_the_header_for_the_next_hop_names_this_span(read: DataplaneSite) -> None:
    with read.span(LEASE) as span:
        assert span.traceparent == f"00-{span.trace_id.hex()}-{span.span_id.hex()}-03"
        assert ringbuf.current_traceparent() == span.traceparent
    assert span.traceparent.endswith("-03")


def test_two_hops_are_one_trace(read: DataplaneSite, ring_dir: Path) -> None:
    with read.span(LEASE) as here:
        header = here.traceparent
    with read.span(LEASE, traceparent=header):
        pass
    assert parent_of(written(ring_dir)[1]) == own_ids(here)


def test_of_a_callers_flags_the_known_ones_go_on(read: DataplaneSite, ring_dir: Path) -> None:
    with read.span(LEASE, traceparent=HEADER[:-2] + "ff") as span:
        assert span.traceparent[-2:] == "03"
        assert read.emit(LEASE, 1, 2)
    with read.span(LEASE, traceparent=HEADER[:-2] + "02") as span:
        assert span.traceparent[-2:] == "02"
    assert [record["flags"] for record in written(ring_dir)] == [0x103, 0x303]


# ---- outcomes and exceptions ----


def test_an_exception_passes_and_makes_the_outcome_an_error(read: DataplaneSite, ring_dir: Path) -> None:
    with pytest.raises(ZeroDivisionError), read.span(LEASE) as span:
        raise ZeroDivisionError
    (record,) = written(ring_dir)
    assert (value(record, "grafos.outcome"), record["status"]) == ("error", 2)
    assert span.outcome is Outcome.ERROR


def test_an_exception_makes_the_outcome_an_error_also_where_the_status_is_one(
    read: DataplaneSite, ring_dir: Path
) -> None:
    def fail() -> None:
        with read.span(LEASE) as span:
            span.status = ringbuf.Status.ERROR
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    (record,) = written(ring_dir)
    assert (value(record, "grafos.outcome"), record["status"]) == ("error", 2)


@pytest.mark.parametrize("outcome", [Outcome.TIMEOUT, Outcome.DENIED, Outcome.EXPIRED])
def test_an_exception_does_not_hide_a_failure_that_has_a_name(
    read: DataplaneSite, ring_dir: Path, outcome: Outcome
) -> None:
    def fail() -> None:
        with read.span(LEASE) as span:
            span.outcome = outcome
            raise OSError("why")

    with pytest.raises(OSError, match="why"):
        fail()
    assert value(written(ring_dir)[0], "grafos.outcome") == str(outcome)


@pytest.mark.parametrize(
    ("exception", "outcome"),
    [
        (GeneratorExit(), "ok"),
        (SystemExit(0), "ok"),
        (SystemExit(1), "ok"),
        (KeyboardInterrupt(), "ok"),
        (asyncio.CancelledError(), "ok"),
        (StopIteration(), "ok"),
        (StopAsyncIteration(), "ok"),
        (type("Cancelled", (BaseException,), {})(), "ok"),  # as trio's
        (RuntimeError("why"), "error"),
        (TimeoutError(), "error"),
        (concurrent.futures.CancelledError(), "error"),
        (ExceptionGroup("why", [RuntimeError()]), "error"),
        (type("OwnError", (Exception,), {})(), "error"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value,
)
def test_only_an_exception_is_a_failure(
    read: DataplaneSite, ring_dir: Path, exception: BaseException, outcome: str
) -> None:
    with pytest.raises(type(exception)), read.span(LEASE):
        raise exception
    (record,) = written(ring_dir)
    assert value(record, "grafos.outcome") == outcome
    assert record["status"] == (2 if outcome == "error" else 0)


def test_an_iterator_that_ends_in_a_block_is_no_failure(read: DataplaneSite, ring_dir: Path) -> None:
    rows = iter([1, 2])

    def fetch() -> int:
        with read.span(LEASE):
            return next(rows)

    assert list(iter(lambda: fetch(), 2)) == [1]  # noqa: PLW0108 - mypy wants a function without arguments
    with pytest.raises(StopIteration):
        fetch()
    assert [record["status"] for record in written(ring_dir)] == [0, 0, 0]


def test_a_cancelled_task_leaves_its_span(read: DataplaneSite, ring_dir: Path) -> None:
    async def work() -> None:
        with read.span(LEASE):
            await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert [record["status"] for record in written(ring_dir)] == [0]


def test_what_is_set_in_the_block_is_written(read: DataplaneSite, ring_dir: Path) -> None:
    with read.span(LEASE) as span:
        span.nbytes = 4096
        span.outcome = Outcome.MISS
    (record,) = written(ring_dir)
    assert (value(record, "grafos.bytes"), value(record, "grafos.outcome"), record["status"]) == (4096, "miss", 0)


@pytest.mark.parametrize("wrong", [None, 7, b"x" * 16, "0" * 32, object()])
def test_a_span_takes_a_lease_id_alone(read: DataplaneSite, wrong: Any) -> None:
    with pytest.raises(TypeError, match="LeaseId"):
        read.span(wrong)


def test_a_span_is_entered_once(read: DataplaneSite, ring_dir: Path) -> None:
    span = read.span(LEASE)
    with span, pytest.raises(RuntimeError, match="entered once"):
        span.__enter__()
    with pytest.raises(RuntimeError, match="entered once"):
        span.__enter__()
    assert ringbuf.current_traceparent() is None
    assert len(written(ring_dir)) == 1


def test_a_span_is_left_once(read: DataplaneSite, ring_dir: Path) -> None:
    with read.span(LEASE) as span:
        pass
    with pytest.raises(RuntimeError, match="left already"):
        span.__exit__(None, None, None)
    assert len(written(ring_dir)) == 1
