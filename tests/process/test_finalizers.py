"""`__del__` that emits while the collector takes apart a cycle that its emitter is part of: the ring is still there."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from tests.process.numbered import check_all_told
from tests.python import output_of
from tests.sampled import every

if TYPE_CHECKING:
    from pathlib import Path

# In the order in which the collector meets them: who is asked first must not matter.
ORDERS = ["self.numbered = numbered; self.itself = self", "self.itself = self; self.numbered = numbered"]
DOORS = ["self.numbered.emit()", "self.numbered.emit_block()", "self.numbered.emitter.stats()"]


@pytest.mark.parametrize(("order", "door"), every(2, itertools.product(ORDERS, DOORS), "-".join))
def test_a_finalizer_may_emit_to_an_emitter_that_goes_with_it(
    ring_dir: Path, tmp_path: Path, order: str, door: str
) -> None:
    output_of(
        f"""
import gc, ringbuf
from pathlib import Path
from tests.process.numbered import Numbered
ring_dir, told = sys.argv[1:]
class Last:
    def __init__(self):
        numbered = Numbered(ringbuf.Emitter("service", ring_dir=ring_dir, capacity=1024), told)
        numbered.owner = self
        {order}
    def __del__(self):
        self.numbered.emit_some()
        {door}
        self.numbered.tell()
gc.disable()
for _ in range(10):
    Last()
gc.collect()
assert Path("/proc/self/maps").read_text().count(ring_dir) == 0
""",
        ring_dir,
        tmp_path / "told",
    )
    check_all_told(ring_dir, tmp_path / "told", 1)


def test_a_finalizer_that_keeps_its_emitter_alive_goes_on_with_it(ring_dir: Path, tmp_path: Path) -> None:
    output_of(
        """
import gc, ringbuf
from tests.process.numbered import Numbered
ring_dir, told = sys.argv[1:]
kept = []
class Last:
    def __init__(self):
        self.numbered = Numbered(ringbuf.Emitter("service", ring_dir=ring_dir, capacity=1024), told)
        self.itself = self
    def __del__(self):
        kept.append(self)
Last()
gc.collect()
kept[0].numbered.emit_some()
gc.collect()
kept[0].numbered.emit_some()
kept[0].numbered.tell()
""",
        ring_dir,
        tmp_path / "told",
    )
    check_all_told(ring_dir, tmp_path / "told", 1)
