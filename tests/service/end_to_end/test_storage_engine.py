"""The example outside grafOS is a store that works, and its spans say what it did."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ringbuf
from tests.examples import ABOUT_CHANCE, examples
from tests.service.draining import run_once, spans_in_file

if TYPE_CHECKING:
    from types import ModuleType

    from opentelemetry.proto.trace.v1.trace_pb2 import Span

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "storage_engine.py"
OPERATIONS = 1500


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("storage_engine", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def spans(ring_dir: Path, tmp_path: Path) -> list[Span]:
    """Return the spans of a run of the program, as a drain delivered them."""
    command: list[str | Path] = [sys.executable, EXAMPLE, tmp_path / "store", str(OPERATIONS)]
    environment = {**os.environ, "RINGBUF_DIR": str(ring_dir)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert run_once(tmp_path / "log", ring_dir, "--exporter", "file", "--output", tmp_path / "spans.jsonl") == 0
    found = spans_in_file(tmp_path / "spans.jsonl")
    assert done.stdout == f"{len(found):,} spans: {len(found):,} written, 0 dropped\n"
    return found


def test_the_programs_spans_nest_and_say_what_it_did(spans: list[Span]) -> None:
    by_id = {span.span_id: span for span in spans}
    parents = Counter((span.name, by_id[span.parent_span_id].name if span.parent_span_id else "") for span in spans)
    assert parents["kv.get", ""] + parents["kv.put", ""] == OPERATIONS
    assert parents["kv.log", "kv.put"] == parents["kv.put", ""]
    assert parents["kv.flush", "kv.put"] > parents["kv.compact", "kv.flush"] > 0
    assert set(parents) == {
        ("kv.open", ""),
        ("kv.get", ""),
        ("kv.put", ""),
        ("kv.log", "kv.put"),
        ("kv.flush", "kv.put"),
        ("kv.compact", "kv.flush"),
    }
    for span in spans:
        if span.parent_span_id:
            parent = by_id[span.parent_span_id]
            assert span.trace_id == parent.trace_id
            assert parent.start_time_unix_nano <= span.start_time_unix_nano
            assert span.end_time_unix_nano <= parent.end_time_unix_nano
    gets = [values_of(span) for span in spans if span.name == "kv.get"]
    assert {values["kv.found_in"] for values in gets} == {"nothing", "memory", "file"}
    assert all(values["kv.files"] >= 1 for values in gets if values["kv.found_in"] == "file")
    compactions = [values_of(span) for span in spans if span.name == "kv.compact"]
    assert {values["kv.files"] for values in compactions} == {5}


@settings(max_examples=examples(30), suppress_health_check=[HealthCheck.function_scoped_fixture, *ABOUT_CHANCE])
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["put", "put", "delete", "get", "reopen", "tear"]),
            st.integers(0, 5),
            st.binary(max_size=60),
        ),
        max_size=60,
    )
)
def test_the_store_holds_what_was_put_also_after_a_kill(
    example: ModuleType, steps: list[tuple[str, int, bytes]], ring_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("store")
    model: dict[bytes, bytes] = {}
    with ringbuf.Emitter("kv", layout=example.LAYOUT, ring_dir=ring_dir) as emitter:
        store = example.Store(folder, emitter, memory_bytes=100, max_files=2)
        for action, number, value in steps:
            key = b"key %d" % number
            if action == "put":
                store.put(key, value)
                model[key] = value
            elif action == "delete":
                store.delete(key)
                model.pop(key, None)
            elif action in ("reopen", "tear"):
                store.close()
                if action == "tear":  # an entry that a kill cut short, and files that no manifest names
                    with (folder / "log").open("ab") as log:
                        log.write(example._entry(key, b"never returned from put")[:-1])
                    (folder / "999.sorted").write_bytes(example._entry(key, b"stray"))
                store = example.Store(folder, emitter, memory_bytes=100, max_files=2)
            assert store.get(key) == model.get(key)
        assert {key: store.get(key) for key in model} == model
        store.close()


def values_of(span: Span) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in span.attributes}
