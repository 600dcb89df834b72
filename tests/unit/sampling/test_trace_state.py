"""The `ot` entry of a tracestate is read and rewritten, and nothing else of it changes."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drain.sampling import trace_state
from drain.sampling.trace_state import Stated, randomness_of, stated, with_threshold

RANDOM = "fedcba98765432"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", Stated()),
        ("vendor=1", Stated()),
        ("tenant@ot=th:8", Stated()),
        ("ot=th:0", Stated(0)),
        ("ot=th:8", Stated(1 << 55)),
        ("ot=th:FD70A", Stated(0xFD70A << 36)),
        ("ot=th:00000000000001", Stated(1)),
        (f"a=1, ot=rv:{RANDOM};th:c ,b=2", Stated(0xC << 52, int(RANDOM, 16))),
        (f"ot=rv:{RANDOM}", Stated(None, int(RANDOM, 16))),
        ("ot=p:8;r:62", Stated()),
        *(
            (f"ot={value}", Stated(is_malformed=True))
            for value in [
                "",
                "th",
                "th:",
                "th:8;",
                "th:8;th:8",
                "th:000000000000001",
                "th:g",
                "rv:1",
                "TH:8",
                "th:8 ;p:1",
            ]
        ),
        ("ot=th:8;x:" + "a" * 250, Stated(is_malformed=True)),
    ],
)
def test_what_a_tracestate_says(text: str, says: Stated) -> None:
    assert stated(text) == says


@pytest.mark.parametrize(
    ("text", "threshold", "rewritten"),
    [
        ("", 0, "ot=th:0"),
        ("", None, ""),
        ("vendor=1", None, "vendor=1"),
        ("vendor=1", 1 << 55, "ot=th:8,vendor=1"),
        ("ot=th:8", 0xC << 52, "ot=th:c"),
        ("ot=th:8", None, ""),
        ("a=1,ot=p:1;th:8;q:2,b=2", 0, "ot=p:1;q:2;th:0,a=1,b=2"),
        (f"a=1,ot=rv:{RANDOM};th:8", None, f"ot=rv:{RANDOM},a=1"),
        ("a=1,ot=th:8", 1 << 55, "a=1,ot=th:8"),  # as it was
        ("ot=th:g,a=1", 0, "ot=th:g,a=1"),
        ("ot=x:" + "a" * 250, 1, "ot=x:" + "a" * 250),  # there is no room for more
    ],
)
def test_a_threshold_is_written_and_all_else_stays(text: str, threshold: int | None, rewritten: str) -> None:
    assert with_threshold(text, threshold) == rewritten


def test_of_32_entries_the_last_makes_room() -> None:
    members = [f"v{number}=1" for number in range(32)]
    assert with_threshold(",".join(members), 0).split(",") == ["ot=th:0", *members[:31]]
    members[31] = "ot=th:8"
    assert with_threshold(",".join(members), 0).split(",") == ["ot=th:0", *members[:31]]


@given(st.integers(0, 2**56 - 1), st.integers(0, 2**56 - 1) | st.none())
def test_what_is_written_is_read(threshold: int, random: int | None) -> None:
    before = "" if random is None else f"ot=rv:{random:014x}"
    written = with_threshold(before, threshold)
    assert stated(written) == Stated(threshold, random)
    assert len(written) <= (22 - 2 if random is None else 40 - 2)  # with the field's tag and length
    assert with_threshold(written, None) == before


def test_r_is_rv_or_the_low_56_bits() -> None:
    assert randomness_of(bytes(9) + b"\x01" * 7, Stated()) == 0x01010101010101
    assert randomness_of(b"\xff" * 9 + bytes(7), Stated(randomness=5)) == 5


def test_the_examples_in_the_docstrings_run() -> None:
    result = doctest.testmod(trace_state)
    assert result.attempted > 0
    assert result.failed == 0
