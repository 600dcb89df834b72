"""A trace as a waterfall: a table of its spans with a bar each, so that it can be read without seeing the bars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drain.tools.report.axes import instant_text
from drain.tools.report.durations import duration_text
from drain.tools.report.html import count_text, named, shown
from drain.tools.report.over_time import MOST_LAYERS
from ringbuf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from drain.tools.report.traces import Row, Trace

_DEEPEST: Final = 8
_LEAST_WIDTH: Final = 0.6


def waterfall(trace: Trace, colours: Mapping[str, int], *, is_open: bool, data: str) -> str:
    """Return a trace as a table that can be folded away.

    Args:
        trace: at least one span of it.
        colours: number of each service.
        is_open: it is not folded away at first.
        data: attributes for the filters; HTML.
    """
    first = max((row.span for row in trace.rows), key=lambda span: span.end - span.start)
    length = max(trace.end - trace.start, 1)
    legend = "".join(
        f'<li><i class="c{service_colour(colours, service)}"></i>{named(service)}</li>' for service in trace.services
    )
    rows = "".join(_row(row, trace, length, service_colour(colours, row.span.service)) for row in trace.rows)
    more = trace.spans - len(trace.rows)
    note = f'<p class="note">The {len(trace.rows)} longest spans; {count_text(more)} more.</p>' if more else ""
    what = named(first.operation or first.name)
    return (
        f'<details class="trace f"{" open" if is_open else ""} {data}><summary><b>{duration_text(trace.longest)}</b> '
        f"{what} <small>{counted(trace.spans, 'span')}, {counted(len(trace.services), 'service')}</small></summary>"
        f'<p class="note">Trace <code>{shown(trace.trace_id)}</code>, {instant_text(trace.start)}, '
        f"{duration_text(trace.end - trace.start)} from first to last</p>"
        f'<ul class="legend">{legend}</ul><table class="waterfall"><thead><tr><th scope="col">Span</th>'
        f'<th scope="col">Service</th><th scope="col" class="n">From</th><th scope="col" class="n">Duration</th>'
        f'<th scope="col" class="scale"><span>0</span><span>{duration_text(trace.end - trace.start)}</span></th></tr>'
        f"</thead><tbody>{rows}</tbody></table>{note}</details>"
    )


def service_colour(colours: Mapping[str, int], service: str) -> str:
    """Return the CSS class's ending of a service's colour; beyond the palette all are grey."""
    number = colours.get(service, MOST_LAYERS)
    return str(number) if number < MOST_LAYERS else "x"


def _row(row: Row, trace: Trace, length: int, colour: str) -> str:
    span = row.span
    duration = span.end - span.start
    left = 100 * (span.start - trace.start) / length
    width = min(max(100 * duration / length, _LEAST_WIDTH), 100.0)
    left = min(left, 100 - width)
    what = f"{named(span.operation)} <small>{named(span.name)}</small>" if span.operation else named(span.name)
    marks = ""
    if span.is_error:
        marks += f' <b class="error">✕ {named(span.outcome)}</b>'
        marks += f" <small>{named(span.message)}</small>" if span.message else ""
    if row.is_orphan:
        marks += ' <small class="mark">its parent is not in the input</small>'
    if duration < 0:
        marks += ' <small class="mark">it ends before it starts</small>'
    error = f'<rect class="bad" x="{left:.3f}%" width="{width:.3f}%" y="11" height="3"/>' if span.is_error else ""
    return (
        f'<tr><td class="i{min(row.depth, _DEEPEST)}">{what}{marks}</td><td>{named(span.service)}</td>'
        f'<td class="n">+{duration_text(span.start - trace.start)}</td><td class="n">{duration_text(duration)}</td>'
        f'<td class="bar"><svg aria-hidden="true"><rect class="c{colour}" x="{left:.3f}%" width="{width:.3f}%" y="2" '
        f'height="10"/>{error}</svg></td></tr>'
    )
