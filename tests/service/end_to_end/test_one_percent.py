"""`docs/examples/one_percent.py`: its checks hold, and they fail where something is wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from tests.service.end_to_end.emitter_stats import emitter_stats
from tests.service.end_to_end.test_demo import EXAMPLES, SECONDS, loaded

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType


@pytest.mark.prove
def test_one_in_a_hundred_is_kept_and_the_failure_whole_over_a_kill(ring_dir: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "one_percent.py"), "--rate", "10000", "--seconds", "4"]
    environment = {**os.environ, "RINGBUF_DIR": str(ring_dir), "TMPDIR": str(tmp_path)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "✗" not in result.stdout
    # One cannot be checked where the machine was too slow for the producers.
    assert result.stdout.count("✓") == (5 if re.search(r"dropped by producers +0 spans", result.stdout) else 4)
    assert not list(ring_dir.iterdir())


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for name in ("report", "drain_process"):
        monkeypatch.setitem(sys.modules, name, loaded(name, f"one_percent_{name}"))
    return loaded("one_percent", "one_percent")


FAILURE, FIRST = "aa", "bb"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({}, None),
        ({"first": 9}, "no trace is torn"),
        ({"failure": 9}, "the failure is kept whole"),
        ({"stands_for": 2_000_000.0}, "what was kept stands for what was written"),
        ({"pending": 1}, "the rings add up"),
        ({"lost": 1}, "the hold adds up"),
    ],
)
def test_each_check_can_fail(
    example: ModuleType, wrong: dict[str, float], words: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    traces = {FAILURE: set(range(int(wrong.get("failure", 10)))), FIRST: set(range(int(wrong.get("first", 10))))}
    kept = SimpleNamespace(
        traces=defaultdict(set, traces),
        spans=20,
        repeated=0,
        stands_for=wrong.get("stands_for", 100_000.0),
    )
    audit = SimpleNamespace(
        services={"shop": {"published": 100_000, "spooled": 100_000, "pending": wrong.get("pending", 0)}},
        hold={"shop": {"held": 100_000, "delivered": 20, "sampled_out": 99_980, "lost": wrong.get("lost", 0)}},
    )
    code = example._tell([emitter_stats(100_000)], audit, kept, FAILURE, 1.0)
    failed = [line[2:] for line in capsys.readouterr().out.splitlines() if line.startswith("✗")]
    assert code == (words is not None)
    if words is not None:
        assert words in failed


def test_what_producers_dropped_of_a_trace_is_not_said_to_be_whole(
    example: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = SimpleNamespace(traces={FAILURE: set(range(10)), FIRST: {1}}, spans=11, repeated=0, stands_for=100_000.0)
    audit = SimpleNamespace(services={"shop": {"published": 100_000}}, hold={})
    assert example._tell([emitter_stats(100_000, full=9)], audit, kept, FAILURE, 1.0) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[0] for line in lines if line.endswith(("torn", "dropped spans"))] == ["?"]
