"""Directories that cannot be written: a clear error for who starts there, and nothing lost when it happens later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.process.shortage.mounts import output_on_a_disk

if TYPE_CHECKING:
    from pathlib import Path

CODE = """
import subprocess, sys
from pathlib import Path
import ringbuf
from tests.service.draining import LAYOUT, DrainProcess, emit, numbers_in_file, until

disk, folder = map(Path, sys.argv[1:])
ring_dir, read_only = disk / "rings", disk / "the same"
emitter = ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=64)
emit(emitter, range(10))
read_only.mkdir()
subprocess.run(["mount", "--bind", ring_dir, read_only], check=True)
subprocess.run(["mount", "-o", "remount,bind,ro", read_only], check=True)
try:
    ringbuf.Emitter("late", ring_dir=read_only, layout=LAYOUT, capacity=64)
except ringbuf.RingBufferError as error:
    print("a ring more:", "Read-only file system" in str(error))
flags = ("--exporter", "file", "--output", folder / "spans.jsonl")
with DrainProcess(folder / "log", read_only, *flags) as drain:
    print("drain:", drain.wait())
print("it says why:", "Read-only file system" in (folder / "log").read_text())
print("emitted all the same:", emit(emitter, range(10, 20)))
with DrainProcess(folder / "log", ring_dir, *flags) as drain:
    until(lambda: emitter.stats().pending == 0)
    print("drain:", drain.stop())
print("delivered:", sorted(numbers_in_file(folder / "spans.jsonl")) == list(range(20)))
"""


def test_in_a_read_only_directory_both_sides_say_so_and_spans_wait(ring_dir: Path, tmp_path: Path) -> None:
    output = output_on_a_disk(ring_dir, "size=8m,mode=700", CODE, ring_dir, tmp_path)
    assert output.splitlines() == [
        "a ring more: True",
        "drain: 74",
        "it says why: True",
        "emitted all the same: 10",
        "drain: 0",
        "delivered: True",
    ]
