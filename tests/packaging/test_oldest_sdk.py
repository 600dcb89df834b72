"""The bridge works with the oldest SDK that the extra `[otel]` allows: its spans, the nesting, the configurator."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

from tests.packaging.conftest import ROOT, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.prove

BY_ONE_LINE = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from ringbuf.otel import RingSpanProcessor

provider = TracerProvider()
provider.add_span_processor(RingSpanProcessor())
trace.set_tracer_provider(provider)
"""
BY_VARIABLE = """
import os
from importlib.metadata import entry_points

os.environ["OTEL_PYTHON_CONFIGURATOR"] = "ringbuf"

(found,) = entry_points(group="opentelemetry_configurator", name="ringbuf")
found.load()().configure()
"""
PROGRAM = """
import ringbuf
from opentelemetry import trace
from opentelemetry.sdk.version import __version__
from ringbuf.testing import SpanReader

layout = ringbuf.SpanLayout(span_names=["ours"], attributes=[])
ours = ringbuf.Emitter("ours", layout=layout).site("ours")
tracer = trace.get_tracer("theirs")
with tracer.start_as_current_span("outer") as outer:
    outer.set_attribute("key", "value")
    with ours.span(), tracer.start_as_current_span("inner"):
        pass
spans = SpanReader(sys.argv[1]).finished_spans()
parents = {span["parent_span_id"] for span in spans}
is_chain = len(parents) == len(spans) and parents - {None} < {span["span_id"] for span in spans}
print(__version__, len(spans), is_chain)
"""


@pytest.fixture(scope="module")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Return the oldest version, and a folder that has it."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (version,) = re.findall(r"^opentelemetry-sdk>=([\d.]+)$", "\n".join(extras["otel"]), re.MULTILINE)
    folder = tmp_path_factory.mktemp("oldest")
    requirement = f"opentelemetry-sdk=={version}.*"
    run([sys.executable, "-Im", "pip", "install", "--quiet", "--target", folder / "sdk", requirement], cwd=folder)
    return version, folder / "sdk"


@pytest.mark.parametrize("begin", [BY_ONE_LINE, BY_VARIABLE], ids=["by one line", "by variable"])
def test_spans_of_the_oldest_sdk_are_in_the_ring_and_nest(
    oldest: tuple[str, Path], ring_dir: Path, begin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, folder = oldest
    monkeypatch.setenv("RINGBUF_DIR", str(ring_dir))
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    code = f"import sys\nsys.path.insert(0, {str(folder)!r})\n{begin}{PROGRAM}"
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", code, str(ring_dir)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told, *others = done.stdout.split()
    assert told.startswith(f"{version}.")
    assert others == ["3", "True"]
