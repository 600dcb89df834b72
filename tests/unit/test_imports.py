"""What a command does not load: a start of the drain is mostly imports, of which each command pays for its own."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.python import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OF_A_DRAIN: Final = {"numpy", "google", "opentelemetry", "structlog", "sqlite3", "isal"}
OF_AN_EXPORTER: Final = {"confluent_kafka", "grpc", "urllib3", "zstandard"}
OF_A_LISTENER: Final = {"prometheus_client", "http"}
# What each loads of the drain, and what it must not load of others.
COMMANDS: Final = {
    "--version": (["drain.__main__", "drain.command"], OF_A_DRAIN | OF_AN_EXPORTER | OF_A_LISTENER),
    "config": (["drain.__main__", "drain.command"], OF_A_DRAIN | OF_AN_EXPORTER | OF_A_LISTENER),
    "--once --exporter file": (["drain.commands.serve", "drain.exporters.file"], OF_AN_EXPORTER | OF_A_LISTENER),
    "--once --exporter otlp-http": (
        ["drain.commands.serve", "drain.exporters.otlp_http"],
        {"confluent_kafka", "grpc", "zstandard", "prometheus_client"},
    ),
    "replay": (
        ["drain.commands.replay", "drain.exporters.file"],
        {"confluent_kafka", "grpc", "urllib3", "prometheus_client"},
    ),
}
LOADED: Final = """
import atexit, runpy, sys
unwanted = sys.argv.pop(1).split(",")
atexit.register(lambda: print("loaded:", *(name for name in unwanted if name in sys.modules), file=sys.stderr))
runpy.run_module("drain", run_name="__main__", alter_sys=True)
"""


def path_of(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def run_at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that an import of the module runs, but for those of its classes."""
    for node in body:
        if isinstance(node, ast.If):
            if ast.unparse(node.test) != "TYPE_CHECKING":
                yield from run_at_import(node.body)
            yield from run_at_import(node.orelse)
        elif isinstance(node, ast.Try | ast.With):
            yield from run_at_import(node.body)
        else:
            yield node


def imported(module: str) -> Iterator[str]:
    for node in run_at_import(ast.parse(path_of(module).read_text(encoding="utf-8")).body):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def loaded_by(roots: list[str]) -> dict[str, str]:
    """Return all that these modules load, with who loads it; of other packages the first part of the name."""
    found = dict.fromkeys(roots, "the command")
    waiting = list(roots)
    while waiting:
        module = waiting.pop()
        for name in imported(module):
            parts = name.split(".")
            is_ours = parts[0] in {"drain", "ringbuf"} and path_of(name).exists()
            key = name if is_ours else parts[0]
            if key not in found:
                found[key] = module
                if is_ours:
                    waiting += [key, *(".".join(parts[:end]) for end in range(1, len(parts)))]
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_loads_nothing_heavy_that_it_does_not_need(command: str) -> None:
    roots, unwanted = COMMANDS[command]
    found = loaded_by(roots)
    assert len(found) > len(roots) + 5
    assert {name: found[name] for name in unwanted if name in found} == {}


@pytest.mark.prove
@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "replay"])
def test_a_command_that_runs_has_not_loaded_them(command: str, ring_dir: Path, tmp_path: Path) -> None:
    """What no reader of files sees: imports by name, and what other packages load."""
    unwanted = COMMANDS[command][1] - {"http"}  # urllib3 has it
    arguments = ["-Ic", LOADED, ",".join(sorted(unwanted))]
    if command.startswith("--once"):
        arguments += ["--ring-dir", str(ring_dir)]
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("RINGBUF_", "OTEL_"))}
    ended = subprocess.run(
        [sys.executable, *arguments, *command.split()],
        capture_output=True,
        text=True,
        env=variables | {"XDG_STATE_HOME": str(tmp_path)},
        check=False,
        cwd=tmp_path,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.splitlines()[-1] == "loaded:"
