"""`ringbuf report`: spans as one page of pictures, which needs no network and no script to be read."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from drain.replay.sources import files_of
from drain.tools.looking.command_line import EXIT_DONE, EXIT_INCOMPLETE, EXIT_USAGE, fail
from drain.tools.looking.late_sampling import picture_in
from drain.tools.looking.span_text import printable
from drain.tools.looking.standard_input import why_no_spans_come
from drain.tools.looking.temporary_folder import temporary_folder
from drain.tools.report.page import Report, page
from drain.tools.report.sources import STANDARD_INPUT, Source, SourceError, open_source
from drain.tools.report.spans import OPERATION_KEYS, OUTCOME_KEYS, Keys, spans_of
from drain.tools.report.statistics import Statistics
from drain.tools.report.traces import SlowestTraces, TraceSpans
from ringbuf.exceptions import RingBufferError
from ringbuf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from drain.tools.report.rings import RingCount
    from drain.tools.report.traces import Trace

_STANDARD_OUTPUT: Final = "-"
_MOST_TRACES: Final = 50


def report(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="SPANS",
            help="OTLP JSON lines (.gz and .zst too), rings, dead letters, spools, OTLP protobuf; folders of these, "
            "such as a ring directory; - for standard input.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PATH", help="The page; - for standard output.")
    ] = Path("report.html"),
    by: Annotated[
        list[str] | None,
        typer.Option("--by", metavar="KEY", help="Attribute that tells operations apart. [default: grafos.operation]"),
    ] = None,
    outcome: Annotated[
        list[str] | None,
        typer.Option(
            "--outcome", metavar="KEY", help="Attribute of the outcome. [default: grafos.outcome, error.type]"
        ),
    ] = None,
    traces: Annotated[
        int, typer.Option("--traces", metavar="N", min=0, max=_MOST_TRACES, help="The slowest traces, so many.")
    ] = 10,
    title: Annotated[str, typer.Option("--title", metavar="TEXT", help="Of the page.")] = "Spans",
) -> None:
    """Make one HTML page: throughput, latencies, errors, slowest traces.

    Latencies are by span name and operation. Rings are read as they are, and nothing is taken out of them; the page
    shows what was pending, and what they count.

    The page is written whole or not at all. It is complete if the exit code is 0; with 1 something could not be read,
    and the page says what.
    """
    if why := why_no_spans_come(inputs):
        fail(why, EXIT_USAGE)
    keys = Keys(tuple(by) if by else OPERATION_KEYS, tuple(outcome) if outcome else OUTCOME_KEYS)
    with temporary_folder("ringbuf-report-") as folder:
        sources, rings = _open_all(inputs, folder, output)
        sampling = [picture for name in dict.fromkeys(inputs) if (picture := picture_in(Path(name))) is not None]
        statistics, slowest = Statistics(), SlowestTraces(traces)
        found: list[Trace] = []
        with _progress(sources) as progress:
            for source in sources:
                _add_up(source, keys, statistics, slowest, progress)
            if statistics.spans:
                found = _traces(sources, keys, slowest.ids(), progress)
    if by and statistics.spans and not any(group.operation for group in statistics.groups):
        typer.echo(f"ringbuf: no span has an attribute {' or '.join(map(repr, by))}, which --by names", err=True)
    for source in sources:
        for note in source.notes:
            typer.echo(f"ringbuf: {printable(source.name)}: {printable(note)}", err=True)
    unreadable = sum(source.unreadable for source in sources)
    if not statistics.spans:
        fail("no span in what was read, so no page was written", EXIT_USAGE)
    made = page(Report(title, statistics, found, sources, rings, keys.operation, sampling))
    _write(made, output)
    if output != Path(_STANDARD_OUTPUT):
        words = f", {counted(unreadable, 'unreadable part')}" if unreadable else ""
        typer.echo(f"{output}: {counted(statistics.spans, 'span')}{words}, {len(made):,} bytes", err=True)
    raise typer.Exit(EXIT_INCOMPLETE if unreadable else EXIT_DONE)


def _open_all(inputs: Sequence[str], folder: Path, output: Path) -> tuple[list[Source], list[RingCount]]:
    """Open the inputs; what cannot be read at all is a source without lines."""
    sources: list[Source] = []
    rings: list[RingCount] = []
    for name in dict.fromkeys(inputs):
        paths = [Path(name)] if name == STANDARD_INPUT else list(files_of([Path(name)]))
        if not paths:
            fail(f"{printable(name)} has no file of spans in it", EXIT_USAGE)
        for path in paths:
            if output.exists() and path.exists() and output.samefile(path):
                fail(f"{printable(str(path))} is both input and output", EXIT_USAGE)
            try:
                source = open_source(STANDARD_INPUT if name == STANDARD_INPUT else str(path), path, folder, rings)
            except (SourceError, RingBufferError, OSError) as error:
                if isinstance(error, FileNotFoundError) and path.suffix == ".ring" and str(path) != name:
                    continue  # the drain removed it after the folder was listed
                source = Source(str(path), Path(os.devnull), 0)
                source.note(error.strerror or str(error) if isinstance(error, OSError) else str(error))
            sources.append(source)
    return sources, rings


def _add_up(
    source: Source, keys: Keys, statistics: Statistics, slowest: SlowestTraces, progress: Callable[[int], None]
) -> None:
    for number, line in source.lines(progress):
        try:
            spans = list(spans_of(line, keys))
        except ValueError as error:
            cut = "" if line.endswith(b"\n") else "; the line has no end: the file was still being written, or was cut"
            source.note(f"line {number}: {error}{cut}")
            continue
        source.spans += len(spans)
        statistics.add(spans)
        slowest.add(spans)


def _traces(
    sources: Sequence[Source], keys: Keys, trace_ids: Sequence[str], progress: Callable[[int], None]
) -> list[Trace]:
    """Read the inputs once more, only for the spans of these traces."""
    collected = TraceSpans(trace_ids)
    for source in sources if trace_ids else ():
        again = Source(source.name, source.path, source.size_bytes)  # whose notes were taken at the first reading
        for _, line in again.lines(progress):
            if collected.may_have(line):
                with contextlib.suppress(ValueError):
                    collected.add(spans_of(line, keys))
    return sorted(collected.traces(), key=lambda trace: -trace.longest)


@contextlib.contextmanager
def _progress(sources: Sequence[Source]) -> Iterator[Callable[[int], None]]:
    """Show how far the two readings are, on a terminal."""
    bar = Progress(
        TextColumn("Reading"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    )
    with bar:
        task: Any = bar.add_task("", total=2 * sum(source.size_bytes for source in sources))
        before = 0

        def show(at: int) -> None:
            nonlocal before
            bar.advance(task, at - before if at >= before else at)  # a smaller number is of the next file
            before = at

        yield show


def _write(made: bytes, output: Path) -> None:
    if output == Path(_STANDARD_OUTPUT):
        sys.stdout.buffer.write(made)
        sys.stdout.buffer.flush()
        return
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        part.write_bytes(made)
        part.replace(output)
    except OSError as error:
        part.unlink(missing_ok=True)
        fail(f"cannot write {printable(str(output))}: {error.strerror}", EXIT_USAGE)
