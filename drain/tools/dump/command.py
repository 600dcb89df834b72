"""`ringbuf dump`: what is in rings, as a file for other tools; the rings keep it."""

from __future__ import annotations

import contextlib
import enum
import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from drain.tools.dump.columns import Schema
from drain.tools.dump.formats import Csv, JsonLines, MissingLibraryError, Numpy, Parquet
from drain.tools.looking.command_line import EXIT_INCOMPLETE, EXIT_USAGE, fail
from drain.tools.looking.filter_doubts import doubts
from drain.tools.looking.ring_selection import (
    RingDirOption,
    RingsArgument,
    ServiceOption,
    doubt_of_service,
    observe,
    select,
)
from drain.tools.looking.span_filter import SpanFilter, with_span_filter
from drain.tools.looking.span_text import printable
from drain.tools.looking.table import is_terminal
from ringbuf.exceptions import LayoutError, RingFormatError
from ringbuf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drain.tools.dump.formats import Writer
    from drain.tools.looking.observed_ring import ObservedRing


class Format(enum.StrEnum):
    """The form of the file."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    NUMPY = "numpy"


@with_span_filter
def dump(
    rings: RingsArgument = None,
    *,
    ring_dir: RingDirOption,
    form: Annotated[
        Format,
        typer.Option("--format", help="OTLP JSON lines, CSV, Parquet (needs [parquet]), or .npz of raw records."),
    ] = Format.JSONL,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PATH", help="The file; - is standard output.")
    ] = Path("-"),
    wanted: SpanFilter,
    service: ServiceOption = None,
) -> None:
    """Write the spans that rings hold now to a file; the rings keep them.

    JSON lines are those of the drain's file exporter: `ringbuf-drain replay` and `ringbuf report` read them. In CSV, a
    text that a spreadsheet would take for a formula begins with an apostrophe. A file gets its name when it is whole.
    """
    if form in (Format.PARQUET, Format.NUMPY) and output == Path("-") and is_terminal():
        fail(f"--format {form.value} is nothing for a terminal: name a file with --output", EXIT_USAGE)
    paths = select(ring_dir, rings)
    found, unreadable = observe(paths, service)
    try:
        if no_service := doubt_of_service(paths, service, found):
            fail(no_service, EXIT_INCOMPLETE)
        if doubt := doubts(wanted, (ring.layout for ring in found)):
            fail("; ".join(doubt), EXIT_INCOMPLETE)
        with _opened(output) as to:
            writer = _writer(form, to, found, is_terminal=output == Path("-") and is_terminal())
            spans, others, missed, broken = _dump(found, wanted, writer)
            writer.end()
    except MissingLibraryError as error:
        fail(error, EXIT_USAGE)
    finally:
        for ring in found:
            ring.close()
    rest = (f", {counted(others, 'record that is no span', 'records that are no spans')}" if others else "") + (
        f"; missed {missed:,}, which the drain released meanwhile" if missed else ""
    )
    typer.echo(f"ringbuf: {counted(spans, 'span')} of {counted(len(found), 'ring')}{rest}", err=True)
    for where, reason in (*((path.name, reason) for path, reason in unreadable), *broken):
        typer.echo(f"ringbuf: {printable(where)}: {printable(reason)}", err=True)
    if unreadable or broken:
        raise typer.Exit(EXIT_INCOMPLETE)


def _writer(form: Format, to: IO[bytes], rings: list[ObservedRing], *, is_terminal: bool) -> Writer:
    schema = Schema.of(ring.layout for ring in rings)
    match form:
        case Format.JSONL:
            return JsonLines(to, is_terminal=is_terminal)
        case Format.CSV:
            return Csv(to, schema, is_terminal=is_terminal)
        case Format.PARQUET:
            return Parquet(to, schema)
        case Format.NUMPY:
            return Numpy(to)


def _dump(rings: list[ObservedRing], wanted: SpanFilter, writer: Writer) -> tuple[int, int, int, list[tuple[str, str]]]:
    """Write what matches, up to the tails of now; return spans, other records, missed ones, and broken rings."""
    spans = others = missed = 0
    broken: list[tuple[str, str]] = []
    for ring in rings:
        mask = wanted.of(ring.layout)
        try:
            ring.poll()
            for lane in ring.lanes:
                for records, lost in ring.rest(lane):
                    missed += lost
                    matching = records[mask(records)]
                    written = writer.write(ring, matching)
                    spans += written
                    others += len(matching) - written
        except LayoutError as error:
            broken.append((ring.path.name, f"layout: {error}"))
        except RingFormatError as error:
            broken.append((ring.path.name, error.reason))
    return spans, others, missed, broken


@contextlib.contextmanager
def _opened(output: Path) -> Iterator[IO[bytes]]:
    """Open a file that gets its name at the end, or standard output."""
    if output == Path("-"):
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if output.exists() and not output.is_file():
        with output.open("wb") as to:  # a pipe or a device has its name already
            yield to
        return
    unfinished = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as to:
            yield to
        unfinished.replace(output)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
