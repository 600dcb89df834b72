"""Our doors, each as a probe: a burst that fits the ring, then the ring is emptied with the clock stopped."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final

from bench.emit.ring import emptied_emitter, shared_emitter
from bench.measure import bursts, percentiles
from ringbuf import unix_nano
from ringbuf.dataplane import (
    DATAPLANE_LAYOUT,
    DataplaneSpanKind,
    LeaseId,
    OpType,
    Outcome,
    ResourceKind,
    build_dataplane_span,
    emit_dataplane_span,
    emit_dataplane_span_from_traceparent,
    site,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.measure import Round
    from ringbuf import Emitter

BURST: Final = 8000  # of the default capacity of 8,192 slots: 1 MiB, which stays in the cache as it does beside a drain
TIMES: Final = 25
START: Final = 1_700_000_000_000_000_000
END: Final = START + 1_500
TRACEPARENT: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
_BURST_OF_THREADS: Final = 1 << 16
_SAMPLES: Final = 50_000


def site_emit(emitter: Emitter) -> Callable[[int], None]:
    """`site.emit` with both times given: every attribute of Phase 219."""
    emit, lease = site(OpType.FBMU_READ, emitter=emitter).emit, LeaseId(7)

    def burst(count: int) -> None:
        for _ in repeat(None, count):
            emit(lease, START, END, 4096)

    return burst


def site_emit_clocked(emitter: Emitter) -> Callable[[int], None]:
    """`site.emit` with both clock readings: `unix_nano` at the start, the end's by C, as None asks it to."""
    emit, lease, now = site(OpType.FBMU_READ, emitter=emitter).emit, LeaseId(7), unix_nano

    def burst(count: int) -> None:
        for _ in repeat(None, count):
            start = now()
            emit(lease, start, None, 4096)

    return burst


def site_span(emitter: Emitter) -> Callable[[int], None]:
    """`with site.span(lease)`: both clocks, the contextvar, one attribute set inside."""
    read, lease = site(OpType.FBMU_READ, emitter=emitter), LeaseId(7)

    def burst(count: int) -> None:
        for _ in repeat(None, count):
            with read.span(lease) as span:
                span.nbytes = 4096

    return burst


def generic_site_emit(emitter: Emitter) -> Callable[[int], None]:
    """`Emitter.site(…).emit`, the door of any layout, with the same values."""
    generic = emitter.site(
        "grafos.dataplane.fbmu",
        constants={"grafos.resource.kind": "mem", "grafos.operation": "fbmu_read"},
        varying=("grafos.lease.id", "grafos.bytes", "grafos.outcome"),
    )
    emit, lease = generic.emit, LeaseId(7).raw

    def burst(count: int) -> None:
        for _ in repeat(None, count):
            emit(START, END, lease, 4096, "ok")

    return burst


def emit_record(emitter: Emitter) -> Callable[[int], None]:
    """`Emitter.emit` of a numpy record that is there already."""
    emit, record = emitter.emit, _record()

    def burst(count: int) -> None:
        for _ in repeat(None, count):
            emit(record)

    return burst


def friendly(emitter: Emitter) -> Callable[[int], None]:
    """`emit_dataplane_span`, all by name and checked."""
    del emitter  # the shared one
    lease, kind, resource_kind = LeaseId(7), DataplaneSpanKind.FBMU, ResourceKind.MEM
    operation, outcome = OpType.FBMU_READ, Outcome.OK

    def burst(count: int) -> None:
        for _ in repeat(None, count):
            emit_dataplane_span(
                kind,
                lease_id=lease,
                resource_kind=resource_kind,
                operation=operation,
                outcome=outcome,
                start_unix_nano=START,
                end_unix_nano=END,
                nbytes=4096,
            )

    return burst


def friendly_from_traceparent(emitter: Emitter) -> Callable[[int], None]:
    """`emit_dataplane_span_from_traceparent`, the header parsed each time."""
    del emitter  # the shared one
    lease, kind, resource_kind = LeaseId(7), DataplaneSpanKind.FBMU, ResourceKind.MEM
    operation, outcome = OpType.FBMU_READ, Outcome.OK

    def burst(count: int) -> None:
        for _ in repeat(None, count):
            emit_dataplane_span_from_traceparent(
                TRACEPARENT,
                kind,
                lease_id=lease,
                resource_kind=resource_kind,
                operation=operation,
                outcome=outcome,
                start_unix_nano=START,
                end_unix_nano=END,
                nbytes=4096,
            )

    return burst


def emit_batch(emitter: Emitter) -> Callable[[int], None]:
    """`Emitter.emit_batch` of a numpy array, per record."""
    records = DATAPLANE_LAYOUT.empty(BURST)
    records[:] = _record()
    emitter.fill_ids(records)
    batch = emitter.emit_batch

    def burst(count: int) -> None:
        if batch(records) != count:
            raise RuntimeError("the batch does not fit the ring")

    return burst


def _record() -> Any:
    return build_dataplane_span(
        DataplaneSpanKind.FBMU,
        lease_id=7,
        resource_kind=ResourceKind.MEM,
        operation=OpType.FBMU_READ,
        outcome=Outcome.OK,
        start_unix_nano=START,
        end_unix_nano=END,
        nbytes=4096,
    )


@contextmanager
def alone(door: Callable[[Emitter], Callable[[int], None]]) -> Iterator[Round]:
    """Measure a door, with nothing else going on."""
    with emptied_emitter() as (emitter, taker):
        burst = door(emitter)
        yield lambda: bursts(burst, taker.take, BURST, TIMES)


@contextmanager
def beside_consumer(pause_seconds: float) -> Iterator[Round]:
    """Measure `site.emit` while another process takes the records: lines of cache go to and fro.

    Args:
        pause_seconds: between the consumer's looks at the ring; 0: it never pauses, the worst that it can do.
    """
    with shared_emitter(capacity=1 << 16) as emitter:
        path = str(emitter.stats().path)
        consumer = subprocess.Popen(
            [sys.executable, "-m", "bench.emit.consumer", path, str(pause_seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            assert consumer.stdout is not None
            consumer.stdout.readline()
            burst = site_emit(emitter)

            def between() -> None:
                if not emitter.wait_drained(10):
                    raise RuntimeError("the consumer does not take the records")

            yield lambda: bursts(burst, between, 4 * BURST, TIMES // 4)
            between()
        finally:
            consumer.communicate(timeout=30)


@contextmanager
def beside_busy_thread() -> Iterator[Round]:
    """Measure single calls of `site.emit` while another thread of this process computes."""
    with emptied_emitter() as (emitter, taker), busy_thread():
        emit, lease = site(OpType.FBMU_READ, emitter=emitter).emit, LeaseId(7)
        yield lambda: sampled(lambda: emit(lease, START, END, 4096), taker.take, 4000)


@contextmanager
def in_threads(count: int) -> Iterator[Round]:
    """Measure `site.emit` from several threads: nanoseconds of wall time per span, all threads together."""
    with emptied_emitter(capacity=_BURST_OF_THREADS) as (emitter, taker):
        burst = site_emit(emitter)
        yield lambda: {"ns": threads_burst(burst, taker.take, count, _BURST_OF_THREADS - 64)}


@contextmanager
def busy_thread() -> Iterator[None]:
    """Let a thread compute in Python for as long as the block lasts."""
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            sum(range(1000))

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def sampled(call: Callable[[], object], between: Callable[[], object], every: int) -> dict[str, float]:
    """Return the distribution of single calls; `between` is called, unclocked, after so many."""
    nanos = []
    now = time.perf_counter_ns
    for number in range(_SAMPLES):
        if number % every == 0:
            between()
        start = now()
        call()
        nanos.append(now() - start)
    return percentiles(nanos)


def threads_burst(burst: Callable[[int], None], between: Callable[[], object], threads: int, operations: int) -> float:
    """Return the nanoseconds of wall time per operation when threads share a burst."""
    between()
    share = operations // threads
    barrier = threading.Barrier(threads + 1)

    def work() -> None:
        barrier.wait()
        burst(share)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    barrier.wait()
    start = time.perf_counter_ns()
    for worker in workers:
        worker.join()
    return (time.perf_counter_ns() - start) / (share * threads)


PROBES: Final = {
    "ringbuf.site_emit": functools.partial(alone, site_emit),
    "ringbuf.site_emit_clocked": functools.partial(alone, site_emit_clocked),
    "ringbuf.site_span": functools.partial(alone, site_span),
    "ringbuf.generic_site_emit": functools.partial(alone, generic_site_emit),
    "ringbuf.emit_record": functools.partial(alone, emit_record),
    "ringbuf.emit_dataplane_span": functools.partial(alone, friendly),
    "ringbuf.emit_dataplane_span_from_traceparent": functools.partial(alone, friendly_from_traceparent),
    "ringbuf.emit_batch": functools.partial(alone, emit_batch),
    "ringbuf.site_emit_beside_consumer": functools.partial(beside_consumer, 0.001),
    "ringbuf.site_emit_beside_spinning_consumer": functools.partial(beside_consumer, 0.0),
    "ringbuf.site_emit_beside_busy_thread": beside_busy_thread,
    **{f"ringbuf.site_emit_{count}_threads": functools.partial(in_threads, count) for count in (1, 2, 4, 16)},
}
