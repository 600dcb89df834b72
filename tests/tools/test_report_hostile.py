"""Whatever spans say, a page shows it, and nothing of it does anything, loads anything, or makes the page too large."""

from __future__ import annotations

import hashlib
import html
import itertools
import re
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest

from drain.tools.report.page import MOST_BYTES
from tests.sampled import every
from tests.tools.otlp_lines import START, Made, line, lines
from tests.tools.report_pages import Page, report, table

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = [
    "<script>document.title='pwned'</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><style>*{display:none}</style>",
    "--></script><!--",
    "&lt;b&gt; & <b>",
    "{{7*7}}${7*7}",
]


def page_with(tmp_path: Path, text: str) -> Page:
    """Return a page in which a text stands wherever a span's text can."""
    span = Made(text, service=text, status=2, attributes={"op": text, "error.type": text})
    (tmp_path / "spans.jsonl").write_bytes(lines([span, span, Made(span=2, parent=1)]))
    return report(tmp_path, tmp_path / "spans.jsonl", "--by", "op", "--title", text)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_shown_as_it_is_and_makes_no_element(tmp_path: Path, text: str) -> None:
    page = page_with(tmp_path, text)
    assert text in page.root.one("h1").text
    assert text in [bdi.text for bdi in page.section("kinds").all("bdi")]
    assert text in [bdi.text for bdi in page.section("traces").all("bdi")]
    assert text in [option.text for option in page.root.all("option")]
    harmless = page_with(tmp_path, "plain")
    assert tags(page) == tags(harmless)


def tags(page: Page) -> list[tuple[str, tuple[str, ...]]]:
    """Return every element with the names of its attributes."""
    return [(element.tag, tuple(sorted(element.attributes))) for element in walk(page.root)]


def walk(element: Any) -> Any:
    for child in element.children:
        if not isinstance(child, str):
            yield child
            yield from walk(child)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x00b\x1b[31m\n\t\x7f", "a␀b␛[31m␊␉[U+007F]"),
        ("admin\u202egnp.exe", "admin[U+202E]gnp.exe"),
        ("zero\u200bwidth\ufeff", "zero[U+200B]width[U+FEFF]"),
        ("line\u2028sep\x85", "line[U+2028]sep[U+0085]"),
        ("half \ud800 pair", "half \N{REPLACEMENT CHARACTER} pair"),
        ("\uffff", "[U+FFFF]"),
        ("שלום עולם", "שלום עולם"),
        ("", "(no name)"),
        ("x" * 500, "x" * 119 + "…"),
    ],
)
def test_characters_that_would_not_be_seen_are_shown(tmp_path: Path, text: str, shown: str) -> None:
    (tmp_path / "spans.jsonl").write_bytes(lines([Made(text)]))
    page = report(tmp_path, tmp_path / "spans.jsonl")
    (row,) = table(page.section("kinds"), "Spans by name")
    assert row["Span name"] == shown


def test_text_of_spans_stands_alone_in_its_direction(tmp_path: Path) -> None:
    text = "אבג"
    page = page_with(tmp_path, text)
    isolated = sum(element.tag in {"bdi", "option", "title"} and element.text == text for element in walk(page.root))
    assert page.html.count(text) == isolated > 8


def test_a_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = page_with(tmp_path, "https://example.com/?a=b")
    elements = list(walk(page.root))
    assert not {element.tag for element in elements} & {
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "base",
        "image",
        "use",
    }
    links = [
        element.attributes[name]
        for element in elements
        for name in ("href", "src", "action")
        if name in element.attributes
    ]
    assert links
    assert all(link.startswith("#") for link in links)
    targets = {element.attributes.get("id") for element in elements}
    assert {link[1:] for link in links} <= targets
    assert not re.search(r"url\(|@import|https?://(?!example\.com)", page.html)


def test_only_its_own_style_and_script_are_allowed(tmp_path: Path) -> None:
    page = page_with(tmp_path, "x")
    policy = next(meta for meta in page.root.all("meta") if "http-equiv" in meta.attributes).attributes["content"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (element,) = page.root.all(tag)
        digest = b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    # Neither hash allows attributes.
    assert not [
        name for element in walk(page.root) for name in element.attributes if name == "style" or name[:2] == "on"
    ]


@pytest.mark.parametrize(
    "document",
    [
        b'{"resourceSpans":{}}',
        b'{"resourceSpans":[1]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":["x"]}]}]}',
        b"[]",
        b'"text"',
        b"nonsense",
        b'{"a":' + b"[" * 100_000,
        b'{"resourceSpans":[{"scopeSpans":"x"}]}',
        b'{"a":"\xff"}',
        b'{"a":' + b"1" * 5000 + b"}",
    ],
)
def test_a_line_that_is_none_is_counted_with_its_number(tmp_path: Path, document: bytes) -> None:
    (tmp_path / "spans.jsonl").write_bytes(line([Made()]) + document + b"\n" + line([Made(span=2)]))
    page = report(tmp_path, tmp_path / "spans.jsonl")
    assert page.result.exit_code == 1
    assert (page.tiles()["Spans"], page.tiles()["Unreadable"]) == ("2", "1")
    assert "line 2: " in page.section("reading").text
    assert "line 2: " in page.result.stderr


@pytest.mark.parametrize("value", ["", "x", "-5", "1e3", str(1 << 63), "9" * 5000, "١٢٣", None, 1.5, [], {}, True])
def test_a_time_that_is_none_leaves_a_span_in_the_counts(tmp_path: Path, value: Any) -> None:
    made = Made(span=2)
    original = made.json
    made.json = lambda: original() | {"startTimeUnixNano": value}  # type: ignore[method-assign]  # that is the point
    (tmp_path / "spans.jsonl").write_bytes(lines([Made(), made]))
    page = report(tmp_path, tmp_path / "spans.jsonl")
    assert page.result.exit_code == 0
    assert page.tiles()["Spans"] == "2"
    assert "1 span without a start" in page.section("reading").text
    assert sum(int(row["Spans"]) for row in table(page.card("read"), "Distribution")) == 1


def test_times_may_be_numbers(tmp_path: Path) -> None:
    made = line([Made(start=1234567890123456789, duration=77)])
    (tmp_path / "spans.jsonl").write_bytes(re.sub(rb'"(\d{19})"', rb"\1", made))
    page = report(tmp_path, tmp_path / "spans.jsonl")
    assert page.tiles()["Longest span"] == "77 ns"


FIELDS = ["traceId", "spanId", "name", "attributes", "status", "parentSpanId", "endTimeUnixNano", "kind"]
VALUES: list[Any] = [None, 5, [], {}, [{}], {"code": "x"}, [{"key": 5}], [{"key": "op", "value": 5}]]


@pytest.mark.parametrize(("field", "value"), every(3, itertools.product(FIELDS, VALUES), str))
def test_any_field_may_be_of_any_type(tmp_path: Path, field: str, value: Any) -> None:
    made = Made()
    original = made.json()
    made.json = lambda: original | {field: value}  # type: ignore[method-assign]  # that is the point
    (tmp_path / "spans.jsonl").write_bytes(line([made, Made(span=2)]))
    page = report(tmp_path, tmp_path / "spans.jsonl", "--by", "op")
    assert page.tiles()["Spans"] == "2"


def test_a_wrong_clock_does_not_hide_the_others(tmp_path: Path) -> None:
    spans = [Made(start=START + number * 10**7, span=number + 1, trace=number + 1) for number in range(4000)]
    strays = [Made(start=1, span=5000), Made(start=(1 << 63) - 1, duration=0, span=5001)]
    (tmp_path / "spans.jsonl").write_bytes(lines([strays[0], *spans, strays[1]]))
    page = report(tmp_path, tmp_path / "spans.jsonl")
    rows = table(page.section("time"), "Spans and errors")
    assert len(rows) > 15
    assert sum(int(row["Spans"]) for row in rows) == 4000
    assert page.tiles()["Time"] == "40.0 s"
    assert "2 spans started long before 2023-11-14 22:13:20.000 UTC" in page.section("reading").text


@pytest.mark.prove
def test_the_size_of_a_page_is_bounded(tmp_path: Path) -> None:
    awful = "\"'<>&" * 40
    spans = [
        Made(
            f"{number % 90}{awful}",
            START + number * 10**6,
            10 ** (1 + number % 9) + number,
            f"{number % 80}{awful}",
            trace=1 + number % 25,
            span=number + 1,
            parent=number // 2,
            status=2,
            attributes={"op": f"{number % 7}{awful}", "error.type": f"{number % 31}{awful}"},
        )
        for number in range(20_000)
    ]
    (tmp_path / "spans.jsonl").write_bytes(lines(spans, 1000))
    page = report(tmp_path, tmp_path / "spans.jsonl", "--by", "op", "--traces", 50)
    assert 100_000 < len(page.html.encode()) <= MOST_BYTES
    assert page.tiles()["Spans"] == "20,000"
    assert "are left out" in html.unescape(page.section("latency").text)


def test_kinds_and_services_without_end_are_counted_together(tmp_path: Path) -> None:
    spans = [
        Made(f"name {number}", service=f"service {number}", span=number + 1, attributes={"error.type": f"e{number}"})
        for number in range(1000)
    ]
    spans += [Made("name 0", span=2000 + number, attributes={"error.type": f"f{number}"}) for number in range(200)]
    (tmp_path / "spans.jsonl").write_bytes(lines(spans))
    page = report(tmp_path, tmp_path / "spans.jsonl")
    assert page.tiles()["Spans"] == "1,200"
    assert page.tiles()["Services"] == "101"
    rows = table(page.section("kinds"), "Spans by name")
    assert {row["Span name"]: row["Spans"] for row in rows[:2]} == {"(others)": "900", "name 0": "201"}
