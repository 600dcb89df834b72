"""One in a hundred traces is kept of a high rate, a failure is kept whole, and the drain is killed in between.

Two processes write traces of ten spans. In the middle of the work the drain gets SIGKILL, and another goes on with what
waited. One trace lies half in the one process, before the kill, and half in the other, after it; its last span fails:
nobody who decides when a trace begins could know. At the end it is checked that no trace is torn, that the failure is
whole, and that the spans that were kept stand for as many as were written.

    .venv/bin/python docs/examples/one_percent.py --rate 200000 --seconds 10

Exit codes: 0 all of it holds; 1 something does not; 2 usage.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import secrets
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from drain_process import Drain
from report import Line, print_table, spans_in
from rich.console import Console

import ringbuf

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.synchronize import Barrier

    from drain_process import Audit

    from ringbuf import EmitterStats

_RULES: Final = """\
[sampling]
wait = "10s"
wait_after_root = "300ms"
incoming = "all"            # nobody samples before us

[[sampling.rule]]
name = "failures"
status = "error"

[[sampling.rule]]
name = "the rest"
ratio = 0.01
"""
_LAYOUT: Final = ringbuf.SpanLayout(
    span_names=["request"], attributes=[ringbuf.Attribute("number", "u64")], scope_name="one-percent"
)
_PROCESSES: Final = 2
_SPANS: Final = 10  # of a trace
_BATCH: Final = 200  # traces
_FAILING_AT: Final = (0.4, 0.6)  # of the work: where each process has its part; the kill is between
_SECONDS_WITHOUT_A_DRAIN: Final = 4.0  # for which a ring has room: until the next one has begun
_FLAGS: Final = 0x103  # sampled; the id is random; whether the parent is remote is known
_ERROR: Final = 2
_RANDOMNESS: Final = 2**56
_DIGITS: Final = 14
_SIGMAS: Final = 7


class Task(NamedTuple):
    """What a process is told.

    Attributes:
        number: which of them it is.
        ring_dir: where its ring is made.
        rate: spans a second.
        seconds: for how long.
        failure: id of the trace that lies in all of them.
    """

    number: int
    ring_dir: Path
    rate: float
    seconds: float
    failure: bytes


def produce(task: Task, start: Barrier, report: Connection) -> None:
    """Write spans at a rate, and report what the emitter counted."""
    slots = 1 << max(16, int(task.rate * _SECONDS_WITHOUT_A_DRAIN).bit_length())  # a power of two
    with ringbuf.Emitter(
        f"worker-{task.number}", ring_dir=task.ring_dir, layout=_LAYOUT, capacity=slots, lanes=1
    ) as emitter:
        batches = max(5, round(task.rate * task.seconds / (_BATCH * _SPANS)))
        failing = round(batches * _FAILING_AT[task.number])
        start.wait()
        begin = time.monotonic()
        for batch in range(batches):
            emitter.emit_batch(_traces(emitter, _BATCH))
            if batch == failing:
                emitter.emit_batch(_part_of_the_failure(emitter, task))
            time.sleep(max(0.0, begin + (batch + 1) * task.seconds / batches - time.monotonic()))
        seconds = time.monotonic() - begin
        emitter.wait_drained(60.0)
        report.send((emitter.stats(), seconds))


def _traces(emitter: ringbuf.Emitter, count: int) -> np.ndarray:
    records = _records(emitter, count * _SPANS)
    records["trace_id"] = np.repeat(records["trace_id"][::_SPANS], _SPANS, axis=0)
    records["parent_span_id"] = np.repeat(records["span_id"][::_SPANS], _SPANS, axis=0)
    records["parent_span_id"][::_SPANS] = 0
    return records


def _part_of_the_failure(emitter: ringbuf.Emitter, task: Task) -> np.ndarray:
    """Return this process's spans of the trace that fails: the last process has its root, and the span that fails."""
    records = _records(emitter, _SPANS // _PROCESSES)
    records["trace_id"] = np.frombuffer(task.failure, np.uint8)
    records["parent_span_id"] = 1
    if task.number == _PROCESSES - 1:
        records["parent_span_id"][0] = 0
        records["status"][-1] = _ERROR
    return records


def _records(emitter: ringbuf.Emitter, count: int) -> np.ndarray:
    records = _LAYOUT.empty(count)
    emitter.fill_ids(records)
    records["flags"], records["kind"], records["present"] = _FLAGS, 1, 1
    records["number"] = np.arange(count)
    records["start_unix_nano"] = time.time_ns()
    records["end_unix_nano"] = records["start_unix_nano"] + 1_000
    return records


class Kept:
    """What is in the file.

    Attributes:
        spans: distinct span ids.
        traces: by trace id: its spans.
        repeated: spans that are there once more: what was on its way when the drain was killed.
        stands_for: how many spans those that were kept stand for, as they say.
    """

    def __init__(self, path: Path) -> None:
        self.traces: defaultdict[str, set[str]] = defaultdict(set)
        self.repeated, self.stands_for = 0, 0.0
        for _, span in spans_in(path):
            ids = self.traces[span["traceId"]]
            if span["spanId"] in ids:
                self.repeated += 1
                continue
            ids.add(span["spanId"])
            threshold = int(span["traceState"].removeprefix("ot=th:").ljust(_DIGITS, "0"), 16)
            self.stands_for += _RANDOMNESS / (_RANDOMNESS - threshold)
        self.spans = sum(map(len, self.traces.values()))


def main() -> int:
    """Do it, and return the exit code."""
    parser = argparse.ArgumentParser(prog="one_percent.py", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rate", type=float, default=100_000, help="spans a second of all processes (100000)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of work (8)")
    options = parser.parse_args()
    if options.rate <= 0 or options.seconds <= 0:
        parser.error("--rate and --seconds must be greater than zero")
    with ExitStack() as cleanup:
        scratch = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-")))
        shared_memory = os.environ.get("RINGBUF_DIR") or "/dev/shm"  # noqa: S108 - the name is random, the mode 0700
        ring_dir = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-", dir=shared_memory)))
        return _run(options, ring_dir, scratch, cleanup)


def _run(options: argparse.Namespace, ring_dir: Path, scratch: Path, cleanup: ExitStack) -> int:
    rules, output = scratch / "rules.toml", scratch / "kept.jsonl"
    rules.write_text(_RULES)

    def drain(name: str) -> Drain:
        to = ("--exporter", "file", "--output", os.fspath(output))
        started = Drain(ring_dir, scratch / name, *to, "--sampling", os.fspath(rules), "--on-stop", "decide")
        cleanup.callback(started.kill)
        return started

    first = drain("first.log")
    first.wait_until_ready()
    failure, context = secrets.token_bytes(16), multiprocessing.get_context("spawn")
    start, reports = context.Barrier(_PROCESSES + 1), []
    for number in range(_PROCESSES):
        ours, theirs = context.Pipe(duplex=False)
        task = Task(number, ring_dir, options.rate / _PROCESSES, options.seconds, failure)
        process = context.Process(target=produce, args=(task, start, theirs), daemon=True)
        process.start()
        cleanup.callback(process.kill)
        reports.append(ours)
    start.wait(60.0)
    begin = time.monotonic()
    print(f"{_PROCESSES} processes write {options.rate:,.0f} spans a second for {options.seconds:g} s …", flush=True)
    time.sleep(options.seconds / 2)
    first.kill()
    print(f"… the drain got SIGKILL after {time.monotonic() - begin:.1f} s, and another goes on …", flush=True)
    second = drain("second.log")
    counts = [report.recv() for report in reports]
    rate = sum(statistics.published / seconds for statistics, seconds in counts)
    return _tell([statistics for statistics, _ in counts], second.stop(), Kept(output), failure.hex(), rate)


def _tell(statistics: list[EmitterStats], audit: Audit, kept: Kept, failure: str, rate: float) -> int:
    """Print what came of it and what was checked; return the exit code."""
    written = sum(one.published for one in statistics)
    dropped = sum(one.full + one.contended for one in statistics)
    torn = [trace for trace, spans in kept.traces.items() if len(spans) != _SPANS]
    rest, failed = len(kept.traces) - (failure in kept.traces), len(kept.traces.get(failure, ()))
    # Of n traces of which each is kept with probability p the sum of 1 / p has the variance n (1 - p) / p.
    share = 0.01
    margin = _SIGMAS * _SPANS * float(np.sqrt(written / _SPANS * (1 - share) / share))
    rings = Counter[str]()
    for sums in audit.services.values():
        rings.update(sums)
    hold = Counter[str]()
    for sums in audit.hold.values():
        hold.update(sums)
    checks = {
        "no trace is torn": not torn,
        "the failure is kept whole": failed == _SPANS,
        "what was kept stands for what was written": abs(kept.stands_for - written) <= margin,
        "the rings add up": written == rings["published"] and not rings["pending"] and not rings["unaccounted"],
        "the hold adds up": not (hold["unaccounted"] or hold["waiting"] or hold["lost"]),
    }
    rows: list[Line] = [
        ("written", f"{written:,} spans, {rate:,.0f} a second, in {written // _SPANS:,} traces"),
        ("dropped by producers", f"{dropped:,} spans"),
        ("kept", f"{kept.spans:,} spans ({kept.spans / written:.2%}) in {rest:,} traces and the failure"),
        ("the failure", f"{failed} of {_SPANS} spans: half from before the kill, half from after it"),
        ("these stand for", f"{kept.stands_for:,.0f} spans; within ± {margin:,.0f} of what was written"),
        ("sent again after the kill", f"{kept.repeated:,} spans"),
        ("the second drain's hold", f"{hold['taken_up']:,} taken up + {hold['held']:,} held = {_left(hold)}"),
    ]
    print_table("One in a hundred, and every failure", ("", ""), rows, left=2)
    console = Console(highlight=False, soft_wrap=True)
    if dropped:  # some traces were written in part
        words = "no trace is torn"
        del checks[words]
        console.print(f"? {words}: not checked, as producers dropped spans", style="yellow")
    for words, holds in checks.items():
        console.print(f"{'✓' if holds else '✗'} {words}", style="green" if holds else "bold red")
    return 0 if all(checks.values()) else 1


def _left(hold: Counter[str]) -> str:
    names = ("delivered", "spooled", "rejected", "dead_lettered", "sampled_out", "invalid", "lost", "waiting")
    return " + ".join(f"{hold[name]:,} {name.replace('_', ' ')}" for name in names if hold[name])


if __name__ == "__main__":
    sys.exit(main())
