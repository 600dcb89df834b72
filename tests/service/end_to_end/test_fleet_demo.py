"""`make fleet-demo`, with little work: what it prints adds up, and it notices when something does not."""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.service.end_to_end.emitter_stats import emitter_stats
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
SUM = re.compile(r"emitted ([\d,]+) = arrived ([\d,]+) \+ dropped ([\d,]+) \+ waiting ([\d,]+); ([\d,]+) arrived again")
SECONDS = 400
TRACE = 32 * "1"
STATS = emitter_stats(3)


@pytest.fixture
def environment(ring_dir: Path, tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "RINGBUF_DIR": str(ring_dir), "TMPDIR": str(tmp_path)}


def command(*options: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / "fleet.py"), *options]


def total(output: str) -> list[int]:
    found = SUM.search(output)
    assert found is not None, output
    return [int(number.replace(",", "")) for number in found.groups()]


@pytest.mark.prove
def test_all_arrives_though_a_gateway_is_killed(environment: dict[str, str], ring_dir: Path, tmp_path: Path) -> None:
    line = command("--hosts", "2", "--seconds", "4")
    result = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    emitted, arrived, dropped, waiting, _again = total(result.stdout)
    assert emitted == arrived > 0
    assert (dropped, waiting) == (0, 0)
    assert "gateway-2 is killed" in result.stdout
    assert "it adds up on each host" in result.stdout
    assert not list(ring_dir.iterdir()), "rings were left behind"
    assert not list(tmp_path.iterdir())


@pytest.mark.prove
def test_ctrl_c_ends_it_with_the_sums_and_leaves_nothing(
    environment: dict[str, str], ring_dir: Path, tmp_path: Path
) -> None:
    with subprocess.Popen(
        command("--hosts", "1", "--seconds", "100"),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as process:
        try:
            kept = tmp_path.glob
            until(lambda: process.poll() is not None or any(f.stat().st_size for f in kept("*/gateway-*.spans")))
            os.killpg(process.pid, signal.SIGINT)
            stdout, stderr = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert process.returncode == 130, stdout + stderr
    assert stderr == ""
    emitted, arrived, dropped, waiting, _again = total(stdout)
    assert emitted == arrived + dropped + waiting > 0
    assert not list(ring_dir.iterdir())
    assert not list(tmp_path.iterdir())


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Return the program as a module; those that it imports by their bare names are forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(EXAMPLES)
    made = importlib.import_module("fleet")
    monkeypatch.setattr(made, "drain_process", importlib.import_module("drain_process"), raising=False)
    monkeypatch.setattr(made, "gateway_process", importlib.import_module("gateway_process"), raising=False)
    yield made
    for name in set(sys.modules) - before:
        if (file := getattr(sys.modules[name], "__file__", None)) and Path(file).parent == EXAMPLES:
            del sys.modules[name]


def received(fleet: ModuleType, path: Path, *lines: str) -> object:
    path.write_text("".join(lines))
    found = fleet.gateway_process.Received(path)
    found.read_on()
    return found


def test_a_missing_span_is_a_problem(fleet: ModuleType, tmp_path: Path) -> None:
    gateways = [received(fleet, tmp_path / "one", *(f"host-1 {TRACE} {number:016x}\n" for number in (1, 2)))]
    row = fleet.row_of(
        "host-1", [STATS], fleet.drain_process.Audit({"demo": {"published": 3, "delivered": 3}}, {}, {}, {}), gateways
    )
    assert (row.arrived, row.missing) == (2, 1)
    gateways.append(received(fleet, tmp_path / "other"))
    assert fleet.problems({"host-1": row}, gateways) == ["1 spans of host-1 are missing"]


def test_what_each_counts_as_lost_or_waiting_is_not_missing(fleet: ModuleType, tmp_path: Path) -> None:
    gateways = [received(fleet, tmp_path / "one", f"host-1 {TRACE} {1:016x}\n")]
    audit = fleet.drain_process.Audit(
        {"demo": {"spooled": 2, "delivered": 1}}, {"demo": {"expired": 1, "waiting": 1}}, {}, {}
    )
    row = fleet.row_of("host-1", [STATS], audit, gateways)
    assert tuple(row) == (3, 1, 1, 1, 0)
    gateways.append(received(fleet, tmp_path / "other"))
    assert fleet.problems({"host-1": row}, gateways) == []


def test_a_trace_at_both_gateways_is_a_problem(fleet: ModuleType, tmp_path: Path) -> None:
    one = received(fleet, tmp_path / "one", f"host-1 {TRACE} {1:016x}\n", f"host-1 {TRACE} {2:016x}\n")
    other = received(fleet, tmp_path / "other", f"host-1 {TRACE} {3:016x}\n")
    row = fleet.row_of("host-1", [STATS], fleet.drain_process.Audit({}, {}, {}, {}), [one, other])
    assert fleet.problems({"host-1": row}, [one, other]) == ["1 traces are at both gateways"]


def test_a_line_that_a_kill_has_cut_is_no_span_and_spoils_none(fleet: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "one"
    cut = f"host-1 {TRACE} {2:016x}"
    found = received(fleet, path, f"host-1 {TRACE} {1:016x}\n", cut[:-3])
    with path.open("a") as file:  # as the next process of the gateway goes on
        file.write(f"\nhost-1 {TRACE} {2:016x}\nhost-1 {TRACE} {1:016x}\n")
    found.read_on()  # type: ignore[attr-defined]  # of a program, not of a package
    assert found.spans == {"host-1": {1, 2}}  # type: ignore[attr-defined]
    assert found.lines == {"host-1": 3}  # type: ignore[attr-defined]
