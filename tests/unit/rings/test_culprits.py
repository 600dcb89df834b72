from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from drain.rings.culprits import culprits

if TYPE_CHECKING:
    from collections.abc import Sequence


@given(st.integers(1, 300), st.data())
def test_those_that_kill_by_themselves_are_found_with_few_processes(count: int, data: st.DataObject) -> None:
    fatal = data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=5))
    asked: list[Sequence[int]] = []

    def survives(part: Sequence[int]) -> bool:
        asked.append(part)
        return not fatal & set(part)

    assert list(culprits(range(count), survives)) == sorted(fatal)
    assert len(asked) <= 2 * len(fatal) * count.bit_length()


def test_those_that_kill_only_together_are_not_found() -> None:
    assert list(culprits(range(10), lambda part: not {1, 8} <= set(part))) == []
