"""docs/quick-start.md, followed to the letter in a clean environment; and the drain, run without being installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from drain.otlp.json_lines import from_json_line
from tests.packaging.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

pytestmark = pytest.mark.prove

PAGE = ROOT / "docs" / "quick-start.md"
STEP = re.compile(r'^```(?P<kind>sh|python title="(?P<file>[^"]+)")\n(?P<text>.*?)^```', re.DOTALL | re.MULTILINE)
SECONDS = 1200


@pytest.fixture
def environment(wheel: Path, ring_dir: Path, tmp_path: Path) -> dict[str, str]:
    """Return an environment in which the distribution's name finds the wheel, and rings are the test's own."""
    links = f"{wheel.parent} {os.environ.get('PIP_FIND_LINKS', '')}".strip()
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PIP_FIND_LINKS": links,
        "PIP_NO_INPUT": "1",
        "RINGBUF_DIR": str(ring_dir),
        "HOME": str(tmp_path),
        "PIP_CONFIG_FILE": os.environ.get("PIP_CONFIG_FILE", str(Path.home() / ".config" / "pip" / "pip.conf")),
        "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR", str(Path.home() / ".cache" / "pip")),
    }


def test_the_quick_start_ends_with_the_spans_that_it_promises(environment: dict[str, str], tmp_path: Path) -> None:
    steps = list(STEP.finditer(PAGE.read_text(encoding="utf-8")))
    assert [step["file"] or "sh" for step in steps] == ["sh", "producer.py", "sh", "sh", "sh"]
    script = ["set -eu"]
    for number, step in enumerate(steps):
        if step["file"]:
            (tmp_path / f"step {number}").write_text(step["text"])
            script.append(f"cp 'step {number}' {step['file']}")
        else:
            script += [f"echo '=== {number}'", step["text"]]
    out = run(["bash", "-c", "\n".join(script)], environment, tmp_path)
    _, installed, produced, shown, kept = re.split(r"=== \d\n", out)
    del installed
    assert produced.startswith(f"2 spans in {environment['RINGBUF_DIR']}/shop-")
    assert {"shop.charge", "shop.checkout"} <= set(re.findall(r"shop\.(?:charge|checkout)\b", shown))
    line = kept.splitlines()[-1].encode()
    spans = [s for r in from_json_line(line).resource_spans for scope in r.scope_spans for s in scope.spans]
    (charge,), (checkout,) = (
        [span for span in spans if span.name == name] for name in ("shop.charge", "shop.checkout")
    )
    assert charge.parent_span_id == checkout.span_id
    values = {pair.key: pair.value for pair in checkout.attributes}
    assert (values["shop.items"].int_value, values["shop.outcome"].string_value) == (3, "paid")


@pytest.mark.parametrize("runner", ["uvx", "pipx"])
def test_the_drain_runs_from_the_wheel_without_being_installed(
    runner: str, wheel: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    program = str(Path(sys.executable).with_name(runner))
    commands = {
        "uvx": [program, "--python", sys.executable, "--from", f"ringbuf-spans[drain] @ {wheel.as_uri()}"],
        "pipx": [program, "run", "--python", sys.executable, "--spec", f"{wheel}[drain]"],
    }
    environment |= {"PIPX_HOME": str(tmp_path / "pipx"), "UV_CACHE_DIR": str(Path.home() / ".cache" / "uv")}
    out = run([*commands[runner], "ringbuf-drain", "--help"], environment, tmp_path)
    assert "Take spans out of the rings of a directory" in out


def run(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> str:
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
