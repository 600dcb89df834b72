"""`ringbuf-drain sampling`: shows what rules would have kept of what rings and files have."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, Final

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from drain.commands.starting import cannot_start, say
from drain.exit_codes import DELIVERED, UNDELIVERED
from drain.sampling.rules import of_ratio
from drain.sampling.rules_file import RulesError, read_rules
from drain.sampling.trial import shown, tried
from drain.tools.looking.standard_input import NAME, STANDARD_INPUT, why_no_spans_come
from drain.tools.recorded import Recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from drain.sampling.rules import Rules
    from drain.sampling.seen_span import SeenSpan

_SHOWN_EACH: Final = 1024  # spans


def try_rules(file: Path | None, keep_ratio: float | None, against: Sequence[Path]) -> int:
    """Print what each rule would have decided; return the exit code.

    Args:
        file: with the rules; None: `keep_ratio` says it.
        keep_ratio: of all traces; None: the file says it.
        against: rings and files with spans, and folders of such; `-` is standard input.
    """
    rules = _rules(file, keep_ratio)
    if why := why_no_spans_come(against):
        cannot_start(why)
    with _progress() as show:
        recorded = Recorded(against, lambda count: show(f"{NAME}: {count >> 20:,} MiB"))
        results = tried(_counted(recorded.spans(), show), rules)
    typer.echo(shown(results), nl=False)
    if not recorded.notes and not any(result.spans for result in results):
        names = (NAME if str(path) == STANDARD_INPUT else str(path) for path in against)
        say(f"no span is recorded in {', '.join(names)}")
    for note in recorded.notes:
        say(note)
    return UNDELIVERED if recorded.notes else DELIVERED


def _rules(file: Path | None, keep_ratio: float | None) -> Rules:
    if file is None and keep_ratio is not None:
        if not 0 <= keep_ratio <= 1:
            cannot_start(f"--keep-ratio: {keep_ratio:g} is not between 0 (none) and 1 (all)")
        return of_ratio(keep_ratio)
    if file is None or keep_ratio is not None:
        cannot_start("name a FILE with rules, or --keep-ratio: one of the two")
    try:
        return read_rules(file)
    except RulesError as error:
        cannot_start("\n".join(f"{file}: {mistake}" for mistake in error.mistakes))
    except OSError as error:
        cannot_start(error)


def _counted(spans: Iterable[SeenSpan], show: Callable[[str], None]) -> Iterator[SeenSpan]:
    count = 0
    for count, span in enumerate(spans, 1):
        if count % _SHOWN_EACH == 0:
            show(f"{count:,} spans")
        yield span
    show(f"{count:,} spans, decided now")


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show how far it is, on a terminal."""
    words = TextColumn("Reading {task.description}")
    with Progress(
        SpinnerColumn(), words, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True
    ) as progress:
        task: Any = progress.add_task("", total=None)
        yield lambda text: progress.update(task, description=text)
