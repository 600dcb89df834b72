"""The hold over random lives of the drain, killed at any call into a chunk: nothing is lost, and nothing held twice."""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drain.sampling.hold import chunk
from ringbuf._ringbuf import lib
from tests.conftest import SESSION, SHM
from tests.examples import examples
from tests.points.hold_walk import Ledger, Walker

if TYPE_CHECKING:
    from collections.abc import Iterator


class KilledError(BaseException):
    """Not to be caught by the code, as a kill is not."""


class Mortal:
    """The C library, of which no call of a chunk returns, or is made, once a number of them has been made."""

    def __init__(self, lib: Any) -> None:
        self._lib = lib
        self.calls_left = 10**9
        self.before = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._lib, name)
        if not name.startswith("rb_chunk_") or name == "rb_chunk_free":
            return found

        def call(*arguments: Any) -> Any:
            self.calls_left -= 1
            if self.calls_left < 0 or (self.before and self.calls_left == 0):
                raise KilledError
            result = found(*arguments)
            if self.calls_left == 0:
                raise KilledError
            return result

        return call


@pytest.fixture(scope="module")
def mortal() -> Iterator[Mortal]:
    with pytest.MonkeyPatch.context() as patch:
        made = Mortal(lib)
        patch.setattr(chunk, "lib", made)
        yield made


@settings(max_examples=examples(40))
@given(
    seed=st.integers(0, 2**32 - 1),
    lives=st.lists(st.tuples(st.integers(1, 120), st.booleans()), min_size=1, max_size=6),
)
def test_a_kill_at_any_call_loses_nothing_and_holds_nothing_twice(
    seed: int, lives: list[tuple[int, bool]], mortal: Mortal
) -> None:
    dice = random.Random(seed)  # noqa: S311 - a seed is what is wanted
    folder = Path(tempfile.mkdtemp(prefix=f"{SESSION}-", dir=SHM))
    ledger = Ledger(folder / "ledger")
    try:
        for calls, before in lives:
            mortal.calls_left = 10**9
            walker = Walker(folder / "hold", ledger, dice)
            mortal.calls_left, mortal.before = calls, before
            try:
                walker.walk(40)
            except KilledError:
                continue
        mortal.calls_left = 10**9
        last = Walker(folder / "hold", ledger, dice)
        last.walk(40)
        last.settle_some(list(last.waiting))
        assert not last.hold.found or last.hold.sums()["walker"].waiting == 0
    finally:
        ledger.close()
        shutil.rmtree(folder)
