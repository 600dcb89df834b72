"""Subinterpreters: each either emits into a ring of its own or is told by ImportError that it cannot; none crashes."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

from tests.consumer import rings_in
from tests.process.numbered import complaints, left_by, told_in
from tests.python import run

if TYPE_CHECKING:
    from pathlib import Path

MODULE = next((name for name in ("_interpreters", "_xxsubinterpreters") if importlib.util.find_spec(name)), None)
INTERPRETERS = 3
PROGRAM = """
import faulthandler, warnings, ringbuf
import {module} as interpreters
from tests.process.numbered import Numbered, append
faulthandler.enable()
warnings.filterwarnings("ignore", message="remaining subinterpreters")  # Python 3.14 and later
ring_dir, told, said, order = sys.argv[1:]
CODE = f'''
import sys
sys.path[:] = {{sys.path!r}}
try:
    import ringbuf
    from tests.process.numbered import Numbered, append
    numbered = Numbered(ringbuf.Emitter("sub", ring_dir={{ring_dir!r}}, capacity=1024), {{told!r}})
except ImportError as error:
    assert str(error), "no reason"
    with open({{said!r}}, "a") as file:
        file.write("refused\\\\n")
else:
    numbered.emit_some()
    numbered.tell()
    numbered.emitter.close()
    append({{said!r}}, "works\\\\n")
'''
def run_others():
    for _ in range({count}):
        interpreter = interpreters.create()
        problem = getattr(interpreters, "exec", None) or interpreters.run_string
        problem = problem(interpreter, CODE)
        assert problem is None, problem
        if order != "kept":
            interpreters.destroy(interpreter)
if order == "first":
    run_others()
numbered = Numbered(ringbuf.Emitter("main", ring_dir=ring_dir, capacity=1024), told)
numbered.emit_some()
if order != "first":
    run_others()
numbered.emit_some()
numbered.tell()
"""


@pytest.mark.skipif(MODULE is None, reason="this Python has no module for subinterpreters")
@pytest.mark.parametrize("order", ["first", "last", "kept"])
def test_a_subinterpreter_emits_or_is_refused(ring_dir: Path, tmp_path: Path, order: str) -> None:
    said, told = tmp_path / "said", tmp_path / "told"
    done = run(PROGRAM.format(module=MODULE, count=INTERPRETERS), ring_dir, told, said, order, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not complaints(done.stderr)
    answers = said.read_text().split()
    assert answers in (["works"] * INTERPRETERS, ["refused"] * INTERPRETERS)
    working = INTERPRETERS if answers[0] == "works" else 0
    assert len(rings_in(ring_dir)) == 1 + working
    spans = left_by(ring_dir)
    assert spans == told_in(told)
    assert spans.total() == (2 + working) * 60
