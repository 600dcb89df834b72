"""ringbuf imported anew, or parts of it reloaded, in one process: old objects and new ones go on beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.consumer import rings_in
from tests.process.numbered import check_all_told, told_in
from tests.python import output_of
from tests.sampled import every

if TYPE_CHECKING:
    from pathlib import Path

# The package as it was first is kept in `old`, the one of the second import in `new`.
REIMPORT = """
import importlib, os, ringbuf
import tests.process.numbered as old
ring_dir, told = sys.argv[1:3]
def begin(numbered, package):
    made = numbered.Numbered(package.Emitter("service", ring_dir=ring_dir, capacity=1024), told)
    made.emit_some()
    return made
first = begin(old, ringbuf)
for name in list(sys.modules):
    if name.split(".")[0] in ("ringbuf", "tests"):
        del sys.modules[name]
again = importlib.import_module("ringbuf")
new = importlib.import_module("tests.process.numbered")
assert again is not ringbuf and again.Emitter is not ringbuf.Emitter
second = begin(new, again)
first.emit_some()
second.emit_some()
"""
ENDS = {
    "the end of the program": "first.tell(); second.tell()",
    "the end of the old one": """
first.tell()
emitter = first.emitter
del first, ringbuf, old
import gc; gc.collect()
second.emit_some()
second.tell()
""",
    "a fork": """
first.tell(); second.tell()
pid = os.fork()
if pid == 0:
    for mine, module in ((first, old), (second, new)):
        child = module.Numbered(mine.emitter, told)
        child.emit_some()
        child.tell()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
""",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_second_import_lives_beside_the_first(ring_dir: Path, tmp_path: Path, end: str) -> None:
    told = tmp_path / "told"
    output_of(REIMPORT + ENDS[end], ring_dir, told)
    processes = 2 if end == "a fork" else 1
    assert len(rings_in(ring_dir)) == 2 * processes
    check_all_told(ring_dir, told, processes)
    assert told_in(told).total() == {"the end of the old one": 5, "a fork": 6}.get(end, 4) * 60


# What programs import; the modules behind them are nobody's to reload.
MODULES = [
    "ringbuf",
    *(f"ringbuf.{name}" for name in ("dataplane", "emitter", "layout.layout", "shared", "traceparent")),
]


@pytest.mark.parametrize("module", every(2, MODULES))
def test_a_module_may_be_reloaded(ring_dir: Path, tmp_path: Path, module: str) -> None:
    told = tmp_path / "told"
    output_of(
        """
import importlib, ringbuf, ringbuf.dataplane
import tests.process.numbered as numbered
ring_dir, told, name = sys.argv[1:]
first = numbered.Numbered(ringbuf.Emitter("service", ring_dir=ring_dir, capacity=1024), told)
first.emit_some()
with first.site.span(numbered.LeaseId(first.attempts)):
    module = importlib.reload(importlib.import_module(name))
    assert importlib.reload(module) is module
first.attempts += 1
first.emit_some()
# What is made from now on is of the reloaded module's kind.
numbered = importlib.reload(numbered)
import ringbuf.emitter, ringbuf.shared
second = numbered.Numbered(ringbuf.emitter.Emitter("service", ring_dir=ring_dir, capacity=1024), told)
second.emit_some()
assert ringbuf.shared.get_emitter() is ringbuf.get_emitter()
print(first.emitter.stats().published, second.emitter.stats().published)
""",
        ring_dir,
        told,
        module,
    )
