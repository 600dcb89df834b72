"""On a tmpfs without a free page the drain starts all the same: it is what makes room."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.process.shortage.mounts import output_on_a_disk

if TYPE_CHECKING:
    from pathlib import Path

CODE = """
import contextlib, os, sys
from pathlib import Path
import ringbuf
from tests.service.draining import LAYOUT, DrainProcess, emit, numbers_in_file, quarantined, ring_files, until

disk, folder = map(Path, sys.argv[1:])
ring_dir = disk / "rings"
emitter = ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=1024)
emit(emitter, range(10))
(sound,) = ring_files(ring_dir)
bad = bytearray(sound.read_bytes())
bad[100] ^= 1
(ring_dir / "bad.ring").write_bytes(bad)
with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
    while filler.write(bytes(4096)) == 4096:
        pass

try:
    ringbuf.Emitter("late", ring_dir=ring_dir, layout=LAYOUT, capacity=1024)
except ringbuf.RingBufferError as error:
    print("a ring more:", "No space left on device" in str(error), "free room" in str(error))

output = folder / "spans.jsonl"
with DrainProcess(folder / "log", ring_dir, "--exporter", "file", "--output", output) as drain:
    drain.wait_for_event("ring quarantined")
    until(lambda: emitter.stats().pending == 0)
    print("emitted beside it:", emit(emitter, range(10, 20)))
    until(lambda: emitter.stats().pending == 0)
    emitter.close()
    until(lambda: not ring_files(ring_dir))
    print("ended:", drain.stop())
del emitter  # the mapping goes with it
print("delivered:", sorted(numbers_in_file(output)) == list(range(20)))
ringbuf.Emitter("late", ring_dir=ring_dir, layout=LAYOUT, capacity=512).close()
print("there is room again")
"""


def test_a_drain_starts_serves_and_makes_room_where_there_is_no_page_left(ring_dir: Path, tmp_path: Path) -> None:
    output = output_on_a_disk(ring_dir, "size=2m,mode=700", CODE, ring_dir, tmp_path)
    assert output.splitlines() == [
        "a ring more: True True",
        "emitted beside it: 10",
        "ended: 1",  # a ring was quarantined
        "delivered: True",
        "there is room again",
    ]
