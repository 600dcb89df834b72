"""An exemplar leads to a trace that the backend has: what was not delivered is none, whatever became of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import structlog
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

import ringbuf
from drain.delivery.stores import Stores
from drain.exporters.measured import MeasuredExporter
from drain.exporters.protocol import Result, Verdict
from drain.sampling.hold.hold import Hold
from drain.sampling.rules import DEFAULT, Rule, Rules, of_ratio
from drain.service.sampling_plan import SamplingPlan
from drain.spool.spool import Spool, SpoolLimits
from drain.telemetry.telemetry import Telemetry
from tests.service.draining import LAYOUT, SMALL, MemoryBackend, SteppedDrain, records, spans_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from drain.accounting.exemplars import ExemplarFilter

SPANS = 20


@pytest.fixture
def emitter(ring_dir: Path) -> Iterator[ringbuf.Emitter]:
    with ringbuf.Emitter(
        "shop", ring_dir=ring_dir, layout=LAYOUT, capacity=1024, lanes=1, emit_unsampled=True
    ) as emitter:
        yield emitter


def watched(backend: MemoryBackend, exemplars: ExemplarFilter = "trace_based") -> Telemetry:
    return Telemetry(MeasuredExporter(backend).state, max_series=100, exemplars=exemplars, log=structlog.get_logger())


def spread(emitter: ringbuf.Emitter, count: int = SPANS) -> np.ndarray[Any, Any]:
    """Return spans of durations from 1 µs on, each twice as long as the one before it."""
    made = records(emitter, range(count))
    made["end_unix_nano"] = made["start_unix_nano"] + (1000 << np.arange(count, dtype=np.uint64))
    return made


def shown(telemetry: Telemetry) -> set[bytes]:
    assert telemetry.spans is not None
    return {one.span_id for series in telemetry.spans.series() for one in series.exemplars}


def counted(telemetry: Telemetry) -> int:
    assert telemetry.spans is not None
    return sum(sum(series.counts) for series in telemetry.spans.series())


def pending(emitter: ringbuf.Emitter) -> int:
    return emitter.stats().pending


def delivered(backend: MemoryBackend) -> set[bytes]:
    return {span.span_id for r in backend.requests for span in spans_of(TracesData.FromString(r.body))}


def test_spans_are_exemplars_once_the_backend_has_them(ring_dir: Path, emitter: ringbuf.Emitter) -> None:
    backend = MemoryBackend()
    backend.holds = lambda _request: True
    telemetry = watched(backend)
    with SteppedDrain(ring_dir, backend, telemetry=telemetry) as drain:
        emitter.emit_batch(spread(emitter))
        drain.until(lambda: backend.waiting)
        assert shown(telemetry) == set()
        backend.let_go()
        drain.until(lambda: drain.sums().delivered == SPANS)
        assert len(shown(telemetry)) > 8, "one of each bucket"
        assert shown(telemetry) <= delivered(backend)
    telemetry.close()


@pytest.mark.parametrize(
    "verdict", [Result(Verdict.REFUSED), Result(Verdict.DELIVERED, rejected=1)], ids=["refused", "in part"]
)
def test_what_the_backend_refused_even_in_part_is_no_exemplar(
    ring_dir: Path, emitter: ringbuf.Emitter, verdict: Result
) -> None:
    telemetry = watched(backend := MemoryBackend(verdict))
    with SteppedDrain(ring_dir, backend, telemetry=telemetry) as drain:
        emitter.emit_batch(spread(emitter))
        drain.until(lambda: emitter.stats().pending == 0)
        assert (counted(telemetry), shown(telemetry)) == (SPANS, set())
    telemetry.close()


@pytest.mark.parametrize("is_held", [False, True], ids=["out of rings", "out of the hold"])
def test_of_a_batch_of_two_rings_that_was_refused_in_part_nothing_is_an_exemplar(
    ring_dir: Path, emitter: ringbuf.Emitter, tmp_path: Path, *, is_held: bool
) -> None:
    """The receiver says how many it refused, and not of which ring."""
    in_part = Result(Verdict.DELIVERED, rejected=1)
    telemetry = watched(backend := MemoryBackend(in_part, in_part))  # a drain that is held up makes two batches of them
    hold = Hold(tmp_path / "hold", 16 << 20, log=structlog.get_logger()) if is_held else None
    plan = None if hold is None else SamplingPlan(of_ratio(1.0), hold)
    with (
        ringbuf.Emitter("bank", ring_dir=ring_dir, layout=LAYOUT, capacity=1024, lanes=1) as other,
        SteppedDrain(ring_dir, backend, telemetry=telemetry, sampling=plan) as drain,
    ):
        for one in (emitter, other):
            one.emit_batch(spread(one))
        drain.until(lambda: sum(request.spans for request in backend.requests) == 2 * SPANS)
        drain.until(lambda: drain.service.accounts.hold_lost() if is_held else not (pending(emitter) or pending(other)))
        assert (counted(telemetry), shown(telemetry)) == (2 * SPANS, set())
    telemetry.close()


def test_what_went_to_the_spool_is_no_exemplar(ring_dir: Path, emitter: ringbuf.Emitter, tmp_path: Path) -> None:
    backend = MemoryBackend()
    backend.holds = lambda _request: True
    telemetry = watched(backend)
    stores = Stores(Spool(tmp_path / "spool", SpoolLimits(64 << 20), log=structlog.get_logger()), None, 0.0)
    with SteppedDrain(ring_dir, backend, stores=stores, telemetry=telemetry) as drain:
        emitter.emit_batch(spread(emitter))
        drain.until(lambda: emitter.stats().pending == 0)
        assert drain.sums().spooled == SPANS
        assert (counted(telemetry), shown(telemetry)) == (SPANS, set())
    telemetry.close()


@pytest.mark.parametrize(
    ("of", "counts_unsampled", "are_any"),
    [
        ("trace_based", False, False),
        ("trace_based", True, False),
        ("always_on", False, True),
        ("always_off", False, False),
    ],
)
def test_spans_whose_trace_is_not_sampled_are_exemplars_only_where_all_are(
    ring_dir: Path, emitter: ringbuf.Emitter, of: ExemplarFilter, *, counts_unsampled: bool, are_any: bool
) -> None:
    telemetry = watched(backend := MemoryBackend(), of)
    limits = replace(SMALL, counts_unsampled=counts_unsampled)
    with SteppedDrain(ring_dir, backend, limits, telemetry=telemetry) as drain:
        unsampled = spread(emitter)
        unsampled["flags"] = 0x100
        emitter.emit_batch(unsampled)
        drain.until(lambda: emitter.stats().pending == 0)
        assert counted(telemetry) == SPANS
        assert bool(shown(telemetry)) == are_any
        assert shown(telemetry) <= delivered(backend)
    telemetry.close()


@pytest.mark.parametrize(
    "verdict", [Result(Verdict.REFUSED), Result(Verdict.DELIVERED, rejected=1)], ids=["refused", "in part"]
)
def test_what_was_kept_and_then_refused_is_no_exemplar(
    ring_dir: Path, emitter: ringbuf.Emitter, tmp_path: Path, verdict: Result
) -> None:
    telemetry = watched(backend := MemoryBackend(verdict))
    hold = Hold(tmp_path / "hold", 16 << 20, log=structlog.get_logger())
    plan = SamplingPlan(of_ratio(1.0), hold)
    with SteppedDrain(ring_dir, backend, telemetry=telemetry, sampling=plan) as drain:
        emitter.emit_batch(spread(emitter))
        drain.until(drain.service.accounts.hold_lost)
        assert (counted(telemetry), shown(telemetry)) == (SPANS, set())
    telemetry.close()


def test_with_late_sampling_only_spans_that_are_kept_are_exemplars(
    ring_dir: Path, emitter: ringbuf.Emitter, tmp_path: Path
) -> None:
    """All are counted when they come, and what is dropped never reaches the backend."""
    telemetry = watched(backend := MemoryBackend())
    rules = Rules((Rule("failures", statuses=frozenset({2})), Rule(DEFAULT, ratio=0.0)), is_head_open=True)
    hold = Hold(tmp_path / "hold", 16 << 20, log=structlog.get_logger())
    with SteppedDrain(ring_dir, backend, telemetry=telemetry, sampling=SamplingPlan(rules, hold)) as drain:
        both = np.concatenate([spread(emitter), spread(emitter)])
        both["status"][SPANS:] = 2
        failures = {bytes(span_id) for span_id in both["span_id"][SPANS:]}
        emitter.emit_batch(both)
        drain.until(lambda: len(delivered(backend)) == SPANS)
        drain.until(lambda: shown(telemetry))
        assert counted(telemetry) == 2 * SPANS
        assert delivered(backend) == failures
        assert len(shown(telemetry)) > 8
        assert shown(telemetry) <= failures
    telemetry.close()
