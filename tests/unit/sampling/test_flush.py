"""`ringbuf-drain sampling --flush` decides and delivers what waits in the hold, with no drain running."""

from __future__ import annotations

import functools
import signal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import structlog
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from drain.command import app
from drain.commands.flush import _code_of
from drain.delivery.retry import RetryPolicy
from drain.exit_codes import DELIVERED, INTERRUPTED, LOCKED, UNDELIVERED, USAGE
from drain.rings.directory import RingDirectory
from drain.sampling.hold.chunk import RingKey
from drain.sampling.hold.hold import Hold
from drain.sampling.rules import of_ratio
from drain.service.flush import Flush
from drain.service.limits import Limits
from drain.service.sampling_plan import SamplingPlan
from ringbuf.ring.resource import resource_to_json
from tests.clocks import Clock
from tests.service.draining import LAYOUT, MemoryBackend, number_of, spans_in_file, spans_of
from tests.unit.settings.command_line import RUNNER
from tests.waiting import SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typer.testing import Result

FAILURES = '[sampling]\n[[sampling.rule]]\nname = "failures"\nstatus = "error"\n'
WAITING, FAILED = 30, 6


@pytest.fixture(autouse=True)
def signals_are_as_they_were() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def threads_end_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for threads that are late, as on a busy machine: without them the command ends the process, the tests'."""
    monkeypatch.setattr("drain.service.flush._LAST_MOMENT_SECONDS", SECONDS)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(FAILURES)
    return path


@pytest.fixture
def held(ring_dir: Path) -> set[int]:
    """Traces of one span that a drain has left in the hold; the numbers of those that failed."""
    records = np.zeros(WAITING, LAYOUT.dtype)
    records["number"], records["present"] = range(WAITING), 1
    records["trace_id"][:, 0] = records["span_id"][:, 0] = range(1, WAITING + 1)
    records["parent_span_id"], records["flags"], records["kind"] = 1, 0x101, 1
    records["status"][:FAILED] = 2
    hold = Hold(ring_dir / "hold", 16 << 20, log=structlog.get_logger())
    origin = hold.origin(LAYOUT.to_json(), resource_to_json({"service.name": "shop"}), 0)
    hold.append(origin, RingKey(1, 2), 0, 0, WAITING, records)
    hold.unreleased.released(RingKey(1, 2), 0)
    hold.close()
    return set(range(FAILED))


def run(ring_dir: Path, *words: object) -> Result:
    where = ("--ring-dir", ring_dir, "--state-dir", "off")
    return RUNNER.invoke(app, ["sampling", "--flush", *map(str, (*where, *words))])


def flush(ring_dir: Path, output: Path, *more: object) -> Result:
    return run(ring_dir, "--exporter", "file", "--output", output, *more)


def ids_of(backend: MemoryBackend) -> list[bytes]:
    return [span.span_id for request in backend.requests for span in spans_of(TracesData.FromString(request.body))]


def numbers(output: Path) -> list[int]:
    return sorted(map(number_of, spans_in_file(output)))


def test_the_rules_of_a_file_decide(
    ring_dir: Path, tmp_path: Path, held: set[int], rules: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "spans.jsonl"
    result = flush(ring_dir, output, rules)
    assert result.exit_code == DELIVERED, result.output
    assert numbers(output) == sorted(held)
    shown = capfd.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines()}
    assert rows["failures"] == ["6", "6", "6", "6", "0"]
    assert rows["default"] == ["24", "0", "24", "0", "24"]
    assert f"30 spans waited = 6 delivered + 24 sampled out + 0 left\nto {output}\n" in shown
    assert flush(ring_dir, output, rules).exit_code == DELIVERED
    assert numbers(output) == sorted(held)


def test_without_rules_all_is_delivered(
    ring_dir: Path, tmp_path: Path, held: set[int], capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "spans.jsonl"
    assert flush(ring_dir, output).exit_code == DELIVERED
    assert numbers(output) == [*range(WAITING)]
    assert flush(ring_dir, output).exit_code == DELIVERED
    assert "nothing waits" in capfd.readouterr().err


@pytest.mark.parametrize("with_rules", [True, False])
def test_where_all_that_waited_is_lost_it_says_so(
    ring_dir: Path, tmp_path: Path, held: set[int], rules: Path, capfd: pytest.CaptureFixture[str], *, with_rules: bool
) -> None:
    (origin,) = (ring_dir / "hold").glob("origin-*")
    origin.write_bytes(b"damaged")
    words = [rules] if with_rules else []
    assert flush(ring_dir, tmp_path / "spans.jsonl", *words).exit_code == UNDELIVERED
    assert "30 spans waited = 0 delivered + 0 sampled out + 30 lost + 0 left\n" in capfd.readouterr().out
    assert flush(ring_dir, tmp_path / "spans.jsonl", *words).exit_code == DELIVERED, "it is counted once"


def test_a_share_in_the_place_of_a_file(
    ring_dir: Path, tmp_path: Path, held: set[int], capfd: pytest.CaptureFixture[str]
) -> None:
    assert flush(ring_dir, tmp_path / "spans.jsonl", "--keep-ratio", 0).exit_code == DELIVERED
    assert "30 spans waited = 0 delivered + 30 sampled out + 0 left\n" in capfd.readouterr().out


def test_what_no_backend_takes_stays_in_the_hold(
    ring_dir: Path,
    tmp_path: Path,
    held: set[int],
    rules: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, settle = Clock(), Flush._settle

    def settle_a_second_later(flush: Flush) -> bool:
        clock.now += 1.0
        return settle(flush)

    monkeypatch.setattr("drain.commands.flush.Flush", functools.partial(Flush, clock=clock))
    monkeypatch.setattr(Flush, "_settle", settle_a_second_later)
    nobody = ("--endpoint", "http://127.0.0.1:1", "--shutdown-timeout", "4")
    assert run(ring_dir, rules, *nobody).exit_code == UNDELIVERED
    assert "30 spans waited = 0 delivered + 24 sampled out + 6 left\n" in capfd.readouterr().out
    output = tmp_path / "spans.jsonl"
    assert flush(ring_dir, output, rules).exit_code == DELIVERED
    assert numbers(output) == sorted(held)


def test_a_drain_that_runs_is_told_of(
    ring_dir: Path, tmp_path: Path, held: set[int], capfd: pytest.CaptureFixture[str]
) -> None:
    directory = RingDirectory(ring_dir)
    try:
        result = flush(ring_dir, tmp_path / "spans.jsonl")
    finally:
        directory.close()
    assert result.exit_code == LOCKED
    said = capfd.readouterr().err
    assert f"serves {ring_dir}" in said
    assert "stop it and call this again" in said


def test_a_stop_leaves_the_rest_in_the_hold(ring_dir: Path, held: set[int]) -> None:
    def plan() -> SamplingPlan:
        return SamplingPlan(of_ratio(1.0), Hold(ring_dir / "hold", 16 << 20, log=structlog.get_logger()))

    # Three batches may be gone by the stop, where one thread is held up and then the other: half of all.
    limits = Limits(batch_spans=5, batch_bytes=1 << 20, batch_delay=0.1, concurrency=1, shutdown_timeout=60.0)
    backend = MemoryBackend()
    first = Flush(plan(), backend, RetryPolicy(), limits, dead_letters=None, log=structlog.get_logger())
    told: list[int] = []

    def progress(waiting: int) -> None:
        told.append(waiting)
        if waiting < WAITING:
            first.stop()

    flushed = first.run(progress)
    first.close()
    assert told[-1] == flushed.sums.waiting > 0
    assert flushed.sums.unaccounted == 0
    assert _code_of(flushed, [signal.SIGINT]) == INTERRUPTED
    again = Flush(plan(), backend, RetryPolicy(), limits, dead_letters=None, log=structlog.get_logger())
    assert again.found == flushed.sums.waiting
    assert again.run().sums.waiting == 0
    again.close()
    assert len(ids_of(backend)) == len(set(ids_of(backend))) == WAITING


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--flush"], "--flush does not guess where to: name --exporter, --endpoint or --output"),
        (["--flush", "--against", __file__], "--flush and --against: one of the two"),
        (["--output", "x", "--against", __file__], "--output has no effect with sampling without --flush"),
        ([], "name recorded spans with --against, or --flush to empty the hold"),
        (["--keep-ratio", "2", "--against", __file__], "--keep-ratio: 2 is not between 0 (none) and 1 (all)"),
    ],
)
def test_what_cannot_be_is_said(words: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    result: Any = RUNNER.invoke(app, ["sampling", *words])
    assert result.exit_code == USAGE
    assert said in result.output + capfd.readouterr().err


def test_where_there_is_no_hold_nothing_waits(
    ring_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert flush(ring_dir, tmp_path / "spans.jsonl").exit_code == DELIVERED
    assert "nothing waits: there is no hold" in capfd.readouterr().err
