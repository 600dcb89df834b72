"""Spans nest the same where CPython's functions for context variables are not those that we know: by their methods."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.python import run

CODE = """
import asyncio, contextvars, ringbuf.testing
from ringbuf.sites.span import current_traceparent

LAYOUT = ringbuf.SpanLayout(span_names=["get"], attributes=[ringbuf.Attribute("bytes", "u64")])

def generate(get):
    with get.span(5):
        yield

async def child(get, number):
    with get.span(number):
        await asyncio.sleep(0)
        get.emit(1, 2, 10 * number)

async def main(get):
    with get.span(1):
        await asyncio.gather(child(get, 2), child(get, 3))
    get.emit(1, 2, 4)

with ringbuf.testing.InMemoryEmitter(layout=LAYOUT) as emitter:
    get = emitter.site("get", varying=["bytes"])
    asyncio.run(main(get))
    generator = generate(get)
    contextvars.copy_context().run(next, generator)
    generator.close()  # in another context: it goes astray
    assert current_traceparent() is None
    spans = emitter.finished_spans()
    ids = {span["span_id"]: span["attributes"]["bytes"] for span in spans}
    print(sorted((span["attributes"]["bytes"], ids.get(span["parent_span_id"], 0)) for span in spans))
"""


@pytest.mark.parametrize("has_functions", [True, False])
def test_spans_nest_by_functions_and_by_methods(
    tmp_path: Path, c_compiler: str, monkeypatch: pytest.MonkeyPatch, has_functions: bool
) -> None:
    if not has_functions:
        shim = tmp_path / "no_functions_shim.so"
        source = Path(__file__).with_name("no_functions_shim.c")
        subprocess.run([c_compiler, "-shared", "-fPIC", "-Wall", "-Werror", source, "-o", shim, "-ldl"], check=True)
        monkeypatch.setenv("LD_PRELOAD", str(shim))
    result = run(CODE)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "[(1, 0), (2, 1), (3, 1), (4, 0), (5, 0), (20, 2), (30, 3)]\n"
    assert ("no PyContextVar_Get" in result.stderr) is not has_functions  # the shim was asked
