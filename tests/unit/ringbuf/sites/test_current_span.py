"""Which span is current: never one that was left where it was not, and never for longer than its block."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

import ringbuf
from ringbuf.dataplane import DataplaneSite, LeaseId
from ringbuf.sites.span import Span
from tests.consumer import records_in

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from pathlib import Path

LEASE = LeaseId(7)


@pytest.fixture
def parent(read: DataplaneSite, ring_dir: Path) -> Callable[[], str | None]:
    """Return a function that emits a span here and says which span is its parent: its id, None for a root."""

    def emit() -> str | None:
        current = ringbuf.current_traceparent()
        records_in(ring_dir)
        assert read.emit(LEASE, 1, 2)
        (record,) = records_in(ring_dir)
        found = record["parent_span_id"].tobytes().hex()
        assert found == ("0" * 16 if current is None else current[36:52])  # the header names the same
        return None if found == "0" * 16 else found

    return emit


def steps(read: DataplaneSite, entered: list[Span]) -> Generator[None, None, None]:
    with read.span(LEASE) as span:
        entered.append(span)
        while True:
            yield


def started(read: DataplaneSite, count: int) -> tuple[list[Generator[None, None, None]], list[Span]]:
    """Return generators that are inside their blocks, each entered under the one before, and their spans."""
    entered: list[Span] = []
    generators = [steps(read, entered) for _ in range(count)]
    for generator in generators:
        next(generator)
    return generators, entered


def own_id(span: Span) -> str:
    return span.span_id.hex()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_interleaved_generators_leave_no_parent(
    read: DataplaneSite, parent: Callable[[], str | None], order: tuple[int, ...]
) -> None:
    generators, _ = started(read, 2)
    for index in order:
        generators[index].close()
    assert parent() is None


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
@pytest.mark.parametrize("closed_in", ["here", "context", "thread"])
def test_generators_closed_in_any_order_and_anywhere_leave_the_block_around_them(
    read: DataplaneSite, parent: Callable[[], str | None], order: tuple[int, ...], closed_in: str
) -> None:
    def close(generator: Generator[None, None, None]) -> None:
        if closed_in == "here":
            generator.close()
        elif closed_in == "context":
            contextvars.copy_context().run(generator.close)
        else:
            thread = threading.Thread(target=generator.close)
            thread.start()
            thread.join()

    with read.span(LEASE) as around:
        generators, spans = started(read, 3)
        ended = set()
        for index in order:
            close(generators[index])
            ended.add(own_id(spans[index]))
            assert parent() not in ended
        assert parent() == own_id(around)
    assert parent() is None


def test_the_end_of_a_block_ends_what_is_left_open_in_it(read: DataplaneSite, parent: Callable[[], str | None]) -> None:
    with read.span(LEASE):
        (generator,), _ = started(read, 1)
    assert parent() is None  # although the generator's block is still open
    with read.span(LEASE) as next_request:
        generator.close()
        assert parent() == own_id(next_request)
    assert parent() is None


def test_a_generator_goes_on_inside_its_block_when_one_around_it_has_ended(
    read: DataplaneSite, parent: Callable[[], str | None]
) -> None:
    generators, spans = started(read, 2)
    generators[1].close()
    assert parent() == own_id(spans[0])
    generators[0].close()
    assert parent() is None


def test_a_break_out_of_an_async_generator_leaves_no_parent(
    read: DataplaneSite, parent: Callable[[], str | None]
) -> None:
    async def rows() -> AsyncGenerator[int, None]:
        with read.span(LEASE):
            for row in range(3):
                yield row

    async def main() -> list[str | None]:
        found = []
        for _ in range(3):
            async for _row in rows():
                break
            await asyncio.sleep(0)  # the loop closes the generator in a task, in a context of its own
            await asyncio.sleep(0)
            found.append(parent())
        with read.span(LEASE) as span:
            assert parent() == own_id(span)
        return [*found, parent()]

    assert asyncio.run(main()) == [None] * 4


def test_a_break_out_of_an_async_generator_leaves_the_block_around_it(
    read: DataplaneSite, parent: Callable[[], str | None]
) -> None:
    async def rows() -> AsyncGenerator[int, None]:
        with read.span(LEASE):
            yield 1

    async def main() -> None:
        with read.span(LEASE) as around:
            for _ in range(3):
                async for _row in rows():
                    break
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert parent() == own_id(around)

    asyncio.run(main())


def test_a_task_stays_under_the_ended_span_that_started_it(
    read: DataplaneSite, parent: Callable[[], str | None]
) -> None:
    async def work(ended: asyncio.Event) -> list[str | None]:
        await ended.wait()
        found = [parent()]
        with read.span(LEASE):
            pass
        return [*found, parent()]

    async def main() -> None:
        ended = asyncio.Event()
        with read.span(LEASE) as span:
            task = asyncio.create_task(work(ended))
            await asyncio.sleep(0)
        ended.set()
        assert await task == [own_id(span)] * 2

    asyncio.run(main())


def test_a_task_that_is_in_a_block_when_the_span_around_it_ends_stays_in_it(
    read: DataplaneSite, parent: Callable[[], str | None]
) -> None:
    async def work(ended: asyncio.Event, outer: Span) -> None:
        with read.span(LEASE) as inner:
            await ended.wait()
            assert parent() == own_id(inner)
        assert parent() == own_id(outer)

    async def main() -> None:
        ended = asyncio.Event()
        with read.span(LEASE) as span:
            task = asyncio.create_task(work(ended, span))
            await asyncio.sleep(0)
        assert parent() is None
        ended.set()
        await task

    asyncio.run(main())


def test_blocks_on_an_exit_stack_nest_as_with_does(read: DataplaneSite, parent: Callable[[], str | None]) -> None:
    with ExitStack() as stack:
        spans = [stack.enter_context(read.span(LEASE)) for _ in range(3)]
        assert parent() == own_id(spans[-1])
        stack.pop_all().close()
        assert parent() is None


def test_spans_that_went_astray_are_not_kept(
    read: DataplaneSite, parent: Callable[[], str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    # OpenTelemetry, where another test has let both kinds nest, logs that it cannot detach: records hold the frames.
    monkeypatch.setattr(logging.getLogger("opentelemetry.context"), "disabled", True)
    for _ in range(300):
        (generator,), _ = started(read, 1)
        contextvars.copy_context().run(generator.close)
        del generator, _
    assert parent() is None
    gc.collect()
    alive = [found for found in gc.get_objects() if isinstance(found, Span)]
    assert len(alive) < 10
