"""SIGKILL at every named point of the hold: nothing is lost, nothing is held twice, and the next drain goes on."""

from __future__ import annotations

import random
import signal
from typing import TYPE_CHECKING

import pytest

from tests.points.hold_walk import Ledger, Walker
from tests.points.table import HOLD_POINTS
from tests.points.test_points import SEED

if TYPE_CHECKING:
    from pathlib import Path

    from tests.points.scene import Pair

CODE = "import sys; from tests.points.hold_walk import live; live(*sys.argv[1:])"
KILLS = 2


@pytest.mark.parametrize(
    "at",
    [
        pytest.param(at, id=point.name, marks=[pytest.mark.prove] if at % 3 else [])  # a third in `make test`
        for at, point in enumerate(HOLD_POINTS)
    ],
)
def test_a_kill_at_each_point_of_the_hold_loses_nothing(at: int, ring_dir: Path, tmp_path: Path, pair: Pair) -> None:
    point = HOLD_POINTS[at]
    dice = random.Random(f"{SEED} {point.name}")  # noqa: S311 - a seed is what is wanted
    folder, ledger = ring_dir / "hold", Ledger(tmp_path / "ledger")
    first = Walker(folder, ledger, dice)
    first.walk(3)
    first.look()  # so that there is a chunk to take up
    first.hold.close()
    for kill in range(KILLS):
        nth = dice.randint(1, point.most)
        print(f"RINGBUF_TEST_SEED={SEED}: {point.name}:{nth}")  # noqa: T201 - shown when the test fails
        arguments = (folder, ledger.path, str(dice.random()), "400")
        child = pair.points.fork(
            "-c", CODE, *map(str, arguments), log=tmp_path / f"{kill}.log", kill_at=f"{point.name}:{nth}"
        )
        assert child.wait() == -signal.SIGKILL, child.log.read_text()
        walker = Walker(folder, ledger, dice)  # which looks at what is there
        walker.walk(3)
        walker.look()
        walker.hold.close()
    ledger.close()
