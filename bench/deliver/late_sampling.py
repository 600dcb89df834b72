"""A drain that keeps 1 % of all traces beside one that keeps all: processor time a span, and the highest rate.

`python -m bench.deliver.late_sampling` runs both drains, as processes, in turns at the same rate, and prints for each
kind of span a row: the drain's processor time in ns a span (its whole process: rings, hold, decisions, compression,
requests) as the median of the rounds [smallest … largest], and the ratio. Then it searches for the highest rate at
which nothing is lost and the rings are empty soon after the last span (`--highest`). The producer writes batches into
two rings; producer, drain and receiver share the machine.

*Alone* are roots that are their whole trace. *Ten* are traces of ten spans: five in each ring, the root last. Waits are
the defaults: half a second after the root. *Hold* is the most that was in it over what rate x wait x (slot + 4 bytes)
gives, as the drain shows it each second; *early* counts decisions for want of room, and *late* spans that came after
theirs: of both there should be none.
"""

from __future__ import annotations

import argparse
import re
import socket
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

import ringbuf
from bench.cost.encode import records
from bench.deliver.end_to_end import Sink, drain
from bench.deliver.search import NARROW, Search
from bench.measure import Figure, processor_seconds
from drain.sampling.hold.picture import read_picture
from ringbuf._ringbuf import lib
from ringbuf.dataplane import DATAPLANE_LAYOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_RULES: Final = """[sampling]
[[sampling.rule]]
name = "failures"
status = "error"
[[sampling.rule]]
name = "rest"
ratio = 0.01
"""
_TICK_SECONDS: Final = 0.01
_SETTLE_SECONDS: Final = 1.5
_DRAIN_SECONDS: Final = 30.0
_LAG_SECONDS: Final = 0.5
_WAIT_SECONDS: Final = 0.5  # after the root
_WORD_BYTES: Final = 4  # of a record in the hold
_KINDS: Final = ("alone", "ten")
_LATE: Final = re.compile(r"^ringbuf_drain_sampling_late_spans_total (\S+)", re.MULTILINE)
_EARLY: Final = re.compile(r'ringbuf_drain_sampling_traces_total\{.*reason="(?:limit|hold|share)".*\} (\S+)')


class Trial(NamedTuple):
    """What one trial found.

    Attributes:
        nano: the drain's processor time, ns a span.
        rate: spans a second that the producer emitted: less than was asked where it has no time for more.
        holds: nothing was lost, and the rings were empty soon after the last span.
        hold_bytes: the most that was in the hold.
        early: traces that were decided for want of room, since the drain began.
        late: spans that came after the decision on their trace, since the drain began.
    """

    nano: float
    rate: float
    holds: bool
    hold_bytes: float
    early: float
    late: float


class Producer:
    """Rings, and the spans that go into them at a rate.

    Args:
        ring_dir: of all.
        kind: "alone", "ten", or "open": traces of ten in one ring, without a root.
        capacity: of each ring.
        rings: how many; of "ten" two.
        first: number of its first trace; where others began they are late, and nothing waits.
    """

    def __init__(self, ring_dir: str, kind: str, capacity: int, rings: int, first: int) -> None:
        self._emitters = [ringbuf.Emitter(f"bench {at}", ring_dir=ring_dir, capacity=capacity) for at in range(rings)]
        self._kind = kind
        self.traces = first
        self._late: np.ndarray | None = None
        self._template = np.array(records(1 << 16), DATAPLANE_LAYOUT.dtype)
        self._template["status"] = 0
        self._template["flags"] = lib.RB_SPAN_SAMPLED | lib.RB_SPAN_RANDOM
        if kind == "alone":
            self._template["parent_span_id"] = 0
            self._template["present"] |= np.uint32(lib.RB_PRESENT_ALONE)
        else:
            self._template["parent_span_id"] = 1

    def emit(self, rate: float, seconds: float, *, each_tick: Callable[[], None] = lambda: None) -> None:
        """Emit evenly."""
        begin, done, total = time.perf_counter(), 0, int(rate * seconds)
        while done < total:
            due = min(total, int((time.perf_counter() - begin) * rate) + 1) - done
            if due >= min(total - done, rate * _TICK_SECONDS):
                each_tick()
                done += self._burst(due)
            else:
                time.sleep(_TICK_SECONDS / 4)
        self._burst(0)

    def lost(self) -> int:
        """Return how many spans found no room."""
        return sum(emitter.stats().attempts - emitter.stats().published for emitter in self._emitters)

    def pending(self) -> int:
        """Return how many spans are in the rings."""
        return sum(emitter.stats().pending for emitter in self._emitters)

    def wait_drained(self) -> bool:
        """Return whether the rings became empty."""
        return all(emitter.wait_drained(_DRAIN_SECONDS) for emitter in self._emitters)

    def close(self) -> None:
        """Close both."""
        for emitter in self._emitters:
            emitter.close()

    def _burst(self, spans: int) -> int:
        """Write about so many spans; of traces the second half comes with the next burst."""
        spans = min(spans, len(self._template))
        if self._kind != "ten":
            a_trace = 1 if self._kind == "alone" else 10
            part = a_trace * -(-spans // (a_trace * len(self._emitters)))
            for emitter in self._emitters:
                emitter.emit_batch(self._some(part, a_trace))
            return len(self._emitters) * part
        late, self._late = self._late, None
        traces = -(-spans // 10)
        if traces:
            self._late = self._some(5 * traces, 5)
            self._emitters[0].emit_batch(self._late)
        if late is not None:
            late["parent_span_id"][4::5] = 0
            self._emitters[1].emit_batch(late)
        return 10 * traces

    def _some(self, spans: int, a_trace: int) -> np.ndarray:
        """Return spans of new traces, whose ids are a bijection of their number (splitmix64)."""
        made = self._template[:spans].copy()
        ids = np.arange(self.traces, self.traces + spans // a_trace, dtype=np.uint64)
        self.traces += spans // a_trace
        ids = (ids + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        ids = (ids ^ (ids >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        ids = (ids ^ (ids >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        halves = np.repeat(ids ^ (ids >> np.uint64(31)), a_trace)
        made["trace_id"] = np.stack([halves, ~halves], axis=1).view(np.uint8).reshape(spans, 16)
        return made


class Bench:
    """A drain with its receiver, and producers for it.

    Args:
        kind: of spans.
        is_late: 1 % is kept by rules.
        has_metrics: spans are counted.
        capacity: of each ring.
        rings: how many.

    Attributes:
        pid: of the drain.
    """

    def __init__(self, kind: str, capacity: int, *, is_late: bool, has_metrics: bool, rings: int = 2) -> None:
        self._kind, self._capacity, self._rings, self._traces = kind, capacity, rings, 0
        self._cleanup = ExitStack()
        self._dir = self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-bench-", dir="/dev/shm"))
        sink = self._cleanup.enter_context(Sink("http", keeps=False))
        options = ["--endpoint", sink.endpoint]
        if not has_metrics:
            options += ["--max-series", "0"]
        if is_late:
            rules = Path(self._dir) / "rules.toml"
            rules.write_text(_RULES)
            options += ["--sampling", str(rules), "--hold-bytes", "1GiB"]
        self._port = _free_port()
        options += ["--listen", f"127.0.0.1:{self._port}"]
        self.pid = self._cleanup.enter_context(drain(self._dir, "otlp-http", *options))

    def trial(self, rate: float, seconds: float) -> Trial:
        """Emit at a rate, and wait until all is decided."""
        with self.producer() as producer:
            producer.emit(1.0, 1.0)  # the rings are attached: that is no part of a span's time
            producer.wait_drained()
            before, lost = processor_seconds(self.pid), producer.lost()
            begin = time.perf_counter()
            producer.emit(rate, seconds)
            emitted = rate * seconds / max(seconds, time.perf_counter() - begin)
            lost = producer.lost() - lost
            most = self.hold_bytes()  # a scrape would be in the time that is measured
            last = time.perf_counter()
            is_drained = producer.wait_drained()
            lag = time.perf_counter() - last
            time.sleep(_SETTLE_SECONDS)
            used = processor_seconds(self.pid) - before
            holds = is_drained and not lost and lag < _LAG_SECONDS
        return Trial(1e9 * used / (rate * seconds - lost), emitted, holds, most, self.early(), self._value(_LATE))

    def hold_bytes(self) -> int:
        """Return how many bytes of the hold are in use."""
        picture = read_picture(Path(self._dir) / "hold")
        return 0 if picture is None else picture.used_bytes

    def early(self) -> float:
        """Return how many traces were decided for want of room, since the drain began."""
        return self._value(_EARLY)

    def close(self) -> None:
        """End the drain and the receiver."""
        self._cleanup.close()

    @contextmanager
    def producer(self) -> Iterator[Producer]:
        """Yield a producer of its spans, which is closed afterwards."""
        producer = Producer(self._dir, self._kind, self._capacity, self._rings, self._traces)
        try:
            yield producer
        finally:
            self._traces = producer.traces
            producer.close()

    def _value(self, pattern: re.Pattern[str]) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics") as answer:
            return sum(map(float, pattern.findall(answer.read().decode())))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def highest_rate(bench: Bench, rate: float, seconds: float) -> float:
    """Return the highest rate found at which a trial holds, or which the producer can emit."""
    search = Search(rate)
    while not search.is_over:
        trial = bench.trial(search.rate, seconds)
        print(f"  {trial.rate:,.0f}/s {'holds' if trial.holds else 'does not hold'}", file=sys.stderr, flush=True)
        if trial.holds and trial.rate * NARROW < search.rate:
            return trial.rate
        search.note(holds=trial.holds)
    return search.good


def main() -> int:
    """Run the command, and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.deliver.late_sampling", description=__doc__)
    parser.add_argument("--kinds", nargs="+", choices=_KINDS, default=_KINDS, help="of spans (both)")
    parser.add_argument("--rounds", type=int, default=5, help="of each drain, in turns (5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a trial (3)")
    parser.add_argument("--rate", type=float, default=200_000.0, help="spans a second (200,000)")
    parser.add_argument("--capacity", type=int, default=1 << 18, help="of each ring, in spans (262,144)")
    parser.add_argument("--highest", action="store_true", help="search for the highest rates, too")
    of = parser.parse_args()
    print("| spans | metrics | all ns | late ns | late / all | hold / rate x wait | early, late | highest |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for kind in of.kinds:
        for has_metrics in (False, True):
            print(_row(of, kind, has_metrics=has_metrics), flush=True)
    return 0


def _row(of: argparse.Namespace, kind: str, *, has_metrics: bool) -> str:
    benches = [Bench(kind, of.capacity, is_late=is_late, has_metrics=has_metrics) for is_late in (False, True)]
    try:
        rounds = [[bench.trial(of.rate, of.seconds) for bench in benches] for _ in range(of.rounds)]
        kept, late = (Figure.of(trial.nano for trial in trials) for trials in zip(*rounds, strict=True))
        should = of.rate * _WAIT_SECONDS * (DATAPLANE_LAYOUT.slot_bytes + _WORD_BYTES)
        hold = max(pair[1].hold_bytes for pair in rounds) / should
        last = rounds[-1][1]
        rates = [highest_rate(bench, of.rate, of.seconds) for bench in benches] if of.highest else None
    finally:
        for bench in benches:
            bench.close()
    lost = sum(not trial.holds for pair in rounds for trial in pair)
    cells = [kind, "yes" if has_metrics else "no", _shown(kept), _shown(late), _shown(late.over(kept))]
    cells += [f"{hold:.2f}" if kind == "ten" else "", f"{last.early:.0f}, {last.late:.0f}"]
    cells += ["" if rates is None else f"{rates[1]:,.0f} / {rates[0]:,.0f} = {rates[1] / max(1, rates[0]):.1f}"]
    return "| " + " | ".join(cells) + " |" + (f" {lost} trials did not hold" if lost else "")


def _shown(figure: Figure) -> str:
    return f"{figure.median:.3g} [{figure.low:.3g} … {figure.high:.3g}]"


if __name__ == "__main__":
    sys.exit(main())
