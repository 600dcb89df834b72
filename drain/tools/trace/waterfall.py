"""A trace as rows for a terminal, a span each: parents before their children, and a bar from start to end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from drain.tools.looking.span_text import duration, moment, printable
from drain.tools.looking.table import Column, write_table
from ringbuf.wording import counted

if TYPE_CHECKING:
    from drain.tools.report.traces import Row, Trace

_DEEPEST: Final = 12
_BAR_CELLS: Final = 32


def narrowed(drawn: str, cells: int) -> str:
    """Return a bar of the full width drawn anew in fewer cells: one that is cut would end where no span does.

    >>> narrowed(bar(50, 50, 100), 8), narrowed(bar(99, 0, 100), 8)
    ('    ████', '       █')
    """
    full = drawn.count("█")
    return bar(len(drawn) - full, full, _BAR_CELLS, cells)


_COLUMNS: Final = (
    Column("span", is_text=True),
    Column("name", rank=4, is_text=True, keeps_end=True),
    Column("service", rank=2, is_text=True, keeps_end=True, style="magenta"),
    Column("from", rank=3),
    Column("duration"),
    Column("", rank=1, is_text=True, style="cyan", narrowed=narrowed),
    Column("result", is_text=True),
)


def heading(trace: Trace) -> str:
    """Return how much there is of a trace, how long it took and when it began."""
    spans, services = trace.spans, len(trace.services)
    return (
        f"{counted(spans, 'span')} of {counted(services, 'service')}, "
        f"{duration(trace.end - trace.start)} from {moment(trace.start)}"
    )


def write_rows(trace: Trace) -> None:
    """Write the spans of a trace to standard output, as a table."""
    length = max(trace.end - trace.start, 1)
    write_table(_COLUMNS, [_cells(row, trace.start, length) for row in trace.rows])


def json_rows(trace: Trace) -> list[dict[str, Any]]:
    """Return the spans as `--json` has them, in the same order."""
    return [
        {
            "trace_id": row.span.trace_id,
            "span_id": row.span.span_id,
            "parent_span_id": row.span.parent_span_id or None,
            "depth": row.depth,
            "is_orphan": row.is_orphan,
            "service": row.span.service,
            "name": row.span.name,
            "operation": row.span.operation or None,
            "start_unix_nano": row.span.start,
            "end_unix_nano": row.span.end,
            "duration_nano": row.span.end - row.span.start,
            "result": row.span.outcome,
            "is_error": row.span.is_error,
            "message": row.span.message or None,
        }
        for row in trace.rows
    ]


def _cells(row: Row, start: int, length: int) -> list[str]:
    span = row.span
    took = span.end - span.start
    indent = "  " * min(row.depth, _DEEPEST)
    return [
        indent + printable(span.operation or span.name, 64, keep_end=True),
        printable(span.name, 64, keep_end=True) if span.operation else "",
        printable(span.service, 48, keep_end=True),
        f"+{duration(span.start - start)}",
        duration(took),
        bar(span.start - start, took, length),
        _result(row),
    ]


def _result(row: Row) -> str:
    span = row.span
    words = [f"✕ {span.outcome}" if span.is_error else "" if span.outcome == "unset" else span.outcome]
    words += [span.message] if span.message else []
    words += ["(its parent is not here)"] if row.is_orphan else []
    words += ["(ends before it starts)"] if span.end < span.start else []
    return printable(" ".join(word for word in words if word))


def bar(offset: int, took: int, length: int, cells: int = _BAR_CELLS) -> str:
    """Return where a span lies in its trace; the shortest has a cell.

    Args:
        offset: from the trace's start to the span's, nanoseconds.
        took: the span's duration.
        length: the trace's, above 0.
        cells: how wide the trace is.

    >>> bar(25, 50, 100, 8)
    '  ████'
    """
    full = min(cells, max(1, round(cells * took / length)))
    before = min(cells - full, max(0, round(cells * offset / length)))
    return " " * before + "█" * full
