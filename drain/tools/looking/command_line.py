"""Subcommands that are imported when they are asked for, and what all of them do alike: help, exit codes, Ctrl-C."""

from __future__ import annotations

import os
import signal
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_command

import ringbuf
from drain.tools.looking.help import OF_THE_DRAIN, Subcommand, write_help
from ringbuf._ringbuf import lib
from ringbuf.exceptions import RingBufferError

if TYPE_CHECKING:
    from collections.abc import Mapping

EXIT_DONE: Final = 0
EXIT_INCOMPLETE: Final = 1
EXIT_USAGE: Final = 2
EXIT_LOCKED: Final = 75  # EX_TEMPFAIL of sysexits.h
EXIT_INTERRUPTED: Final = 130

_CONTEXT: Final = {"help_option_names": ["-h", "--help"]}
_EXIT_CODES: Final = "Exit codes: 0 done; 1 done in part, or there is no such ring; 2 usage; 130 ended by Ctrl-C."
_EXIT_CODES_OF_CLEAN: Final = _EXIT_CODES.replace("; 130", "; 75 a drain serves the directory; 130")


class _LazyGroup(TyperGroup):
    """Imports a subcommand when it is asked for."""

    functions: ClassVar[Mapping[str, str]] = {}

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return [*self.functions, *OF_THE_DRAIN]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in OF_THE_DRAIN and ctx.resilient_parsing:  # a shell completes: see ringbuf/commands.py
            return _named(cmd_name, OF_THE_DRAIN[cmd_name])
        if cmd_name not in self.functions:
            return None
        module, _, function = self.functions[cmd_name].partition(":")
        found = getattr(import_module(module), function)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # see main(): from here on it is ours
        alone = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=_CONTEXT)
        epilog = _EXIT_CODES_OF_CLEAN if cmd_name == "clean" else _EXIT_CODES
        alone.command(cmd_name, cls=Subcommand, epilog=epilog)(found)
        return get_command(alone)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.functions and not ctx.resilient_parsing:  # which a shell that completes asks for
            from drain.tools.looking.nearest import meant, near_of  # noqa: PLC0415 - numpy, for a misspelt word

            near = near_of(args[0], [*self.functions, *OF_THE_DRAIN])
            ctx.fail(f"No such command {args[0]!r}" + ("." if near is None else meant(near)))
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        commands = ((name, self.get_command(ctx, name)) for name in self.functions)
        write_help(commands, self.get_params(ctx), ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        if lib.rb_guard_install() != lib.RB_OK:
            fail("the guard against truncated ring files cannot be installed", EXIT_INCOMPLETE)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # of which older versions of typer make 1 and "Aborted!"
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except (RingBufferError, OSError) as error:
            fail(_reason(error), EXIT_INCOMPLETE)


def _named(name: str, its_help: str) -> Any:
    """Return a command that has a name and a help, and nothing else."""
    alone = typer.Typer(add_completion=False)
    alone.command(name, help=its_help)(lambda: None)
    return get_command(alone)


def command_line(commands: Mapping[str, str]) -> typer.Typer:
    """Return the command line, which is called with `prog_name="ringbuf"`.

    Args:
        commands: `module:function` by the name of the subcommand, in the order of the help.
    """
    app = typer.Typer(
        cls=type("Commands", (_LazyGroup,), {"functions": commands}),
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        epilog=_EXIT_CODES_OF_CLEAN,
        context_settings=_CONTEXT,
    )
    app.callback(no_args_is_help=True)(_ringbuf)
    return app


def fail(reason: object, code: int) -> NoReturn:
    """Say why the command ends here, on standard error, and end it with this exit code."""
    typer.echo(f"ringbuf: {reason}", err=True)
    raise typer.Exit(code)


def _reason(error: Exception) -> str:
    """Return what went wrong, without the number that Python puts before it."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        from drain.tools.looking.span_text import printable  # noqa: PLC0415 - numpy, which a mere help does not need

        return f"{printable(os.fsdecode(error.filename), 400)}: {error.strerror}"
    return str(error)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(ringbuf.__version__)
        raise typer.Exit


def _ringbuf(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print it.")
    ] = False,
) -> None:
    """Look at rings: who writes them, how full they are, what is in them.

    A ring is the file in shared memory into which a program writes its spans, until a drain has delivered them. Reading
    never disturbs: no lock is taken, no byte of a ring is written, and nothing is consumed. Only `clean` removes
    anything. Each subcommand has a help of its own.
    """
    del version
