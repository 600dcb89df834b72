"""Signals in the first moments of a drain, when its libraries are not loaded yet."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.python import command, run
from tests.sampled import every
from tests.waiting import SECONDS, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Sends the process a signal when it looks for a module: the first that it imports, and one of the last.
START = """
import os, signal, sys
module, number = sys.argv[1], int(sys.argv[2])
class Signals:
    def find_spec(self, name, path, target=None):
        if name == module:
            os.kill(os.getpid(), number)
sys.meta_path.insert(0, Signals())
sys.argv[1:] = sys.argv[3:]
import drain.__main__
drain.__main__.main()
"""


def names_of(values: tuple[signal.Signals, str]) -> str:
    return f"{values[0].name}-{values[1]}"


MODULES = ["drain.standard_streams", "drain.command", "drain.exporters.stdout"]


@pytest.mark.parametrize(
    ("number", "module"),
    every(5, [(number, module) for number in (signal.SIGUSR1, signal.SIGHUP) for module in MODULES], names_of),
)
def test_a_signal_that_asks_for_something_does_not_end_it(module: str, number: int, ring_dir: Path) -> None:
    done = run(START, module, int(number), "--once", "--ring-dir", ring_dir, "--output", "-")
    assert done.returncode == 0, done.stderr


def test_what_was_asked_for_before_there_was_anybody_to_hear_it_is_done(ring_dir: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    start = command(START, MODULES[0], int(signal.SIGUSR1), "--ring-dir", ring_dir, "--output", "-")
    with log.open("w") as stderr, subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=stderr) as process:
        try:
            until(lambda: '"event": "audit"' in log.read_text())
        finally:
            process.terminate()
        assert process.wait(SECONDS) == 0
    assert log.read_text().count('"event": "audit"') == 2


@pytest.mark.parametrize("module", MODULES)
def test_a_stop_ends_it_at_once(module: str, ring_dir: Path) -> None:
    done = run(START, module, int(signal.SIGTERM), "--once", "--ring-dir", ring_dir, "--output", "-")
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "")


def test_the_first_process_of_a_container_is_ended_by_it_too(
    ring_dir: Path, debian_program: Callable[[str], str]
) -> None:
    unshare = [debian_program("unshare"), "--user", "--map-root-user", "--pid", "--fork"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no namespaces of process ids here")
    start = command(START, "drain.command", int(signal.SIGTERM), "--once", "--ring-dir", ring_dir, "--output", "-")
    done = subprocess.run([*unshare, *start], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, ""), done.stderr


@pytest.mark.parametrize("number", every(2, [signal.SIGUSR1, signal.SIGHUP], lambda number: number.name))
def test_a_command_that_is_no_service_is_ended_as_usual(number: int, tmp_path: Path) -> None:
    (lines := tmp_path / "spans.jsonl").write_bytes(b"")
    done = run(START, "drain.exporters.console", int(number), "replay", "--exporter", "console", lines)
    assert done.returncode == -number, done.stderr


def test_under_nohup_such_a_command_outlives_its_terminal(tmp_path: Path) -> None:
    (lines := tmp_path / "spans.jsonl").write_bytes(b"")
    start = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + START
    done = run(start, "drain.exporters.console", int(signal.SIGHUP), "replay", "--exporter", "console", lines)
    assert (done.returncode, "0 spans delivered" in done.stderr) == (0, True), done.stderr
