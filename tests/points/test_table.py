"""The table names all points that there are, and only those."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.points.kill_switch import owner_of
from tests.points.table import DRAIN_POINTS, HOLD_POINTS, PRODUCER_POINTS
from tests.python import ROOT

IN_C = re.compile(r"RB_POINT\((\w+)\);")


def test_each_point_of_the_c_code_is_in_the_table_and_stands_in_one_place() -> None:
    found = Counter(name for path in (ROOT / "csrc").rglob("*.[ch]") for name in IN_C.findall(path.read_text()))
    assert max(found.values()) == 1, "its passages are counted where it stands"
    points = (*DRAIN_POINTS, *HOLD_POINTS)
    known = {point.name for point in PRODUCER_POINTS} | {point.name for point in points if "/" not in point.name}
    assert set(found) == known


def test_each_step_of_the_drain_is_in_its_code() -> None:
    steps = [point.name for point in (*DRAIN_POINTS, *HOLD_POINTS) if "/" in point.name]
    assert len(steps) == len(set(steps))
    for step in steps:
        dotted, _, moment = step.partition("/")
        assert moment in {"before", "after"}
        owner_of(dotted)


@pytest.mark.parametrize(
    "dotted", ["drain.spool.spool.Spool.no_such", "drain.no_such.put", "drain.spool.spool.DATABASE_NAME"]
)
def test_a_step_that_is_not_in_the_code_is_noticed(dotted: str) -> None:
    with pytest.raises(LookupError):
        owner_of(dotted)
