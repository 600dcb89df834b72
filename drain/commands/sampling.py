"""`ringbuf-drain sampling`: shows what rules would have kept of what rings and files have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from drain.commands.starting import cannot_start, say
from drain.exit_codes import DELIVERED, UNDELIVERED
from drain.sampling.rules import of_ratio
from drain.sampling.rules_file import RulesError, read_rules
from drain.sampling.trial import shown, tried
from drain.tools.recorded import Recorded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from drain.sampling.rules import Rules


def try_rules(file: Path | None, keep_ratio: float | None, against: Sequence[Path]) -> int:
    """Print what each rule would have decided; return the exit code.

    Args:
        file: with the rules; None: `keep_ratio` says it.
        keep_ratio: of all traces; None: the file says it.
        against: rings and files with spans, and folders of such.
    """
    rules = _rules(file, keep_ratio)
    recorded = Recorded(against)
    results = tried(recorded.spans(), rules)
    typer.echo(shown(results), nl=False)
    if not recorded.notes and not any(result.spans for result in results):
        say(f"no span is recorded in {', '.join(map(str, against))}")
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
