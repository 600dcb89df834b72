"""The sections of a page, each a heading and what stands below it."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING, Final

import numpy as np

from drain.tools.report.axes import instant_text, time_axis_words
from drain.tools.report.durations import (
    BINS_PER_DECADE,
    COARSE_BINS,
    PERCENTILES,
    Durations,
    duration_text,
    edge_text,
    trimmed,
)
from drain.tools.report.html import align, count_text, named, percent_text, shown
from drain.tools.report.latency import Axis, distribution, heat_map, latency_table
from drain.tools.report.over_time import MOST_LAYERS, Layer, errors, over_time_table, throughput
from drain.tools.report.waterfall import waterfall
from ringbuf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drain.sampling.hold.picture import Picture
    from drain.tools.report.filters import Filters
    from drain.tools.report.rings import RingCount
    from drain.tools.report.sources import Source
    from drain.tools.report.statistics import Group, Statistics
    from drain.tools.report.times import Window
    from drain.tools.report.traces import Trace

_OPEN_TRACES: Final = 3


def time_section(statistics: Statistics, window: Window) -> str:
    """Return throughput and errors over time."""
    families = _families(statistics)
    layers = [Layer(name, statistics.series(groups, window)) for name, groups in families[:MOST_LAYERS]]
    rest = [group for _, groups in families[MOST_LAYERS:] for group in groups]
    if rest:
        layers.append(Layer(counted(len(families) - MOST_LAYERS, "other name"), statistics.series(rest, window)))
    total = statistics.series(statistics.groups, window)
    return _section(
        "time",
        "Over time",
        f'<div class="card">{throughput(layers, window)}{errors(total, window)}{over_time_table(total, window)}</div>',
    )


def groups_section(statistics: Statistics, filters: Filters, most: int) -> str:
    """Return the table by span name and operation, the most frequent first.

    Args:
        statistics: the numbers.
        filters: of the page.
        most: rows at most.
    """
    # A column that is empty in all rows would only push the numbers off a phone.
    words = ("Span name", "Operation") if any(group.operation for group in statistics.groups) else ("Span name",)
    head = (*words, "Spans", "Share", "Errors", *(f"p{percent:g}" for percent in PERCENTILES), "Max")
    groups = sorted(statistics.groups, key=lambda group: (-group.spans, group.name, group.operation))
    rows = "".join(
        f'<tr class="f" {filters.of_groups([group])}><td>{named(group.name)}</td>'
        + (f"<td>{named(group.operation)}</td>" if len(words) > 1 else "")
        + _numbers(
            (group.spans, count_text(group.spans)),
            (group.spans, percent_text(group.spans, statistics.spans)),
            (group.errors, count_text(group.errors)),
            *(_duration(group.durations, group.durations.percentile(percent)) for percent in PERCENTILES),
            _duration(group.durations, group.durations.greatest),
        )
        + "</tr>"
        for group in groups[:most]
    )
    return _section(
        "kinds",
        "By span name and operation",
        _sortable("Spans by name and operation", head, len(words), rows) + _more(len(groups), most, "kind"),
    )


def latency_section(statistics: Statistics, window: Window, filters: Filters, most: int) -> str:
    """Return distribution and heat map of each span name, and of its operations if it has several.

    Args:
        statistics: the numbers.
        window: of the pictures.
        filters: of the page.
        most: cards at most; names come before operations.
    """
    words = (
        f'<p class="note">Durations are on logarithmic scales, {BINS_PER_DECADE} steps per decade. Columns are of '
        f"{edge_text(window.width_nanos)}; {time_axis_words(window)}.</p>"
    )
    families = [family for family in _families(statistics) if any(group.durations.count for group in family[1])]
    operations = sum(len(groups) for _, groups in families if len(groups) > 1)
    left = most - len(families)
    parts = []
    for name, groups in families[: max(most, 0)]:
        axis = _axis(groups)
        parts.append(_card(statistics, named(name), groups, window, axis, filters))
        if len(groups) > 1:
            slowest = sorted(groups, key=lambda group: -group.spans)
            shown_groups = [group for group in slowest if group.durations.count][: max(left, 0)]
            left -= len(shown_groups)
            parts += [
                _card(statistics, _title(group), [group], window, axis, filters, part=True) for group in shown_groups
            ]
    if not families:
        words = '<p class="empty">No span has a start and an end.</p>'
    return _section("latency", "Latency", words + "".join(parts) + _more(len(families) + operations, most, "picture"))


def errors_section(statistics: Statistics, filters: Filters, most: int) -> str:
    """Return what went wrong, and all outcomes.

    Args:
        statistics: the numbers.
        filters: of the page.
        most: rows at most.
    """
    found = [
        (count, outcome, is_error, group)
        for group in statistics.groups
        for (outcome, is_error), count in group.outcomes.items()
    ]
    found.sort(key=lambda entry: (not entry[2], -entry[0], entry[1], entry[3].index))
    greatest = max((count for count, _, is_error, _ in found if is_error), default=0)
    failures = "".join(
        f'<li class="f" {filters.of_groups([group], count)}><span>{_title(group)} '
        f'<b class="error">{named(outcome)}</b></span>'
        f"<span>{count_text(count)} <small>{percent_text(count, group.spans)} of its spans</small></span>"
        f'<svg aria-hidden="true"><rect class="bad" width="{max(100 * count / greatest, 0.3):.3f}%" height="8"/></svg>'
        "</li>"
        for count, outcome, is_error, group in found[:most]
        if is_error
    )
    rows = "".join(
        f'<tr class="f" {filters.of_groups([group], count if is_error else 0)}><td>{named(group.name)}</td>'
        f"<td>{named(group.operation)}</td><td>{named(outcome)}</td><td>{'✕ error' if is_error else 'no error'}</td>"
        + _numbers((count, count_text(count)), (count / group.spans, percent_text(count, group.spans)))
        + "</tr>"
        for count, outcome, is_error, group in found[:most]
    )
    head = ("Span name", "Operation", "Outcome", "Status", "Spans", "Share")
    content = (
        f'<ul class="failures">{failures}</ul>' if failures else '<p class="empty">No span has the status ERROR.</p>'
    )
    outcomes = f"<details><summary>All outcomes</summary>{_sortable('Spans by outcome', head, 4, rows)}</details>"
    return _section(
        "errors",
        "Errors by outcome",
        f'<div class="card">{content}{outcomes}{_more(len(found), most, "outcome")}</div>',
    )


def traces_section(traces: Sequence[Trace], statistics: Statistics, filters: Filters, found: int) -> str:
    """Return the slowest traces as waterfalls.

    Args:
        traces: those to show.
        statistics: the numbers.
        filters: of the page.
        found: how many there would be to show.
    """
    by_spans = sorted(statistics.services, key=lambda name: -statistics.services[name])
    in_traces = {service for trace in traces for service in trace.services}
    colours = {name: number for number, name in enumerate(name for name in by_spans if name in in_traces)}
    content = "".join(
        waterfall(trace, colours, is_open=number < _OPEN_TRACES, data=filters.of_trace(trace))
        for number, trace in enumerate(traces)
    )
    words = '<p class="note">By their longest span: the slowest of all, and the slowest with each span name.</p>'
    if not traces:
        words = '<p class="empty">No trace to show: none was asked for, or no span has a trace id and a duration.</p>'
    return _section("traces", "Slowest traces", words + content + _more(found, len(traces), "trace"))


def rings_section(rings: Sequence[RingCount]) -> str:
    """Return what rings count; nothing if none was read."""
    if not rings:
        return ""
    head = ("Service", "Ring", "Published", "Pending", "Delivered or spooled", "Dropped", "Unsampled", "Missed")
    rows = "".join(
        f"<tr><td>{named(ring.service)}</td><td>{named(ring.name)}</td>"
        + _numbers(
            *(
                (count, count_text(count))
                for count in (ring.published, ring.pending, ring.taken, ring.dropped, ring.unsampled, ring.missed)
            )
        )
        + "</tr>"
        for ring in rings
    )
    words = (
        '<p class="note">The spans of a ring that this page shows are those that were pending; dropped are those that '
        "found no room (full, contended); missed are those that the drain took while they were read.</p>"
    )
    return _section("rings", "Rings", words + _sortable("Counters of the rings", head, 2, rows))


def sampling_section(pictures: Sequence[Picture]) -> str:
    """Return what late sampling did in ring directories; nothing where none was read that has it."""
    if not pictures:
        return ""
    of_rules = ("Rule", "Traces", "Kept", "Spans", "Kept", "Sampled out", "Keeps now")
    rules = "".join(
        f"<tr><td>{named(name)}</td>"
        + _numbers(
            (rule.traces, count_text(rule.traces)),
            (rule.kept_traces, count_text(rule.kept_traces)),
            (rule.kept_spans + rule.sampled_out_spans, count_text(rule.kept_spans + rule.sampled_out_spans)),
            (rule.kept_spans, count_text(rule.kept_spans)),
            (rule.sampled_out_spans, count_text(rule.sampled_out_spans)),
            (rule.kept_ratio, f"{rule.kept_ratio:.4%}"),
        )
        + "</tr>"
        for picture in pictures
        for name, rule in picture.rules.items()
    )
    of_services = ("Service", "Waiting", "Kept", "Sampled out", "Lost")
    services = "".join(
        f"<tr><td>{named(name)}</td>"
        + _numbers(*((count, count_text(count)) for count in (one.waiting, one.kept, one.sampled_out, one.lost)))
        + "</tr>"
        for picture in pictures
        for name, one in picture.services.items()
    )
    dry = (
        " In a dry run all is delivered, and rules only say what they would have kept."
        if any(picture.dry_run for picture in pictures)
        else ""
    )
    words = (
        '<p class="note">Counted by the drain since it began, as it last said; spans that are sampled out are in no '
        f"other section.{dry}</p>"
    )
    tables = _sortable("Decisions by rule", of_rules, 1, rules) + _sortable("By service", of_services, 1, services)
    return _section("sampling", "Late sampling", words + tables)


def reading_section(sources: Sequence[Source], statistics: Statistics, window: Window, by: Sequence[str]) -> str:
    """Return what was read, what could not be, and how the numbers are to be understood."""
    inputs = "".join(
        f"<li>{named(source.name)}: {counted(source.spans, 'span')}"
        + (f', <b class="error">{count_text(source.unreadable)} unreadable</b>' if source.unreadable else "")
        + "".join(f"<br><small>{named(note)}</small>" for note in source.notes)
        + "</li>"
        for source in sources
    )
    left_out = "".join(
        f"<li>{counted(count, 'span')} {words}.</li>"
        for count, words in (
            (statistics.without_start, "without a start: in the counts, and in no picture"),
            (
                statistics.without_duration - statistics.without_start,
                "without an end, or with one before the start: in no picture of durations",
            ),
            (statistics.without_trace, "without a trace id: in no trace"),
            (
                window.outside,
                f"started long before {instant_text(window.start_unix_nano)}, or more than "  # noqa: ISC004 - one text
                f"{duration_text(window.length_nanos)} after it: in no picture over time",
            ),
        )
        if count > 0
    )
    notes = (
        "<li>Percentiles are exact to 0.4 %, counts and maxima exact"
        + ("" if statistics.traces.is_exact else "; the number of traces is an estimate, to about 0.1 %")
        + ".</li><li>An error is a span with the status ERROR.</li>"
        f"<li>Operations are told apart by {', '.join(map(shown, by)) or 'nothing'}.</li>"
    )
    return _section("reading", "What was read", f'<ul class="reading">{inputs}{left_out}{notes}</ul>')


def _card(
    statistics: Statistics,
    title: str,
    groups: Sequence[Group],
    window: Window,
    axis: Axis,
    filters: Filters,
    *,
    part: bool = False,
) -> str:
    durations = Durations()
    for group in groups:
        durations.merge(group.durations)
    series = statistics.series(groups, window)
    spans, failed = sum(group.spans for group in groups), sum(group.errors for group in groups)
    counts = sum((group.coarse for group in groups), np.zeros(COARSE_BINS, np.int64))
    note = counted(spans, "span") + (f', <b class="error">{counted(failed, "error")}</b>' if failed else "")
    tag = "h4" if part else "h3"
    return (
        f'<article class="card f{" part" if part else ""}" {filters.of_groups(groups)}><{tag}>{title} '
        f'<small>{note}</small></{tag}><div class="pair">{distribution(counts, durations, axis)}'
        f"{heat_map(series, window, axis)}</div>{latency_table(counts, series, window, axis)}</article>"
    )


def _axis(groups: Sequence[Group]) -> Axis:
    return Axis(*trimmed(sum((group.coarse for group in groups), np.zeros(COARSE_BINS, np.int64)), margin=2))


def _families(statistics: Statistics) -> list[tuple[str, list[Group]]]:
    """Return the groups by span name, the most frequent name first."""
    spans: Counter[str] = Counter()
    for group in statistics.groups:
        spans[group.name] += group.spans
    in_order = sorted(statistics.groups, key=lambda group: (-spans[group.name], group.name, group.operation))
    return [(name, list(groups)) for name, groups in groupby(in_order, key=lambda group: group.name)]


def _title(group: Group) -> str:
    return f"{named(group.name)} · {named(group.operation)}" if group.operation else named(group.name)


def _section(identity: str, title: str, content: str) -> str:
    return f'<section id="{identity}"><h2>{title}</h2>{content}</section>'


def _sortable(caption: str, head: Sequence[str], words: int, rows: str) -> str:
    heads = "".join(f'<th scope="col"{align(at, words)}>{name}</th>' for at, name in enumerate(head))
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table class="sortable">'
        f"<caption>{caption}</caption><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _numbers(*cells: tuple[float, str]) -> str:
    return "".join(f'<td class="n" data-v="{value:.17g}">{text}</td>' for value, text in cells)


def _duration(durations: Durations, nanos: float) -> tuple[float, str]:
    return (nanos, duration_text(nanos)) if durations.count else (-1, "\N{EN DASH}")


def _more(there: int, most: int, what: str) -> str:
    words = counted(there - most, f"more {what} is", f"more {what}s are")
    return f'<p class="note">{words} left out.</p>' if there > most else ""
