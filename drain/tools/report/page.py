"""The page of a report: one HTML file that needs nothing else, and is allowed to load nothing.

Its policy (CSP) names the hashes of its one style sheet and its one script, so that nothing else on the page would run,
even if a text from a span came through as HTML.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import ringbuf
from drain.tools.report.axes import instant_text
from drain.tools.report.durations import duration_text
from drain.tools.report.filters import Filters
from drain.tools.report.html import count_text, named, percent_text, shown
from drain.tools.report.sections import (
    errors_section,
    groups_section,
    latency_section,
    reading_section,
    rings_section,
    sampling_section,
    time_section,
    traces_section,
)
from ringbuf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from drain.sampling.hold.picture import Picture
    from drain.tools.report.rings import RingCount
    from drain.tools.report.sources import Source
    from drain.tools.report.statistics import Statistics
    from drain.tools.report.times import Window
    from drain.tools.report.traces import Trace

MOST_BYTES: Final = 1_500_000
"""A page is no larger: with more to show it shows less, and says so."""

_SIZES: Final = ((30, 60, 200), (16, 12, 100), (8, 6, 60), (4, 2, 30), (0, 0, 10))
"""Latency cards, traces, and rows of the long tables; the first that fits is taken."""


_FIRST: Final = 3


@dataclass(frozen=True, slots=True)
class Report:
    """All that a page shows.

    Attributes:
        title: for people.
        statistics: the numbers.
        traces: the slowest, the slowest first.
        sources: what was read.
        rings: counters of the rings among them.
        by: the attributes that were asked for operations.
        sampling: what late sampling did in the ring directories among the inputs.
    """

    title: str
    statistics: Statistics
    traces: Sequence[Trace]
    sources: Sequence[Source]
    rings: Sequence[RingCount]
    by: Sequence[str]
    sampling: Sequence[Picture] = ()


def page(report: Report, most_bytes: int = MOST_BYTES) -> bytes:
    """Return the page as UTF-8.

    Args:
        report: what it shows.
        most_bytes: it is no larger, unless the least that it can show is.
    """
    made = b""
    for cards, traces, rows in _SIZES:
        fewer = replace(report, traces=report.traces[:traces])
        made = _page(fewer, cards, rows, len(report.traces)).encode()
        if len(made) <= most_bytes:
            break
    return made


def _page(report: Report, cards: int, rows: int, found_traces: int) -> str:
    style = _file("page.css")
    script = _file("page.js")
    policy = (
        f"default-src 'none'; style-src 'sha256-{_sha256(style)}'; script-src 'sha256-{_sha256(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    statistics = report.statistics
    window = statistics.window()
    filters = Filters(statistics)
    body = "".join(
        (
            _header(report),
            _tiles(report, window),
            filters.bar(),
            time_section(statistics, window),
            groups_section(statistics, filters, rows),
            latency_section(statistics, window, filters, cards),
            errors_section(statistics, filters, rows),
            traces_section(report.traces, statistics, filters, found_traces),
            rings_section(report.rings),
            sampling_section(report.sampling),
            reading_section(report.sources, statistics, window, report.by),
        )
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{shown(report.title)}</title><style>{style}</style></head>\n<body>{body}"
        f"<script>{script}</script></body></html>\n"
    )


def _header(report: Report) -> str:
    return (
        f'<header><h1>{named(report.title)}</h1><p class="note">From '
        f"{_first([source.name for source in report.sources])}; made by ringbuf {ringbuf.__version__}</p>"
        '<nav><a href="#time">Over time</a> <a href="#kinds">Kinds</a> '
        '<a href="#latency">Latency</a> <a href="#errors">Errors</a> <a href="#traces">Traces</a> '
        '<a href="#reading">What was read</a></nav></header>'
    )


def _tiles(report: Report, window: Window) -> str:
    statistics = report.statistics
    traces = statistics.traces.count()
    about = "" if statistics.traces.is_exact else "≈ "
    services = len(statistics.services)
    names = len({group.name for group in statistics.groups})
    tiles = [
        ("Spans", count_text(statistics.spans), f"of {counted(names, 'name')}"),
        ("Traces", about + count_text(traces), "distinct ids"),
        ("Services", count_text(services), _first(statistics.services)),
    ]
    if statistics.first_unix_nano:
        length = statistics.last_unix_nano - statistics.first_unix_nano
        start, note = statistics.first_unix_nano, ""
        if window.outside:
            start, length = window.start_unix_nano, window.length_nanos
            note = f'; <a href="#reading">{count_text(window.outside)} far from it</a>'
        tiles.append(("Time", duration_text(length), f"from {instant_text(start)}{note}"))
    tiles.append(("Errors", percent_text(statistics.errors, statistics.spans), counted(statistics.errors, "span")))
    greatest = max((group.durations.greatest for group in statistics.groups), default=0)
    tiles.append(("Longest span", duration_text(greatest), ""))
    if report.rings:
        dropped = sum(ring.dropped for ring in report.rings)
        attempts = sum(ring.published + ring.dropped for ring in report.rings)
        tiles.append(("Dropped", count_text(dropped), f"{percent_text(dropped, attempts)} of what rings were given"))
    unreadable = sum(source.unreadable for source in report.sources)
    if unreadable:
        tiles.append(("Unreadable", count_text(unreadable), '<a href="#reading">lines or parts of the input</a>'))
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{value}</dd><dd><small>{note}</small></dd></div>" for name, value, note in tiles
    )
    return f'<dl class="tiles">{cells}</dl>'


def _first(names: Iterable[str]) -> str:
    """Return the first names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - _FIRST} more" if len(every) > _FIRST else ""
    return ", ".join(named(name) for name in every[:_FIRST]) + more


def _file(name: str) -> str:
    return files("drain.tools.report").joinpath(name).read_text("utf-8")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
