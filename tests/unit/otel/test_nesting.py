"""Both kinds of span in one trace, whichever is outside; in a process of its own, which then nests them for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import nursery, python

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import asyncio, contextvars, logging, os, sys
from concurrent.futures import ThreadPoolExecutor
from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
import ringbuf
from ringbuf._site import set_outer_context
from ringbuf.otel import RingSpanProcessor, nest
from ringbuf.dataplane import LeaseId, OpType, site
from tests.consumer import records_in
from pathlib import Path

folder = Path(sys.argv[1])
finished = InMemorySpanExporter()
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(finished))
tracer = provider.get_tracer("test")
emitter = ringbuf.Emitter("service", ring_dir=folder, capacity=64)
read, lease = site(OpType.FBMU_READ, emitter=emitter), LeaseId(7)

def ids(span):
    context = span.get_span_context()
    return context.trace_id.to_bytes(16, "big"), context.span_id.to_bytes(8, "big")

def parents():
    parents.last = [(r["trace_id"].tobytes(), r["parent_span_id"].tobytes()) for r in records_in(folder)]
    return parents.last

def work():
{body}

{nest}
work()
emitter.close()
print("done")
"""
BODIES = {
    "an OpenTelemetry span is the parent of ours": """
    with tracer.start_as_current_span("outer") as outer:
        assert read.emit(lease, 1, 2)
        with read.span(lease):
            pass
    assert parents() == [ids(outer)] * 2
""",
    "ours is the parent of an OpenTelemetry span": """
    with read.span(lease) as span, tracer.start_as_current_span("inner") as inner:
        assert inner.parent.span_id == int.from_bytes(span.span_id, "big")
        assert inner.get_span_context().trace_id == int.from_bytes(span.trace_id, "big")
        with read.span(lease):
            pass
        assert parents() == [ids(inner)]
""",
    "the innermost of ours is the parent inside an OpenTelemetry span": """
    with tracer.start_as_current_span("outer") as outer, read.span(lease) as middle, read.span(lease):
        assert read.emit(lease, 1, 2)
    emitted, inner, first = parents()
    assert inner == (middle.trace_id, middle.span_id)
    assert first == ids(outer)
    assert emitted[0] == middle.trace_id
""",
    "behind the block the outer span is the parent again": """
    with tracer.start_as_current_span("outer") as outer:
        with read.span(lease):
            pass
        with tracer.start_as_current_span("sibling") as sibling:
            assert sibling.parent.span_id == outer.get_span_context().span_id
    assert read.emit(lease, 1, 2)
    assert parents()[-1][1] == bytes(8)
""",
    "an unsampled trace stays unsampled": """
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
    off = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False).get_tracer("off")
    with off.start_as_current_span("outer"), read.span(lease) as span:
        assert int(span.traceparent[-2:], 16) & 1 == 0
    assert emitter.stats().unsampled == 1
""",
    "tasks keep their own parents": """
    async def one(number):
        with tracer.start_as_current_span(str(number)) as outer:
            await asyncio.sleep(0)
            with read.span(LeaseId(number)):
                await asyncio.sleep(0)
            return ids(outer)
    async def all_of_them():
        return await asyncio.gather(*(one(number) for number in range(20)))
    expected = asyncio.run(all_of_them())
    found = {int(r["grafos.lease.id"][15]): (r["trace_id"].tobytes(), r["parent_span_id"].tobytes())
             for r in records_in(folder)}
    assert found == dict(enumerate(expected))
""",
    "a pool thread that has OpenTelemetry's context has its span": """
    def in_pool(carried):
        token = context.attach(carried)
        assert read.emit(lease, 1, 2)
        with read.span(lease):
            pass
        assert ringbuf.current_traceparent() == header
        context.detach(token)
        assert ringbuf.current_traceparent() is None
        assert read.emit(lease, 1, 2)
    with ThreadPoolExecutor(1) as pool, read.span(lease) as span:
        header = span.traceparent
        pool.submit(in_pool, context.get_current()).result()
        assert parents() == [(span.trace_id, span.span_id)] * 2 + [(parents.last[2][0], bytes(8))]
""",
    "a context that is attached inside a block is heard": """
    before = context.get_current()
    with tracer.start_as_current_span("first") as first:
        around_first = context.get_current()
    with read.span(lease) as outer:
        around_outer = context.get_current()
        with read.span(lease) as inner:
            for attached, expected in [
                (context.Context(), None),
                (before, None),
                (around_first, ids(first)),
                (around_outer, (outer.trace_id, outer.span_id)),
                (context.get_current(), (inner.trace_id, inner.span_id)),
            ]:
                token = context.attach(attached)
                assert read.emit(lease, 1, 2)
                with read.span(lease) as begun:
                    assert ringbuf.current_traceparent() == begun.traceparent
                    assert trace.get_current_span().get_span_context().span_id == int.from_bytes(begun.span_id, "big")
                    assert read.emit(lease, 1, 2)
                emitted, under, block = parents()
                assert under == (begun.trace_id, begun.span_id)
                if expected is None:
                    assert (emitted[1], block[1]) == (bytes(8), bytes(8))
                else:
                    assert [emitted, block] == [expected] * 2
                context.detach(token)
            assert ringbuf.current_traceparent() == inner.traceparent
        assert ringbuf.current_traceparent() == outer.traceparent
    assert ringbuf.current_traceparent() is None
""",
    "a block that began before they nested stays the parent": """
    set_outer_context(None, None, None)
    with read.span(lease) as span:
        nest()
        assert read.emit(lease, 1, 2)
        with read.span(lease):
            pass
        assert parents() == [(span.trace_id, span.span_id)] * 2
        assert ringbuf.current_traceparent() == span.traceparent
    assert ringbuf.current_traceparent() is None
""",
    "the header for the next hop is that of the innermost": """
    with read.span(lease) as span:
        with tracer.start_as_current_span("inner") as inner:
            header = ringbuf.current_traceparent().split("-")
            assert (bytes.fromhex(header[1]), bytes.fromhex(header[2])) == ids(inner)
        assert ringbuf.current_traceparent() == span.traceparent
""",
    "interleaved generators leave nothing current": """
    def generator(name):
        with read.span(lease):
            yield
    one, two = generator("one"), generator("two")
    next(one), next(two)
    one.close()
    two.close()
    assert context.get_current() == context.Context()
    with tracer.start_as_current_span("after") as after:
        assert after.parent is None
    assert read.emit(lease, 1, 2)
    assert parents()[-1][1] == bytes(8)
""",
    "a generator that is closed in another context leaves nothing current": """
    def generator():
        with read.span(lease):
            yield
    one = generator()
    with tracer.start_as_current_span("around") as around:
        next(one)
        contextvars.copy_context().run(one.close)
        with tracer.start_as_current_span("after") as after:
            assert ids(after)[0] == ids(around)[0]
            assert after.parent.span_id == around.get_span_context().span_id
        assert read.emit(lease, 1, 2)
        assert parents()[-1] == ids(around)
""",
    "a task goes on under the block that started it": """
    async def work():
        await started.wait()
        assert read.emit(lease, 1, 2)
        with tracer.start_as_current_span("in task") as inner:
            return ids(inner)[0]
    async def main():
        global started
        started = asyncio.Event()
        with read.span(lease) as span:
            task = asyncio.create_task(work())
            await asyncio.sleep(0)
        started.set()
        assert await task == span.trace_id
        assert parents()[-1] == (span.trace_id, span.span_id)
    asyncio.run(main())
""",
}


APART = """
    before = logging.getLogger("ringbuf").handlers[:], dict(os.environ)
    with tracer.start_as_current_span("outer"):
        assert read.emit(lease, 1, 2)
    assert parents()[0][1] == bytes(8)
    assert before == ([], dict(os.environ))
    RingSpanProcessor(ring_dir=folder)
    with tracer.start_as_current_span("outer") as outer:
        assert read.emit(lease, 1, 2)
    assert parents()[-1] == ids(outer)
"""


def program(body: str, *, nest: str) -> str:
    return PROGRAM.replace("{body}", body).replace("{nest}", nest)


@pytest.mark.parametrize("name", BODIES)
def test_both_kinds_nest(ring_dir: Path, name: str) -> None:
    done = nursery.run(program(BODIES[name], nest="nest()"), ring_dir)
    assert done.stdout == "done\n", done.stderr


def test_an_import_changes_nothing_and_a_processor_makes_them_nest(ring_dir: Path) -> None:
    done = python.run(program(APART, nest=""), ring_dir)
    assert done.stdout == "done\n", done.stderr
