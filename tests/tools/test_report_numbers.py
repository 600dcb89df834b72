"""What a page says, and what its pictures are drawn of, is what the spans come to by numpy's and Python's own sums."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from drain.tools.report import sections
from drain.tools.report.durations import EDGES
from tests.tools.otlp_lines import START, Made, lines, many_spans
from tests.tools.report_pages import Element, Page, cells_of, report, table

if TYPE_CHECKING:
    from pathlib import Path

SPANS = many_spans(3000)
SECOND = 1_000_000_000
COLUMN = 200_000_000  # the least of 1, 2 and 5 times a power of ten with which 20 s are 120 columns or fewer
HEADERS = ("Span name", "Operation")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    folder = tmp_path_factory.mktemp("report")
    (folder / "spans.jsonl").write_bytes(lines(SPANS))
    page = report(folder, folder / "spans.jsonl", "--by", "op")
    assert page.result.exit_code == 0, page.result.output
    return page


def durations(**of: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(
        [
            span.duration
            for span in SPANS
            if span.name == of["name"] and span.attributes.get("op", "") == of.get("op", span.attributes.get("op", ""))
        ]
    )


def test_the_tiles_are_the_sums(page: Page) -> None:
    first = min(span.start for span in SPANS)
    last = max(span.start + span.duration for span in SPANS)
    failed = sum(span.status == 2 for span in SPANS)
    assert page.tiles() == {
        "Spans": "3,000",
        "Traces": "1,000",
        "Services": "3",
        "Time": f"{(last - first) / SECOND:.1f} s",
        "Errors": f"{100 * failed / 3000:.1f} %",
        "Longest span": f"{max(span.duration for span in SPANS) / 1e6:.0f} ms",
    }


def test_each_kind_has_its_counts_and_percentiles(page: Page) -> None:
    rows = table(page.section("kinds"), "Spans by name")
    kinds = Counter((span.name, span.attributes.get("op", "")) for span in SPANS)
    assert [(row["Span name"], row["Operation"]) for row in rows] == [kind for kind, _ in kinds.most_common()]
    for row in rows:
        name, operation = (row[header] for header in HEADERS)
        values = durations(name=name, op=operation)
        failed = sum(s.status == 2 for s in SPANS if (s.name, s.attributes.get("op", "")) == (name, operation))
        assert (int(row["Spans"]), int(row["Errors"])) == (len(values), failed)
        assert float(row["Max"]) == values.max()
        for percent in (50, 90, 99, 99.9):
            wanted = np.percentile(values, percent, method="inverted_cdf")
            assert float(row[f"p{percent}"]) == pytest.approx(wanted, rel=0.004), (name, operation, percent)
    assert float(rows[0]["p50"]) == pytest.approx(
        statistics.median(durations(name="read", op=rows[0]["Operation"])), rel=0.02
    )


def test_throughput_and_errors_over_time_are_those_of_the_spans(page: Page) -> None:
    rows = table(page.section("time"), "Spans and errors")
    step = next(n for n in range(1, 10) if -(-100 // n) <= 30) * COLUMN
    starts = np.array([(span.start - START) // step for span in SPANS])
    failed = np.array([span.status == 2 for span in SPANS])
    bins = len(rows)
    assert bins == 25
    assert [int(row["Spans"].replace(",", "")) for row in rows] == np.bincount(starts, minlength=bins).tolist()
    assert [int(row["Errors"]) for row in rows] == np.bincount(starts[failed], minlength=bins).tolist()
    assert float(rows[0]["Spans/s"]) == np.bincount(starts)[0] / (step / SECOND)


def test_the_picture_of_throughput_is_drawn_to_its_axis(page: Page) -> None:
    figure = next(page.section("time").all("figure"))
    counts = np.bincount([(span.start - START) // COLUMN for span in SPANS], minlength=100) * SECOND / COLUMN
    top = float([text.text for text in figure.one("svg", **{"class": "ya"}).all("text")][-1])
    assert top >= counts.max() > 0.5 * top
    plot = figure.one("svg", **{"class": "plot"})
    assert plot.attributes["viewbox"] == "0 0 100 1000"
    paths = [path for path in plot.all("path") if "class" in path.attributes]
    # One layer lies on the other: the upper edge of the last one is the total.
    heights = np.concatenate([upper_edge(paths[-1], column) for column in range(100)])
    assert heights == pytest.approx(counts / top * 1000, abs=0.51)
    names = [bdi.text for bdi in figure.one("ul").all("bdi")]
    frequent = Counter(span.name for span in SPANS)
    assert names == [name for name, _ in frequent.most_common()]


def upper_edge(path: Element, column: int) -> list[float]:
    found = re.search(rf"V(\d+)H{column + 1}(?!\d)", path.attributes["d"])
    assert found, f"column {column} is empty"
    return [1000 - float(found[1])]


@pytest.mark.parametrize(("title", "of"), [("read", {"name": "read"}), ("readhit", {"name": "read", "op": "hit"})])
def test_the_distribution_has_each_span_once(page: Page, title: str, of: dict[str, str]) -> None:
    card = page.card(title)
    values = durations(**of)
    histogram, _ = np.histogram(values, [0, *EDGES, np.inf])
    rows = table(card, "Distribution")
    assert [int(row["Spans"]) for row in rows] == histogram[histogram > 0].tolist()
    first = int(np.flatnonzero(histogram)[0])
    label = rows[0]["Duration"].split(" to ")[0]
    assert label == label_of(EDGES[first - 1])
    ladder = card.one("svg", **{"class": "ladder"})
    words = [text.text.split(" ", 1)[0] for text in ladder.all("text")]
    assert words == ["p50", "p90", "p99", "p99.9"]
    # A line stands where the percentile lies between the ends of the axis.
    lines_ = [float(line.attributes["x1"].rstrip("%")) for line in ladder.all("line")]
    plot = next(card.all("svg", **{"class": "plot"}))
    bins = float(plot.attributes["viewbox"].split()[2])
    for percent, at in zip((50, 90, 99, 99.9), lines_, strict=True):
        wanted = np.log10(np.percentile(values, percent, method="inverted_cdf") / EDGES[0]) * 10 + 1
        shown = at / 100 * bins + first_bin(card)
        assert shown == pytest.approx(wanted, abs=0.02)


def first_bin(card: Element) -> int:
    """Return the coarse bin at which a card's axis begins: from the first power of ten on it."""
    labels = list(next(card.all("svg", **{"class": "xa"})).all("text"))
    at = float(labels[0].attributes["x"].rstrip("%")) / 100
    bins = float(next(card.all("svg", **{"class": "plot"})).attributes["viewbox"].split()[2])
    number, unit = labels[0].text.split(" ")
    nanos = float(number) * {"ns": 1, "µs": 1e3, "ms": 1e6, "s": 1e9}[unit]
    return int(np.rint(1 + 10 * np.log10(nanos / EDGES[0]) - at * bins))


def label_of(nanos: float) -> str:
    for size, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1, "ns")):
        if nanos >= size * (1 - 1e-9):
            return f"{nanos / size:#.3g}".rstrip(".") + f" {unit}"
    raise AssertionError(nanos)


def test_the_heat_map_has_each_cell_in_the_colour_of_its_count(page: Page) -> None:
    card = page.card("read")
    picture = list(card.all("svg", **{"class": "plot"}))[1]
    columns, bins = (int(word) for word in picture.attributes["viewbox"].split()[2:])
    assert columns == 100
    spans = [span for span in SPANS if span.name == "read"]
    time = [(span.start - START) // COLUMN for span in spans]
    counts, _, _ = np.histogram2d(
        time, [span.duration for span in spans], bins=[np.arange(101), np.array([0, *EDGES, np.inf])]
    )
    first = first_bin(card)
    counts = counts[:, first : first + bins]
    assert counts.sum() == len(spans), "the axis must have all spans"
    legend = [item.text for item in card.one("ul", **{"class": "heat"}).all("li")][1:]
    seen = np.zeros_like(counts, bool)
    for number, words in enumerate(legend, 1):
        ends = [int(word.replace(",", "")) for word in words.split("\N{EN DASH}")]
        drawn = cells_of(picture.one("path", **{"class": f"h{number}"}).attributes["d"], columns, bins)
        assert np.array_equal(drawn, (counts >= ends[0]) & (counts <= ends[-1])), words
        seen |= drawn
    assert np.array_equal(seen, counts > 0)


def test_outcomes_are_counted_by_kind(page: Page) -> None:
    rows = table(page.section("errors"), "Spans by outcome")
    wanted = Counter(
        (span.name, span.attributes.get("op", ""), span.attributes["grafos.outcome"], span.status == 2)
        for span in SPANS
    )
    found = {
        (row["Span name"], row["Operation"], row["Outcome"], row["Status"] == "✕ error"): int(row["Spans"])
        for row in rows
    }
    assert found == wanted
    failures = page.section("errors").one("ul", **{"class": "failures"})
    assert len(list(failures.all("li"))) == sum(is_error for *_, is_error in wanted)


def test_without_an_operation_there_is_no_column_for_it(tmp_path: Path) -> None:
    (tmp_path / "spans.jsonl").write_bytes(lines([Made(), Made(name="write", span=2)]))
    page = report(tmp_path, tmp_path / "spans.jsonl")
    assert [row["Span name"] for row in table(page.section("kinds"), "Spans by name")] == ["read", "write"]
    assert "Operation" not in [head.text for head in page.section("kinds").all("th")]
    assert "No span has the status ERROR." in page.section("errors").text
    assert len(list(page.section("latency").all("article"))) == 2


def test_the_outcome_is_the_status_where_there_is_no_attribute(tmp_path: Path) -> None:
    spans = [Made(status=status, span=status + 1) for status in (0, 1, 2)]
    (tmp_path / "spans.jsonl").write_bytes(lines(spans))
    page = report(tmp_path, tmp_path / "spans.jsonl")
    assert sorted(row["Outcome"] for row in table(page.section("errors"), "Spans by outcome")) == [
        "error",
        "ok",
        "unset",
    ]


def test_an_attribute_that_was_named_is_the_outcome(tmp_path: Path) -> None:
    spans = [Made(attributes={"code": str(number % 2)}, span=number + 1) for number in range(5)]
    (tmp_path / "spans.jsonl").write_bytes(lines(spans))
    page = report(tmp_path, tmp_path / "spans.jsonl", "--outcome", "code")
    rows = table(page.section("errors"), "Spans by outcome")
    assert [(row["Outcome"], row["Spans"]) for row in rows] == [("0", "3"), ("1", "2")]


def test_a_count_of_one_is_of_one(tmp_path: Path) -> None:
    (tmp_path / "spans.jsonl").write_bytes(lines([Made(status=2)]))
    page = report(tmp_path, tmp_path / "spans.jsonl")
    assert "1 span" in page.root.text
    assert re.findall(r"\b1 (?:more |other )?[a-z]+s\b", page.html) == []


def test_what_is_left_out_is_counted_in_words_that_fit() -> None:
    assert [re.sub("<[^>]*>", "", sections._more(there, 3, "kind")) for there in (3, 4, 5)] == [
        "",
        "1 more kind is left out.",
        "2 more kinds are left out.",
    ]
