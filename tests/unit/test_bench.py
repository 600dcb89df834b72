"""The benchmark itself: its arithmetic, its processes, and that it would notice a lost span. No figure is judged."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))  # last: ringbuf and drain are those that are installed

from bench import __main__ as bench_command  # noqa: E402 - it is no installed package
from bench import build, measure, rows  # noqa: E402 - as above
from bench.cost import instructions  # noqa: E402 - as above
from bench.cost.encode import ROWS as ENCODE_ROWS  # noqa: E402 - as above
from bench.cost.encode import records  # noqa: E402 - as above
from bench.deliver import end_to_end, poison, sender  # noqa: E402 - as above
from bench.deliver.end_to_end import Sender  # noqa: E402 - as above
from bench.deliver.search import Search  # noqa: E402 - as above
from bench.in_turns import measure_rows  # noqa: E402 - as above
from bench.measure import Figure, Side  # noqa: E402 - as above
from bench.probe import probe  # noqa: E402 - as above
from bench.results import Result, markdown  # noqa: E402 - as above
from drain.otlp.encoder import Encoder  # noqa: E402 - as above
from ringbuf.dataplane import DATAPLANE_LAYOUT  # noqa: E402 - as above

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def run_from_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `python -m bench…` in child processes find the folder."""
    monkeypatch.chdir(ROOT)


@pytest.fixture
def sink() -> Iterator[end_to_end.Sink]:
    with end_to_end.Sink("http") as started:
        yield started


def test_a_figure_is_the_median_with_its_extremes() -> None:
    figure = Figure.of([5.0, 1.0, 3.0, 9.0])
    assert (figure.low, figure.median, figure.high) == (1.0, 4.0, 9.0)


def test_a_ratio_is_taken_round_by_round() -> None:
    noisy_together = Figure.of([100.0, 300.0, 200.0]).over(Figure.of([10.0, 30.0, 20.0]))
    assert noisy_together.rounds == (10.0, 10.0, 10.0)


def test_percentiles() -> None:
    found = measure.percentiles([*range(1, 1001)])
    assert (found["p50"], found["p99"], found["p999"], found["max"]) == (501, 991, 1000, 1000)


def test_bursts_count_only_what_lies_between_the_pauses() -> None:
    calls: list[str] = []
    found = measure.bursts(lambda count: calls.append(f"burst {count}"), lambda: calls.append("between"), 10, 2)
    assert calls == ["between", "burst 10", "between", "burst 10"]
    assert set(found) == {"ns", "wall_ns"}


@pytest.mark.parametrize("row", [*rows.ROWS, *ENCODE_ROWS], ids=lambda row: f"{row.title} / {row.peer_title}")
def test_every_row_has_its_probes(row: rows.Row) -> None:
    assert callable(probe(row.ours))
    assert callable(probe(row.peer))


def test_probes_take_turns_in_processes_of_their_own() -> None:
    found = measure.take_turns([Side("numpy.memcpy"), Side("cffi.time_ns")], rounds=2, cpu=None)
    for figures in found.values():
        assert not isinstance(figures, str)
        assert len(figures["ns"].rounds) == 2
        assert figures["ns"].low > 0


def test_a_probe_that_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    side = Side("native.memcpy")
    assert measure.take_turns([side], rounds=2, cpu=None) == {side: "no C compiler; set CC"}


def test_beside_another_build_each_of_our_figures_is_measured_once() -> None:
    old = build.Build("old", Path("python"), Path())
    beside = rows.beside(rows.ROWS, old)
    figures = [(row.ours, row.figure) for row in beside]
    assert set(figures) == {(row.ours, row.figure) for row in rows.ROWS}
    assert len(figures) == len(set(figures))
    assert {(row.peer == row.ours, row.peer_build.name, row.peer_title, row.is_limit) for row in beside} == {
        (True, "old", "at old", False)
    }


def test_a_probe_that_another_build_cannot_run_skips_its_rows(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__init__.py").touch()
    old = build.Build("old", Path(sys.executable), tmp_path)  # its benchmark has no probes
    (row,) = rows.beside([row for row in rows.ROWS if row.ours == "ringbuf.emit_batch"], old)
    (result,) = measure_rows([row], rounds=1)
    assert result.skipped == "it does not run at old"
    assert "bench" in capfd.readouterr().err  # what Python said


def test_an_unknown_revision_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--beside", "no-such-revision", "--only", "batch"])
    assert bench_command.main() == 2
    assert "git knows no 'no-such-revision'" in capsys.readouterr().err


@pytest.mark.prove
def test_another_revision_is_built_and_measured_with_its_own_ringbuf(tmp_path: Path) -> None:
    try:
        head = build.build_revision("HEAD", tmp_path)
    except build.RevisionError as error:
        if "git" not in str(error):
            raise
        pytest.skip(f"no clone of the repository: {error}")
    code = "import drain, numpy, ringbuf._ringbuf; print(drain.__file__, ringbuf._ringbuf.__file__)"
    said = subprocess.run([head.python, "-c", code], cwd=head.folder, capture_output=True, text=True, check=True)
    assert all(path.startswith(str(tmp_path)) for path in said.stdout.split())
    (row,) = rows.beside([row for row in rows.ROWS if row.ours == "ringbuf.emit_batch"], head)
    (result,) = measure_rows([row], rounds=1)
    assert result.ratio is not None


def test_a_skipped_row_says_so_in_the_table() -> None:
    machine = {
        "cpu": "c", "cpus": 2, "system": "s", "python": "3", "packages": {}, "when": "now", "rounds": 1,
        "load_before": 0.0, "load_after": 0.0,
    }  # fmt: skip
    table = markdown([Result("g", "what", "peer", "ns", ">= 10", skipped="no compiler")], machine)
    assert "| what | - | peer | - | skipped: no compiler | >= 10 |" in table


@pytest.mark.parametrize("door", ["native.emit", "ringbuf.site_span", "ringbuf.emit_batch"])
def test_a_door_is_measured_without_a_drop(door: str) -> None:
    figures = measure.take_turns([Side(door)], rounds=1, cpu=None)[Side(door)]
    assert not isinstance(figures, str)
    assert figures["ns"].median > 0


def test_pacing_emits_each_span_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bursts: list[int] = []
    ticks = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks) / 1000)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    total, _begin = sender.paced(bursts.append, rate=20_000, seconds=0.05)
    assert total == sum(bursts) == 1000
    assert len(bursts) > 1


def test_the_sink_counts_what_it_is_sent(sink: end_to_end.Sink) -> None:
    encoder = Encoder(DATAPLANE_LAYOUT, {"service.name": "bench"})
    spans = records(50)
    with urllib3.PoolManager() as pool:
        for body in (encoder.encode(spans).body, gzip.compress(encoder.encode(spans[:10]).body)):
            assert pool.request("POST", f"{sink.endpoint}/v1/traces", body=body).status == 200
    counts = sink.count()
    assert (counts["spans"], counts["ids"], counts["requests"]) == (60, 50, 2)
    assert sink.count()["spans"] == 0


def test_the_sink_forgets_what_nobody_wants_counted(sink: end_to_end.Sink) -> None:
    body = Encoder(DATAPLANE_LAYOUT, {}).encode(records(3)).body
    with urllib3.PoolManager() as pool:
        assert pool.request("POST", sink.endpoint, body=body).status == 200
    sink.forget()
    assert sink.count()["requests"] == 0


@pytest.mark.parametrize("limit", [90_000, 499_999, 500_000, 1_300_000, 4_100_000])
@pytest.mark.parametrize("unlucky", [0, 1, 3])
def test_a_search_ends_close_below_what_holds(limit: int, unlucky: int) -> None:
    """A trial that fails once, whatever its rate, does not lead it astray."""
    search, tried = Search(500_000.0), []
    for number in itertools.count():
        if search.is_over:
            break
        assert number < 40
        tried.append(search.rate)
        search.note(holds=search.rate <= limit and number != unlucky)
    assert search.good <= limit < 1.1 * search.good
    steps = {round(8 * math.log2(rate / 500_000), 6) for rate in tried}
    assert all(step.is_integer() for step in steps)


def test_a_search_in_which_nothing_holds_ends() -> None:
    search = Search(500_000.0)
    while not search.is_over:
        search.note(holds=False)
    assert search.good == 0.0


@pytest.mark.prove
def test_a_trial_through_the_drain_holds(ring_dir: Path, sink: end_to_end.Sink) -> None:
    with end_to_end.drain(str(ring_dir), "otlp-http", "--endpoint", sink.endpoint):
        found = end_to_end.trial(Sender("ring", str(ring_dir), sink), rate=2000, seconds=0.5)
    # It may lag behind on a busy machine; what it must not do is lose a span.
    assert found.holds or "behind" in found.why
    assert 0 < found.rate <= 2002


@pytest.mark.prove
def test_a_trial_notices_a_lost_span(ring_dir: Path, sink: end_to_end.Sink) -> None:
    class Forgetful:
        def count(self) -> dict[str, float]:
            counts = sink.count()
            return {**counts, "spans": counts["spans"] - 1}

    stub: Any = Forgetful()
    with end_to_end.drain(str(ring_dir), "otlp-http", "--endpoint", sink.endpoint):
        found = end_to_end.trial(Sender("ring", str(ring_dir), stub), rate=2000, seconds=0.1)
    assert not found.holds
    assert "201 emitted, 0 dropped, 200 arrived, 201 distinct" in found.why


def _body(*services: str) -> bytes:
    return b"".join(Encoder(DATAPLANE_LAYOUT, {"service.name": name}).encode(records(20)).body for name in services)


def test_the_receiver_of_poison_takes_good_batches_alone() -> None:
    bodies = [_body("good"), _body("good"), _body("poison"), _body("good", "poison")]
    with urllib3.PoolManager() as pool:
        for failing, status in ((0.0, 200), (1.0, 503)):
            with poison.Receiver(failing, seed=1) as receiver:
                url = f"{receiver.endpoint}/v1/traces"
                assert [pool.request("POST", url, body=body).status for body in bodies] == [status, status, 503, 503]
                assert receiver.poisoned == 2
                assert (len(receiver.good) > 0) == (status == 200)
                assert len(receiver.good) <= 40


@pytest.mark.prove
def test_a_cell_of_poison_refuses_the_poison_and_drops_nothing() -> None:
    load = poison.Load(seconds=0.5, rate=1000, batch_spans=10, seed=1, log_level="error")
    found = poison.cell(load, poison=1, spools=False, failing=0.0)
    assert found.poisoned >= 1
    assert found.rate <= load.rate  # how much of it in so short a time, a busy machine decides
    assert found.dropped == 0


def test_hot_functions_take_no_more_instructions_than_committed(debian_program: Callable[[str], str]) -> None:
    debian_program("valgrind")
    committed = json.loads(instructions.COMMITTED.read_text())
    counts = instructions.count_instructions()
    assert set(counts) == set(instructions.FUNCTIONS) <= set(committed)
    assert instructions.regressions(counts, committed) == []


def test_more_instructions_than_committed_are_told() -> None:
    assert instructions.regressions({"rb_emit": 109.0}, {"rb_emit": 100.0}) == []
    assert instructions.regressions({"rb_emit": 111.0}, {"rb_emit": 100.0}) == [
        "rb_emit: 111.0 instructions a span, 100.0 are committed"
    ]


@pytest.mark.prove
def test_the_command_writes_what_it_measured(tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    command = [sys.executable, "-m", "bench", "--rounds", "1", "--only", "batch", "--output", str(output)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr
    written = json.loads(output.read_text())
    (row,) = written["rows"]
    assert row["title"] == "emit_batch, per record"
    assert row["ratio"]["median"] == pytest.approx(row["ours"]["median"] / row["peer"]["median"])
    assert written["machine"]["rounds"] == 1
    assert row["title"] in output.with_suffix(".md").read_text()
    assert row["title"] in result.stdout


COMMANDS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "bench").rglob("*.py")
    if '__name__ == "__main__"' in path.read_text()
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_does(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = import_module(command)
    monkeypatch.setattr(sys, "argv", [command, "--help"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith(f"usage: python -m {command.removesuffix('.__main__')} ")
    assert module.__doc__ is not None
    assert " ".join(module.__doc__.split())[:60] in said


def test_a_row_is_asked_for_by_its_group_or_a_part_of_its_title(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def listed(*names: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["bench", "--list", "--only", *names])
        assert bench_command.main() == 0
        return [line for line in capsys.readouterr().out.splitlines() if line]

    assert [line.split()[0] for line in listed("batch")] == ["batch"]
    assert listed("with site.span") == ["python       with site.span / SDK start_as_current_span"]
    assert {line.split()[0] for line in listed("LTTng")} == {"native"}
    assert listed("idle") == ["idle"]
    with pytest.raises(SystemExit):
        listed("no such row")
    assert "see --list" in capsys.readouterr().err


def test_the_table_says_which_command_gives_each_row() -> None:
    table = (ROOT / "bench" / "README.md").read_text()
    head = next(line for line in table.splitlines() if line.startswith("| what |"))
    rows = table.partition(head)[2].partition("\n\n")[0].splitlines()[2:]
    assert len(rows) > 40
    assert {row.split("|")[-2].strip().strip("`") for row in rows} == set(bench_command._GROUPS)


def test_the_table_names_every_command_that_people_run() -> None:
    text = (ROOT / "bench" / "README.md").read_text()
    inner = {"bench.__main__", "bench.probe", "bench.emit.consumer", "bench.deliver.sender", "bench.deliver.sink"}
    inner |= {"bench.fleet.__main__", "bench.fleet.producer"}
    assert not [command for command in COMMANDS if command not in inner and f"-m {command}" not in text]
