from __future__ import annotations

import doctest
import json
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

import drain.tools.looking.nearest
import drain.tools.looking.span_text
import drain.tools.looking.table
from drain.tools.looking.observed_ring import ObservedRing
from drain.tools.looking.span_text import age, clock, duration, json_object, json_value, line, moment, printable
from drain.tools.looking.table import Column, fitting, percent, plain_table
from drain.tools.tail import coloured_line
from tests.consumer import rings_in

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    import ringbuf


@pytest.mark.parametrize(
    "module", [drain.tools.looking.nearest, drain.tools.looking.span_text, drain.tools.looking.table]
)
def test_the_examples_in_the_docstrings(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "0ns"),
        (999, "999ns"),
        (1000, "1.00µs"),
        (999_499, "999µs"),
        (999_999, "1.00ms"),
        (9_999, "10.0µs"),
        (10**9, "1.00s"),
        (-1, "-1ns"),
        (10**12, "1000s"),
    ],
)
def test_a_duration_has_three_digits(nano: int, text: str) -> None:
    assert duration(nano) == text


def test_an_age_before_its_beginning_is_none() -> None:
    assert (age(-5), age(59 * 10**9), age(60 * 10**9), age(86_400 * 10**9)) == ("0s", "59s", "1m", "1d")


@pytest.mark.parametrize("zone", ["America/St_Johns", "UTC"])
def test_times_are_utc_and_say_so_whatever_the_zone_is_here(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert clock(1_700_000_000_123_456_789) == "22:13:20.123456Z"
        assert moment(1_700_000_000_123_456_789) == "2023-11-14T22:13:20.123456Z"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_time_that_no_calendar_has_is_no_error() -> None:
    assert clock(2**64 - 1).count(":") == 2


def test_a_ring_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in printable("a\x1b[2Jb\r\n\x9b")
    assert len(printable("x" * 10_000, 50)) == 50


def test_a_span_as_a_line(shop: ringbuf.Emitter, ring_dir: Path) -> None:
    with ObservedRing(rings_in(ring_dir)[0]) as ring:
        records = ring.peek(0).records
        words = line(ring, records[11]).split()
        assert words[1] == "5.00ms"
        assert words[2] == f"shop[{ring.header.pid}]"
        assert words[3:5] == ["grafos.dataplane.fbbu", "ERROR"]
        assert {"grafos.outcome=timeout", "grafos.operation=fbbu_write", "grafos.bytes=512"} <= set(words)
        assert words[0].endswith("Z")
        assert words[-1] == f"trace={records[11]['trace_id'].tobytes().hex()[:8]}"
        assert coloured_line(ring, records[11]).startswith("\x1b[31m")
        assert coloured_line(ring, records[0]) == line(ring, records[0])


def test_a_span_as_json(shop: ringbuf.Emitter, ring_dir: Path) -> None:
    with ObservedRing(rings_in(ring_dir)[0]) as ring:
        record = ring.peek(0).records[0]
        found = json.loads(json.dumps(json_object(ring, record)))
        assert found["duration_nano"] == 1000
        assert found["attributes"]["grafos.lease.id"] == f"{1:032x}"
        assert (found["kind"], found["status"], found["parent_span_id"]) == ("internal", "unset", None)
        record["name"], record["kind"], record["status"], record["grafos.outcome"] = 99, 99, 99, 99
        found = json_object(ring, record)
        assert {found[key] for key in ("name", "kind", "status")} == {"(invalid)"}
        assert found["attributes"] is None
        assert "(invalid)" in line(ring, record)


def test_values_that_json_does_not_have() -> None:
    values = [b"\x00\xff", float("nan"), float("-inf"), [1.5, float("inf")], {"a": b"b"}]
    assert json_value(values) == ["AP8=", "NaN", "-Infinity", [1.5, "Infinity"], {"a": "Yg=="}]


COLUMNS = (Column("name", is_text=True), Column("count"), Column("note", rank=2, is_text=True), Column("rate", rank=1))
ROWS = [["a-rather-long-name", "1,234", "some words here", "12"], ["b", "5", "", "3"]]


@pytest.mark.parametrize(
    ("width", "widths"),
    [
        (100, {0: 18, 1: 5, 2: 15, 3: 4}),
        (40, {0: 12, 1: 5, 2: 13, 3: 4}),
        (30, {0: 17, 1: 5, 3: 4}),
        (20, {0: 13, 1: 5}),
        (5, {0: 10, 1: 5}),
    ],
)
def test_columns_go_by_their_rank_and_texts_are_cut(width: int, widths: dict[int, int]) -> None:
    found = fitting(COLUMNS, ROWS, width)
    assert found == widths
    assert width == 5 or sum(found.values()) + 2 * (len(found) - 1) <= width


def test_a_plain_table_has_all_of_it() -> None:
    lines = plain_table(COLUMNS, ROWS).splitlines()
    assert lines[0].split() == ["name", "count", "note", "rate"]
    assert lines[1] == "a-rather-long-name  1,234  some words here    12"
    assert plain_table(COLUMNS, []).splitlines() == ["name  count  note  rate"]


def test_a_share_is_never_shown_as_nothing() -> None:
    assert [percent(share) for share in (0.0, 1e-9, 0.999, 1.0)] == ["0%", "<1%", "99%", "100%"]
    assert np.isclose(float(percent(0.42).rstrip("%")), 42)
