"""Functions of every kind in a span of each call, and the span that encloses what runs elsewhere."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace

import ringbuf
from ringbuf import Status
from ringbuf.dataplane import DATAPLANE_LAYOUT, LeaseId, OpType, site
from ringbuf.otel import nest
from ringbuf.testing import InMemoryEmitter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator

LAYOUT = ringbuf.SpanLayout(
    span_names=["outer", "work", "step"], attributes=[ringbuf.Attribute("items", "u8")], record_errors=True
)


@pytest.fixture
def memory() -> Iterator[InMemoryEmitter]:
    with InMemoryEmitter(layout=LAYOUT) as emitter:
        yield emitter


def parents(memory: InMemoryEmitter) -> list[tuple[str, str | None]]:
    """Return the names of the spans, each with that of its parent."""
    spans = memory.finished_spans()
    names = {span["span_id"]: span["name"] for span in spans}
    pairs = [(span["name"], names.get(span["parent_span_id"] or "")) for span in spans]
    return sorted(pairs, key=lambda pair: (pair[0], pair[1] or ""))


def test_a_function_runs_in_a_span(memory: InMemoryEmitter) -> None:
    step = memory.site("step")

    @memory.site("work", varying=["items"]).wrap
    def work(first: int, *, second: int = 2) -> int:
        """Add."""
        step.emit(1, 2)
        span = ringbuf.current_span()
        assert span is not None
        span["items"] = first
        return first + second

    assert (work(1), work(3, second=4)) == (3, 7)
    assert (work.__name__, work.__doc__, [*inspect.signature(work).parameters]) == ("work", "Add.", ["first", "second"])
    assert parents(memory) == [("step", "work")] * 2 + [("work", None)] * 2
    assert [span["attributes"] for span in memory.finished_spans() if span["name"] == "work"] == [
        {"items": 1},
        {"items": 3},
    ]


def test_an_exception_passes_and_is_recorded(memory: InMemoryEmitter) -> None:
    @memory.site("work").wrap
    def work() -> None:
        raise KeyError("k")

    with pytest.raises(KeyError):
        work()
    (span,) = memory.finished_spans()
    assert (span["status"], span["attributes"]) == (Status.ERROR, {"error.type": "KeyError", "error.message": "'k'"})


def test_a_coroutine_runs_in_a_span_also_beside_others(memory: InMemoryEmitter) -> None:
    step = memory.site("step")

    @memory.site("work").wrap
    async def work(number: int) -> int:
        for _ in range(3):
            await asyncio.sleep(0)
            step.emit(1, 2)
        return number

    async def run() -> list[int]:
        with memory.site("outer").span():
            return await asyncio.gather(*map(work, range(5)))

    assert inspect.iscoroutinefunction(work)
    assert asyncio.run(run()) == [0, 1, 2, 3, 4]
    assert parents(memory) == [("outer", None)] + [("step", "work")] * 15 + [("work", "outer")] * 5


def test_a_generator_is_enclosed_while_its_body_runs_and_its_reader_is_not(memory: InMemoryEmitter) -> None:
    step, outer = memory.site("step"), memory.site("outer")

    @memory.site("work").wrap
    def work() -> Generator[int, str, str]:
        step.emit(1, 2)
        got = [(yield 1)]
        step.emit(1, 2)
        got.append((yield 2))
        return "".join(got)

    assert inspect.isgeneratorfunction(work)
    generator = work()
    assert parents(memory) == [], "it begins with its first step"
    with outer.span():
        assert next(generator) == 1
        assert ringbuf.current_traceparent() is not None
        inside = outer.span()
        with inside:
            assert generator.send("a") == 2
            assert ringbuf.current_span() is inside
    assert ringbuf.current_span() is None
    with pytest.raises(StopIteration) as end:
        generator.send("b")
    assert end.value.value == "ab"
    assert ringbuf.current_span() is None
    assert parents(memory) == [
        ("outer", None),
        ("outer", "outer"),
        ("step", "work"),
        ("step", "work"),
        ("work", "outer"),
    ]


def test_a_block_in_a_generator_encloses_its_later_pieces_too(memory: InMemoryEmitter) -> None:
    step, outer = memory.site("step"), memory.site("outer")

    @memory.site("work").wrap
    def work() -> Iterator[int]:
        with outer.span() as inside:
            yield 1
            assert ringbuf.current_span() is inside
            step.emit(1, 2)
            yield 2
            step.emit(1, 2)
        yield 3
        memory.site("work").emit(1, 2)

    seen = []
    for number in work():
        assert ringbuf.current_span() is None
        seen.append(number)
    assert seen == [1, 2, 3]
    assert ringbuf.current_span() is None
    assert parents(memory) == [
        ("outer", "work"),
        ("step", "outer"),
        ("step", "outer"),
        ("work", None),
        ("work", "work"),
    ]


def test_a_block_in_an_asynchronous_generator_does_so_whichever_task_reads(memory: InMemoryEmitter) -> None:
    step, outer = memory.site("step"), memory.site("outer")

    @memory.site("work").wrap
    async def work() -> AsyncIterator[int]:
        with outer.span():
            yield 1
            step.emit(1, 2)
            yield 2
        yield 3
        step.emit(1, 2)

    async def next_of(generator: AsyncIterator[int]) -> int:
        return await anext(generator)

    async def run() -> None:
        generator = work()
        for number in (1, 2, 3):
            assert await asyncio.create_task(next_of(generator)) == number
        assert [one async for one in generator] == []
        assert ringbuf.current_span() is None

    asyncio.run(run())
    assert parents(memory) == [("outer", "work"), ("step", "outer"), ("step", "work"), ("work", None)]


def test_a_generator_takes_exceptions_and_its_close(memory: InMemoryEmitter) -> None:
    seen: list[str] = []

    @memory.site("work").wrap
    def work() -> Generator[int, None, None]:
        with suppress(ValueError):
            yield 1
        seen.append("value error")
        try:
            yield 2
        finally:
            seen.append("closed")
            memory.site("step").emit(1, 2)

    generator = work()
    assert next(generator) == 1
    assert generator.throw(ValueError()) == 2
    generator.close()
    failing = work()
    next(failing)
    with pytest.raises(KeyError):
        failing.throw(KeyError("k"))
    assert seen == ["value error", "closed"]
    assert [(span["name"], span["status"].name) for span in memory.finished_spans() if span["name"] == "work"] == [
        ("work", "UNSET"),
        ("work", "ERROR"),
    ]
    assert parents(memory)[0] == ("step", "work")


def test_a_generator_keeps_the_context_variables_of_its_reader(memory: InMemoryEmitter) -> None:
    """What a traced context manager sets is seen in its block."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="before")

    @contextmanager
    @memory.site("work").wrap
    def work() -> Iterator[None]:
        token = variable.set("inside")
        yield
        variable.reset(token)

    with work():
        assert variable.get() == "inside"
        assert ringbuf.current_span() is None
    assert variable.get() == "before"


def test_an_asynchronous_generator_is_enclosed_while_its_body_runs(memory: InMemoryEmitter) -> None:
    step = memory.site("step")

    @memory.site("work").wrap
    async def work() -> AsyncIterator[int]:
        for number in range(3):
            await asyncio.sleep(0)
            step.emit(1, 2)
            yield number

    async def run() -> list[int]:
        got = []
        with memory.site("outer").span() as outer:
            async for number in work():
                assert ringbuf.current_span() is outer
                got.append(number)
            early = work()
            assert await anext(early) == 0
            await early.aclose()  # type: ignore[attr-defined] # it is a generator
            assert ringbuf.current_span() is outer
        return got

    assert inspect.isasyncgenfunction(work)
    assert asyncio.run(run()) == [0, 1, 2]
    assert parents(memory) == [("outer", None)] + [("step", "work")] * 4 + [("work", "outer")] * 2


def test_wrap_takes_functions_alone(memory: InMemoryEmitter) -> None:
    wrap: Any = memory.site("work").wrap
    with pytest.raises(TypeError, match="not 7"):
        wrap(7)
    with pytest.raises(TypeError, match="wrap its methods"):
        wrap(type("Store", (), {}))  # it would be a function then
    for kind in (classmethod, staticmethod):
        with pytest.raises(TypeError, match=f"below @{kind.__name__}"):
            wrap(kind(lambda *_: None))


def test_an_object_that_is_called_is_what_its_method_is(memory: InMemoryEmitter) -> None:
    step = memory.site("step")

    class Waits:
        async def __call__(self, number: int) -> int:
            await asyncio.sleep(0)
            step.emit(1, 2)
            return number

    class Counts:
        def __call__(self, number: int) -> Generator[int, None, None]:
            for item in range(number):
                step.emit(1, 2)
                yield item

    assert asyncio.run(memory.site("work").wrap(Waits())(7)) == 7
    assert list(memory.site("outer").wrap(Counts())(2)) == [0, 1]
    assert asyncio.run(memory.site("work").wrap(functools.partial(Waits().__call__, 8))()) == 8
    steps = [("step", "outer")] * 2 + [("step", "work")] * 2
    assert parents(memory) == [("outer", None), *steps, ("work", None), ("work", None)]


def test_a_method_of_the_data_plane_is_wrapped_with_its_lease() -> None:
    with InMemoryEmitter(layout=DATAPLANE_LAYOUT) as memory:

        @site(OpType.FBMU_READ, emitter=memory).wrap(LeaseId(7))
        def read() -> int:
            return 1

        assert read() == 1
        assert memory.finished_spans()[0]["attributes"]["grafos.lease.id"] == LeaseId(7).hex()


def test_what_an_executor_runs_has_the_parent_of_who_gave_it(memory: InMemoryEmitter) -> None:
    step = memory.site("step")
    with ThreadPoolExecutor(2) as executor:
        with memory.site("outer").span():
            bound = ringbuf.bind_context(lambda number: (step.emit(1, 2), number)[1])
            assert [*executor.map(bound, range(5))] == list(range(5))
        assert executor.submit(step.emit, 1, 2).result()
    assert parents(memory) == [("outer", None), ("step", None)] + [("step", "outer")] * 5


def test_a_bound_function_may_run_in_several_threads_at_once(memory: InMemoryEmitter) -> None:
    together = threading.Barrier(2)
    with memory.site("outer").span() as outer:
        bound = ringbuf.bind_context(lambda: (together.wait(60), ringbuf.current_span())[1])
    with ThreadPoolExecutor(2) as executor:
        assert [one.result() for one in [executor.submit(bound), executor.submit(bound)]] == [outer, outer]


def test_a_copied_context_and_a_thread_of_asyncio_have_the_parent_too(memory: InMemoryEmitter) -> None:
    step = memory.site("step")

    async def run() -> None:
        with memory.site("outer").span():
            await asyncio.to_thread(step.emit, 1, 2)
            context = contextvars.copy_context()
        context.run(step.emit, 1, 2)

    asyncio.run(run())
    assert parents(memory) == [("outer", None), ("step", "outer"), ("step", "outer")]


def test_a_span_is_used_where_it_was_not_entered(memory: InMemoryEmitter) -> None:
    step = memory.site("step")
    with memory.site("outer").span() as outer:
        pass
    with ringbuf.use_span(outer) as used:
        assert used is outer
        assert ringbuf.current_span() is outer
        step.emit(1, 2)
    assert ringbuf.current_span() is None
    with pytest.raises(RuntimeError, match="entered"):
        ringbuf.use_span(memory.site("outer").span())
    wrong: Any = outer.traceparent
    with pytest.raises(TypeError, match="a span of a site"):
        ringbuf.use_span(wrong)
    assert parents(memory) == [("outer", None), ("step", "outer")]


def test_who_hands_on_the_current_span_need_not_ask_whether_there_is_one(memory: InMemoryEmitter) -> None:
    step, carried = memory.site("step"), ringbuf.current_span()
    with ringbuf.use_span(carried) as used:
        assert used is None
        step.emit(1, 2)
    with memory.site("outer").span() as outer:
        with ringbuf.use_span(carried):
            assert ringbuf.current_span() is outer
        assert ringbuf.current_span() is outer
    assert parents(memory) == [("outer", None), ("step", None)]


def test_a_span_is_made_the_enclosing_one_within_itself_by_the_same_object(memory: InMemoryEmitter) -> None:
    with memory.site("outer").span() as outer:
        pass
    using = ringbuf.use_span(outer)
    with using:
        with using:
            assert ringbuf.current_span() is outer
        assert ringbuf.current_span() is outer
    assert ringbuf.current_span() is None


def test_threads_may_share_what_makes_a_span_the_enclosing_one(memory: InMemoryEmitter) -> None:
    with memory.site("outer").span() as outer:
        pass
    using, found = ringbuf.use_span(outer), []
    entered, left = threading.Event(), threading.Event()

    def work() -> None:
        with using:
            entered.set()
            assert left.wait(60)
            found.append(ringbuf.current_span())
        found.append(ringbuf.current_span())

    thread = threading.Thread(target=work)
    with using:
        thread.start()
        assert entered.wait(60)
    assert ringbuf.current_span() is None  # it was entered first, and is left first
    left.set()
    thread.join()
    assert found == [outer, None]


def test_opentelemetrys_spans_nest_in_the_steps_of_a_generator_and_not_between(memory: InMemoryEmitter) -> None:
    from ringbuf._site import set_outer_context  # noqa: PLC0415 - of this test alone

    nest()
    try:

        @memory.site("work").wrap
        def work() -> Iterator[int]:
            yield trace.get_current_span().get_span_context().span_id

        generator = work()
        inside = next(generator)
        between = trace.get_current_span().get_span_context().span_id
        assert list(generator) == []
    finally:
        set_outer_context(None, None, None)
    (span,) = memory.finished_spans()
    assert (f"{inside:016x}", between) == (span["span_id"], 0)
    assert not trace.get_current_span().get_span_context().is_valid
