"""What late sampling takes of the drain's time, beside keeping all: `python -m bench.cost.late_sampling`.

Prints processor time in ns a span, median of the rounds [smallest … largest], and the ratio. Both sides have the
records, as a copy out of a ring gives them, a look at a time, in turns. *All* encodes and compresses. *Late* looks at
them, holds what waits, decides with `ratio = 0.01`, and encodes and compresses what is kept; its clock runs by the
spans: waits end as they do at 100,000 spans a second, or at `--rate`. With *metrics* both count the spans, too.
A whole drain, with its rings, threads and requests, is in bench/deliver/late_sampling.py.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import structlog

from bench.cost.encode import records
from bench.measure import Figure
from drain.accounting.outcome import Outcome
from drain.accounting.span_metrics import SpanMetrics
from drain.delivery.batch import Batcher
from drain.otlp.encoder import Encoder
from drain.otlp.gzip_members import gzip
from drain.sampling.hold.chunk import RingKey
from drain.sampling.hold.hold import Hold
from drain.sampling.rules import DEFAULT, Rule, Rules
from drain.service.late_sampling import LateSampling
from ringbuf._ringbuf import lib
from ringbuf.dataplane import DATAPLANE_LAYOUT

_LOOK: Final = 2000
_SECOND: Final = 1_000_000_000
_RULES: Final = Rules((Rule("errors", statuses=frozenset({2})), Rule(DEFAULT, ratio=0.01)))
_BATCH_DELAY: Final = 0.2  # seconds
_HOLD_BYTES: Final = 512 << 20


class _Late:
    """Late sampling over a hold in a folder, and the clock that it goes by."""

    def __init__(self, folder: Path, rate: float) -> None:
        self._rate = rate
        self._nano = time.monotonic_ns()
        log = structlog.get_logger()
        self._hold = Hold(folder, _HOLD_BYTES, log=log, clock_nano=lambda: self._nano)
        self._batcher = Batcher("protobuf", 8192, 4 << 20)
        self._late = LateSampling(
            self._hold,
            _RULES,
            self._batcher,
            "protobuf",
            batch_bytes=4 << 20,
            log=log,
            clock=lambda: self._nano / _SECOND,
            clock_nano=lambda: self._nano,
        )
        ring: Any = SimpleNamespace(
            layout=DATAPLANE_LAYOUT,
            resource={"service.name": "bench"},
            root_threshold=0,
            owner=0,
            file=SimpleNamespace(inode=1),
            created_unix_nano=1,
        )
        self._late.join(ring)
        self._ring = ring
        self._position = 0

    def turn(self, spans: np.ndarray) -> None:
        """Take a look's records in, and send what is full."""
        self._nano += int(_SECOND * len(spans) / self._rate)
        if not self._late.has_room(self._ring, len(spans)):
            raise SystemExit("the hold is full")
        taken = self._late.read(self._ring, 0, spans, self._position, self._position + len(spans), 0)
        self._position += len(spans)
        if taken.held:
            self._hold.unreleased.released(RingKey(1, 1), 0)
        self._late.decide(self._nano)
        if self._batcher.age(self._nano / _SECOND) > _BATCH_DELAY:
            self._batcher.close()
        batches = list(self._batcher.full)
        self._batcher.full.clear()
        for batch in batches:
            gzip(batch.parts[0].body)
            batch.decide(0, Outcome(delivered=batch.spans))
        self._late.settle(batches)


def _ids(spans: np.ndarray, source: np.random.Generator, traces: int, kind: str) -> None:
    """Give the records trace ids: all alone, or of traces of ten that overlap."""
    if kind == "alone":
        spans["trace_id"] = source.integers(0, 256, (len(spans), 16), np.uint8)
        spans["present"] |= np.uint32(lib.RB_PRESENT_ALONE)
        return
    known = source.integers(0, 256, (traces, 16), np.uint8)
    spans["trace_id"] = known[source.integers(0, traces, len(spans))]
    spans["parent_span_id"] = np.where(source.random((len(spans), 1)) < 0.1, 0, 1)


def measure(kind: str, looks: int, rate: float, *, has_metrics: bool) -> tuple[float, float]:
    """Return ns a span: all kept, and late."""
    source = np.random.default_rng(1)
    spans = np.array(records(_LOOK))
    spans["status"] = 0
    encoder = Encoder(DATAPLANE_LAYOUT, {"service.name": "bench"})
    metrics = SpanMetrics(1000, (0.001, 0.01, 0.1, 1.0))
    counter = metrics.of(DATAPLANE_LAYOUT, "bench")
    all_nano = late_nano = 0
    with tempfile.TemporaryDirectory(prefix="ringbuf-bench-", dir="/dev/shm") as folder:
        late = _Late(Path(folder) / "hold", rate)
        for look in range(2 * looks):
            _ids(spans, source, _LOOK // 10, kind)
            begin = time.thread_time_ns()
            late.turn(spans)
            middle = time.thread_time_ns()
            if look < looks:  # until waits are over, too
                continue
            gzip(encoder.encode(spans).body)
            end = time.thread_time_ns()
            late_nano, all_nano = late_nano + middle - begin, all_nano + end - middle
            if has_metrics and (summary := counter.summarise(spans, 0)) is not None:
                metrics.add(summary)
                summed = time.thread_time_ns()
                counter.count(spans)  # what is held is released at once
                all_nano, late_nano = all_nano + summed - end, late_nano + time.thread_time_ns() - summed
    return all_nano / (looks * _LOOK), late_nano / (looks * _LOOK)


def main() -> int:
    """Run the command, and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.cost.late_sampling", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="(5)")
    parser.add_argument("--looks", type=int, default=600, help="of 2,000 spans, in a round, after as many (600)")
    parser.add_argument("--rate", type=float, default=100_000.0, help="spans a second, by the clock of waits (100,000)")
    options = parser.parse_args()
    print("| spans | metrics | all ns | late ns | late / all |\n| --- | --- | ---: | ---: | ---: |")
    for kind in ("alone", "traces of ten"):
        for has_metrics in (False, True):
            rounds = [
                measure(kind, options.looks, options.rate, has_metrics=has_metrics) for _ in range(options.rounds)
            ]
            kept, late = (Figure.of(values) for values in zip(*rounds, strict=True))
            cells = [kind, "yes" if has_metrics else "no", *map(_shown, (kept, late, late.over(kept)))]
            print("| " + " | ".join(cells) + " |", flush=True)
    return 0


def _shown(figure: Figure) -> str:
    return f"{figure.median:.3g} [{figure.low:.3g} … {figure.high:.3g}]"


if __name__ == "__main__":
    sys.exit(main())
