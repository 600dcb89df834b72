"""The slowest traces are the slowest, and their waterfalls say who called whom, when, and for how long."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from drain.tools.report.traces import MOST_ROWS
from tests.tools.otlp_lines import START, Made, line, lines
from tests.tools.report_pages import Element, Page, report

if TYPE_CHECKING:
    from pathlib import Path

MICRO = 1000


def page_of(tmp_path: Path, spans: list[Made], *arguments: object, size: int = 100) -> Page:
    (tmp_path / "spans.jsonl").write_bytes(lines(spans, size))
    return report(tmp_path, tmp_path / "spans.jsonl", *arguments)


def traces_of(page: Page) -> dict[str, Element]:
    """Return the traces by their ids, in order."""
    return {trace.one("code").text: trace for trace in page.section("traces").all("details", **{"class": "trace"})}


def rows_of(trace: Element) -> list[tuple[str, str, str, str]]:
    """Return name, service, offset and duration of each row."""
    return [
        (row.one("bdi").text, *(cell.text for cell in list(row.all("td"))[1:4]))  # type: ignore[misc]  # three of them
        for row in trace.one("tbody").all("tr")
    ]


def depths_of(trace: Element) -> list[int]:
    return [int(row.one("td").attributes["class"][1:]) for row in trace.one("tbody").all("tr")]


def bars_of(trace: Element) -> list[tuple[float, float]]:
    """Return where the bars begin and how long they are, in percent."""
    return [
        tuple(float(row.one("rect").attributes[name].rstrip("%")) for name in ("x", "width"))  # type: ignore[misc]  # two of them
        for row in trace.one("tbody").all("tr")
    ]


CHECKOUT = [
    Made("commit", START + 50 * MICRO, 30 * MICRO, "disk", 7, 4, 3),
    Made("lookup", START + 2 * MICRO, 5 * MICRO, "front", 7, 2, 1),
    Made("checkout", START, 100 * MICRO, "front", 7, 1),
    Made("store", START + 20 * MICRO, 75 * MICRO, "store", 7, 3, 1, status=2, attributes={"error.type": "Conflict"}),
]


def test_parents_come_before_their_children_and_children_by_their_start(tmp_path: Path) -> None:
    # A line each: the parts of a trace come from processes that know nothing of each other.
    trace = traces_of(page_of(tmp_path, CHECKOUT, size=1))[f"{7:032x}"]
    assert rows_of(trace) == [
        ("checkout", "front", "+0 ns", "100 µs"),
        ("lookup", "front", "+2.00 µs", "5.00 µs"),
        ("store", "store", "+20.0 µs", "75.0 µs"),
        ("commit", "disk", "+50.0 µs", "30.0 µs"),
    ]
    assert depths_of(trace) == [0, 1, 1, 2]
    assert bars_of(trace) == [(0.0, 100.0), (2.0, 5.0), (20.0, 75.0), (50.0, 30.0)]
    assert [item.text for item in trace.one("ul").all("li")] == ["front", "store", "disk"]
    assert "✕ Conflict" in list(trace.one("tbody").all("tr"))[2].text
    colours = [row.one("rect").attributes["class"] for row in trace.one("tbody").all("tr")]
    assert colours[0] == colours[1] != colours[2] != colours[3] != colours[0]


def test_the_slowest_are_shown_and_the_slowest_of_each_name(tmp_path: Path) -> None:
    random_ = random.Random(6)  # noqa: S311 - the same spans every time
    spans = [
        Made(random_.choice("abc"), START + number, random_.randrange(1, 10**9), trace=1 + number // 4, span=number + 1)
        for number in range(4000)
    ]
    spans += [Made("rare", START, 500, trace=5000, span=5000), Made("rare", START, 400, trace=5001, span=5001)]
    longest: dict[int, int] = {}
    for span in spans:
        longest[span.trace] = max(longest.get(span.trace, 0), span.duration)
    wanted = sorted(longest, key=lambda trace: -longest[trace])[:10]
    by_name = [max((s for s in spans if s.name == name), key=lambda s: s.duration).trace for name in ("a", "b", "c")]
    assert set(by_name) <= set(wanted)
    page = page_of(tmp_path, spans)
    assert list(traces_of(page)) == [f"{trace:032x}" for trace in [*wanted, 5000]]
    assert [trace.one("b").text for trace in traces_of(page).values()][-1] == "500 ns"
    assert len(traces_of(page_of(tmp_path, spans, "--traces", 3))) == len({*wanted[:3], *by_name, 5000})
    assert not traces_of(page_of(tmp_path, spans, "--traces", 0))


def test_a_trace_with_many_spans_of_its_own_does_not_displace_others(tmp_path: Path) -> None:
    spans = [Made("a", START, 10_000 - number, trace=1, span=number + 1) for number in range(500)]
    spans += [Made("a", START, 100 + number, trace=2 + number, span=1000 + number) for number in range(5)]
    page = page_of(tmp_path, spans, "--traces", 3, size=1000)
    assert list(traces_of(page)) == [f"{trace:032x}" for trace in (1, 6, 5)]


def test_a_trace_keeps_its_longest_span_when_a_shorter_one_comes_later(tmp_path: Path) -> None:
    # Ten names take what is kept by name.
    spans = [Made(f"name {number}", START, 1, trace=100 + number, span=100 + number) for number in range(10)]
    for number, (trace, duration) in enumerate([(1, 1000), (2, 500), (1, 600), (3, 700), (4, 650)]):
        spans.append(Made("late", START, duration, trace=trace, span=200 + number))
    page = page_of(tmp_path, spans, "--traces", 2, size=1)
    assert list(traces_of(page))[:2] == [f"{trace:032x}" for trace in (1, 3)]
    assert len(traces_of(page)) == 12


def test_what_was_delivered_twice_is_shown_once(tmp_path: Path) -> None:
    trace = traces_of(page_of(tmp_path, [*CHECKOUT, *CHECKOUT]))[f"{7:032x}"]
    assert [name for name, *_ in rows_of(trace)] == ["checkout", "lookup", "store", "commit"]
    assert trace.one("summary").text.endswith("4 spans, 3 services")


def test_a_child_whose_parent_is_not_there_says_so(tmp_path: Path) -> None:
    trace = traces_of(page_of(tmp_path, CHECKOUT[:2]))[f"{7:032x}"]
    assert depths_of(trace) == [0, 0]
    assert all("its parent is not in the input" in row.text for row in trace.one("tbody").all("tr"))
    whole = traces_of(page_of(tmp_path, CHECKOUT))[f"{7:032x}"]
    assert "not in the input" not in whole.text


def test_parents_that_go_round_in_a_circle_are_all_shown_once(tmp_path: Path) -> None:
    spans = [Made("a", START, 9, span=1, parent=3), Made("b", START + 1, 8, span=2, parent=1)]
    spans += [Made("c", START + 2, 7, span=3, parent=2), Made("self", START + 3, 6, span=4, parent=4)]
    (trace,) = traces_of(page_of(tmp_path, spans)).values()
    assert [name for name, *_ in rows_of(trace)] == ["self", "a", "b", "c"]
    assert depths_of(trace) == [0, 0, 1, 2]


def test_parents_that_go_round_out_of_sight_end_the_search_for_one_that_is_shown(tmp_path: Path) -> None:
    spans = [Made("short", START, 2, span=1, parent=2), Made("short", START, 1, span=2, parent=1)]
    spans += [Made(f"leaf {number}", START, 1000, span=10 + number, parent=1) for number in range(MOST_ROWS)]
    (trace,) = traces_of(page_of(tmp_path, spans)).values()
    assert depths_of(trace) == [0] * MOST_ROWS


def test_of_a_large_trace_the_longest_spans_are_shown_below_the_nearest_parent_that_is(tmp_path: Path) -> None:
    spans = [Made("root", START, 10**9, span=1), Made("short", START + 1, 5, span=2, parent=1)]
    spans += [
        Made(f"leaf {number}", START + number, 10**6 + number, span=10 + number, parent=2) for number in range(3000)
    ]
    (trace,) = traces_of(page_of(tmp_path, spans)).values()
    names = [name for name, *_ in rows_of(trace)]
    assert names == ["root", *(f"leaf {number}" for number in range(3001 - MOST_ROWS, 3000))]
    assert depths_of(trace) == [0] + [1] * (MOST_ROWS - 1)
    assert f"{3002 - MOST_ROWS:,} more" in trace.text
    assert "not in the input" not in trace.text


def test_a_large_trace_that_was_delivered_twice_has_each_span_once(tmp_path: Path) -> None:
    spans = [Made("first", START, 1, span=1)]  # the shortest: it is not among those that are kept
    spans += [Made("leaf", START + 100 + number, 10**6 + number, span=10 + number) for number in range(3000)]
    (trace,) = traces_of(page_of(tmp_path, [*spans, *spans])).values()
    assert "3,001 spans" in trace.one("summary").text
    assert rows_of(trace)[0][2] == f"+{(100 + 3000 - MOST_ROWS) / 1000:.2f} µs", "offsets are from the first span"


def test_a_span_that_ends_before_it_starts_is_marked(tmp_path: Path) -> None:
    spans = [Made("root", START, 1000, span=1), Made("odd", START + 100, -50, span=2, parent=1)]
    page = page_of(tmp_path, spans)
    (trace,) = traces_of(page).values()
    assert rows_of(trace)[1] == ("odd", "shop", "+100 ns", "-50 ns")
    assert "it ends before it starts" in trace.text
    assert "1 span without an end, or with one before the start" in page.section("reading").text


@pytest.mark.parametrize("trace_id", ["", "0" * 32, "12", "g" * 32, " " + "1" * 31])
def test_spans_without_a_sound_trace_id_are_in_no_trace_and_counted(tmp_path: Path, trace_id: str) -> None:
    made = line([Made(trace=5)]).replace(f"{5:032x}".encode(), trace_id.encode())
    (tmp_path / "spans.jsonl").write_bytes(made + line([Made(trace=6)]))
    page = report(tmp_path, tmp_path / "spans.jsonl")
    assert list(traces_of(page)) == [f"{6:032x}"]
    assert page.tiles()["Traces"] == "1"
    assert "1 span without a trace id" in page.section("reading").text


def test_ids_in_capitals_are_the_same_ids(tmp_path: Path) -> None:
    small, capital = Made(trace=0xABCDEF, span=0xA), Made("child", trace=0xABCDEF, span=0xB, parent=0xA)
    made = line([capital]).replace(b"abcdef", b"ABCDEF").replace(b"000a", b"000A")
    (tmp_path / "spans.jsonl").write_bytes(line([small]) + made)
    page = report(tmp_path, tmp_path / "spans.jsonl")
    (trace,) = traces_of(page).values()
    assert depths_of(trace) == [0, 1]
