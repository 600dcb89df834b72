"""The help of `ringbuf` and of its subcommands: examples, and what stands for a value, in words for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from typer.core import TyperCommand

if TYPE_CHECKING:
    import enum
    from collections.abc import Iterable, Sequence

_SHORT: Final = 68  # of what a subcommand does, so that it fits a line of a terminal

EXAMPLES: Final = {
    "which rings lose spans": "ringbuf list --sort drops",
    "what fails, as it comes": "ringbuf tail --status error",
    "one trace, by the id at the end of a line of tail": "ringbuf trace 15cb7f08",
    "rates, fill and latencies": "ringbuf top",
    "a page of what was delivered to a file": "ringbuf report spans.jsonl -o report.html",
}
OF_THE_DRAIN: Final = {"spool": "Show what waits on disk: the same as `ringbuf-drain spool`."}
"""Subcommands of `ringbuf-drain` that `ringbuf` has, too: `ringbuf/commands.py` leads there."""


def words_of(choices: type[enum.StrEnum]) -> str:
    """Return what stands for a value that is one of several words."""
    return f"<{'|'.join(choices)}>"


class Subcommand(TyperCommand):
    """A subcommand whose help has no types of Python."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write what it takes."""
        write_options(self.get_params(ctx), ctx, formatter)


def write_options(parameters: Sequence[Any], context: Any, formatter: Any) -> None:
    """Write what a command takes, without the types that it has in Python."""
    sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for parameter in parameters:
        record = parameter.get_help_record(context)
        if record is not None and parameter.param_type_name == "argument":
            sections["Arguments"].append((parameter.metavar, record[1]))
        elif record is not None:
            sections["Options"].append(record)
    for heading, rows in sections.items():
        if rows:
            with formatter.section(heading):
                formatter.write_dl(rows)


def write_help(commands: Iterable[tuple[str, Any]], parameters: Sequence[Any], context: Any, formatter: Any) -> None:
    """Write examples, subcommands and options of `ringbuf`.

    Args:
        commands: by name, in their order.
        parameters: of the program itself.
        context: of the help.
        formatter: writes it.
    """
    with formatter.section("Examples"):
        for purpose, example in EXAMPLES.items():
            formatter.write(f"{'':>{formatter.current_indent}}{purpose}:\n")
            formatter.write(f"{'':>{formatter.current_indent}}  {example}\n")
    rows = [(name, command.get_short_help_str(_SHORT)) for name, command in commands]
    with formatter.section("Commands"):
        formatter.write_dl([*rows, *OF_THE_DRAIN.items()])
    write_options(parameters, context, formatter)
