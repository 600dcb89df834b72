"""`ringbuf trace`: one trace as a waterfall, put together from wherever its spans are now."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from drain.replay.sources import files_of
from drain.state_directory import STATE_OFF, default_state_dir
from drain.tools.looking.command_line import EXIT_DONE, EXIT_INCOMPLETE, fail
from drain.tools.looking.ring_selection import JsonOption, RingDirOption, ring_paths
from drain.tools.looking.span_filter import trace_digits
from drain.tools.looking.span_text import json_text, printable
from drain.tools.looking.temporary_folder import temporary_folder
from drain.tools.report.traces import TraceSpans
from drain.tools.trace.search import Search
from drain.tools.trace.waterfall import heading, json_rows, write_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from drain.tools.report.spans import Span
    from drain.tools.report.traces import Trace

_MOST_TRACES: Final = 100  # that are collected; of these, so many are told:
_MOST_SHOWN: Final = 10
_MOST_ROWS: Final = 1000


def trace(
    trace_id: Annotated[str, typer.Argument(metavar="ID", help="The trace id, or its beginning, as tail shows it.")],
    spans: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SPANS",
            help="Where else to look: OTLP JSON lines (.gz and .zst too), rings, dead letters, spools, OTLP protobuf; "
            "folders of these.",
            show_default=False,
        ),
    ] = None,
    *,
    ring_dir: RingDirOption,
    state_dir: Annotated[
        Path | None,
        typer.Option(
            "--state-dir",
            metavar="PATH",
            help="The drain's, with its spool and dead letters; off: none. Without it the one that a drain of this "
            "directory has by default.",
            envvar="RINGBUF_DRAIN_STATE_DIR",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a trace as a waterfall, from rings, state directory and files.

    The state directory is the drain's, with what waits on disk. What was delivered is where it was delivered to: name
    the file, or ask the backend. Nothing is taken out of a ring or a spool, and a running drain is not disturbed. A
    span that is found twice is shown once.
    """
    digits = trace_digits(trace_id, "ID")
    places = [*_state_dirs(state_dir, ring_dir), *map(Path, spans or ())]
    with temporary_folder("ringbuf-trace-") as folder:
        search = Search(digits, folder)
        search.notes += [f"{place}: {reason}" for place in places if (reason := _unreadable(place))]
        found = _collect(search.of(_paths(ring_dir, places)))
    for note in search.notes:
        typer.echo(f"ringbuf: {printable(note)}", err=True)
    if not found:
        where = printable(", ".join([str(ring_dir), *map(str, places)]))
        fail(f"no span of a trace {digits} in {where}", EXIT_INCOMPLETE)
    if len(found) > 1:
        ids = "".join(f"\n  {one.trace_id}  {heading(one)}" for one in found[:_MOST_SHOWN])
        many = f"{_MOST_TRACES} or more" if len(found) == _MOST_TRACES else len(found)
        fail(f"{digits} may mean {many} traces:{ids}", EXIT_INCOMPLETE)
    (shown,) = found
    if len(shown.rows) < shown.spans:
        typer.echo(f"ringbuf: of {shown.spans:,} spans the {len(shown.rows):,} longest are shown", err=True)
    if as_json:
        for row in json_rows(shown):
            typer.echo(json_text(row))
    else:
        typer.echo(f"trace {shown.trace_id}: {heading(shown)}")
        write_rows(shown)
    raise typer.Exit(EXIT_INCOMPLETE if search.notes else EXIT_DONE)


def _paths(ring_dir: Path, places: list[Path]) -> Iterator[Path]:
    if ring_dir.is_dir() or not places:
        yield from ring_paths(ring_dir)
    yield from files_of(places)


def _state_dirs(given: Path | None, ring_dir: Path) -> list[Path]:
    if given is not None:
        return [] if str(given) == STATE_OFF else [given]
    default = default_state_dir(ring_dir)
    return [default] if default is not None and default.is_dir() else []


def _unreadable(place: Path) -> str:
    """Return why a place that was named cannot be looked into; what lies in a folder is judged file by file."""
    try:
        if place.is_dir():
            os.scandir(place).close()
        else:
            place.stat()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _collect(spans: Iterable[Span]) -> list[Trace]:
    """Return the traces that these spans are of; beyond `_MOST_TRACES` none is begun."""
    collected: dict[str, TraceSpans] = {}
    for span in spans:
        if span.trace_id in collected or len(collected) < _MOST_TRACES:
            of_trace = collected.setdefault(span.trace_id, TraceSpans([span.trace_id], _MOST_ROWS))
            of_trace.add(iter([span]))
    return [trace for of_trace in collected.values() for trace in of_trace.traces()]
