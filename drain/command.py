"""The command line of `ringbuf-drain`: its subcommands and their flags; `drain/commands/` does the work.

Each subcommand loads what it needs: what they need together takes half a second of processor time.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, cast

import typer

import ringbuf
from drain.commands.flags import FLUSH_FIELDS, REPLAY_FIELDS, SPOOL_FIELDS, given, with_settings
from drain.commands.help import CONTEXT, GroupedCommand, GroupedProgram
from drain.commands.starting import cannot_start, effective
from drain.entry import release_signals
from drain.exit_codes import INTERRUPTED
from drain.settings.configuration import CONFIG_VARIABLE, flag_of, load

if TYPE_CHECKING:
    from collections.abc import Callable

    from drain.commands.spool_batch import Settled

_CONFIG_OPTION: Final = typer.Option(
    "--config", metavar="PATH", envvar=CONFIG_VARIABLE, help="TOML file with settings."
)

app = typer.Typer(cls=GroupedProgram, context_settings=CONTEXT, rich_markup_mode=None, pretty_exceptions_enable=False)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(ringbuf.__version__)
        raise typer.Exit


@app.callback(invoke_without_command=True)
@with_settings
def run(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Drain what is there, and exit.")] = False,
    config_file: Annotated[Path | None, _CONFIG_OPTION] = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print it.")
    ] = False,
    **flags: object,
) -> None:
    """Take spans out of the rings of a directory and deliver them as OTLP.

    A ring is the file in shared memory into which a program writes its spans.

    Each option is also a variable (--batch-spans: RINGBUF_DRAIN_BATCH_SPANS) and a key of the TOML file (batch_spans);
    the OTLP exporters honour OTEL_EXPORTER_OTLP_*. A flag beats the environment, the environment the file. A SIZE may
    have a unit (10GiB), and so may a TIME (30s); plain numbers are bytes and seconds.
    """
    del version
    if context.invoked_subcommand is not None:
        release_signals()
        if once:
            cannot_start(f"--once has no effect with {context.invoked_subcommand}")
        context.obj = (given(flags), config_file)
        return
    from drain.commands.serve import drain  # noqa: PLC0415 - see above

    configuration = effective(given(flags), config_file)
    raise typer.Exit(drain(configuration, lambda: load(given(flags), config_file), once=once))


@app.command("config", cls=GroupedCommand, context_settings=CONTEXT)
@with_settings
def show_config(
    context: typer.Context,
    config_file: Annotated[Path | None, _CONFIG_OPTION] = None,
    **flags: object,
) -> None:
    """Print the effective settings, each with its origin, and exit."""
    given_before, file_before = context.obj
    configuration = effective({**given_before, **given(flags)}, config_file or file_before)
    for warning in configuration.warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(configuration.describe(), nl=False)


@app.command("check", cls=GroupedCommand, context_settings=CONTEXT)
@with_settings
def check(
    context: typer.Context,
    config_file: Annotated[Path | None, _CONFIG_OPTION] = None,
    **flags: object,
) -> None:
    """Check settings and folders, try the backend, and exit.

    The backend is sent an empty request, and its answer is shown; an output file is made if there is none. Exit codes:
    0 it took it, or the file can be written; 1 it did not; 2 a drain could not start like this; 74 it could not now,
    as when a drain that runs writes the file.
    """
    from drain.commands.check import check as check_settings  # noqa: PLC0415 - see above

    given_before, file_before = context.obj
    configuration = effective({**given_before, **given(flags)}, config_file or file_before)
    raise typer.Exit(_interruptible(lambda: check_settings(configuration)))


def replay(
    context: typer.Context,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Files, and folders of such files.", exists=True)],
    remove: Annotated[bool, typer.Option("--remove", help="Remove each file that was delivered whole.")] = False,
    config_file: Annotated[Path | None, _CONFIG_OPTION] = None,
    **flags: object,
) -> None:
    """Deliver what a crash, a refusal or damage has left in files.

    Rings, from this machine or another, quarantined ones as far as they are sound; dead letters; spools; OTLP JSON
    lines, also .gz and .zst; OTLP protobuf. What is refused or not taken within --retry-elapsed (here 300 seconds if
    it is 0) is told, and exit code 1.
    """
    from drain.commands.replay import replay as replay_files  # noqa: PLC0415 - see above

    given_before, file_before = context.obj
    for name in given_before:
        if name not in REPLAY_FIELDS:
            cannot_start(f"{flag_of(name)} has no effect with replay")
    configuration = effective({**given_before, **given(flags)}, config_file or file_before)
    raise typer.Exit(_interruptible(lambda: replay_files(configuration, paths, remove=remove)))


app.command("replay", cls=GroupedCommand, context_settings=CONTEXT)(with_settings(replay, REPLAY_FIELDS))


def spool(
    context: typer.Context,
    folder: Annotated[
        str | None,
        typer.Argument(
            metavar="DIR",
            help="The state directory. Without it the one that a drain with these settings has.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on one line, with all batches.")] = False,
    shows_all: Annotated[bool, typer.Option("--all", help="Show all batches, and not the oldest alone.")] = False,
    drop: Annotated[
        int | None, typer.Option("--drop", metavar="ID", help="Remove this batch: its spans are lost, and counted.")
    ] = None,
    dead_letter: Annotated[
        int | None, typer.Option("--dead-letter", metavar="ID", help="Make this batch a dead letter.")
    ] = None,
    is_sure: Annotated[bool, typer.Option("--yes", help="With these two: do not ask.")] = False,
    config_file: Annotated[Path | None, _CONFIG_OPTION] = None,
    **flags: object,
) -> None:
    """Show what waits on disk: the spool, and the dead letters.

    Of the spool it says since when spans wait, for whom, and how much of its bound they take. A running drain is not
    disturbed: its spool is copied to TMPDIR, and never locked. When it tries next, and what the backend said last, it
    is asked for at --listen (its /readyz tells it). Bounds are those of the settings here.

    To drop a batch, or to make it a dead letter, no drain may have the spool. Exit codes: 0 shown, or done; 1 something
    could not be read; 2 usage, or no such batch; 74 a trouble that passes; 75 a drain has the spool: stop it first.
    """
    given_before, file_before = context.obj
    for name in given_before:
        if name not in SPOOL_FIELDS:
            cannot_start(f"{flag_of(name)} has no effect with spool")
    named = {**given_before, **given(flags)}
    if folder is not None:
        if "state_dir" in named:
            cannot_start("name the state directory once: DIR or --state-dir")
        named["state_dir"] = folder
    changes = [number for number in (drop, dead_letter) if number is not None]
    if len(changes) > 1:
        cannot_start("one of the two: --drop or --dead-letter")
    if (changes and (as_json or shows_all)) or (is_sure and not changes):
        cannot_start("--json and --all go with a look, --yes with --drop or --dead-letter")
    configuration = effective(named, config_file or file_before)
    if changes:
        from drain.commands.spool_batch import settle  # noqa: PLC0415 - see above

        fate: Settled = "dropped" if drop is not None else "dead_lettered"
        raise typer.Exit(_interruptible(lambda: settle(configuration, changes[0], fate, is_sure=is_sure)))
    from drain.commands.spool import look  # noqa: PLC0415 - see above

    raise typer.Exit(_interruptible(lambda: look(configuration, as_json=as_json, shows_all=shows_all)))


app.command("spool", cls=GroupedCommand, context_settings=CONTEXT)(with_settings(spool, SPOOL_FIELDS))


def sampling(
    context: typer.Context,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            "--against",
            metavar="PATH",
            help="Recorded spans: OTLP JSON lines (.gz and .zst too), rings, dead letters, OTLP protobuf; folders of "
            "these; - for standard input. Several may be given.",
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="TOML file with a table [sampling].", show_default=False)
    ] = None,
    flush: Annotated[
        bool,
        typer.Option(
            "--flush",
            help="Decide what waits in the hold of --ring-dir now, and deliver what is kept.",
        ),
    ] = False,
    config_file: Annotated[Path | None, _CONFIG_OPTION] = None,
    **flags: object,
) -> None:
    """Try sampling rules on recorded spans, or decide what waits.

    With --against it shows what they would have kept: nothing is taken out of a ring, and nothing is sent; spans come
    in the order of their ends. With --flush, which stands alone, what waits in the hold (the drain's memory for spans
    that wait for a decision on their trace) is decided on what is known of it, by the rules of FILE or those of the
    drain's settings (without any all is delivered), and what is kept is sent; rings stay as they are.

    Exit codes: 0 done; 1 something could not be read, or not be delivered: it stays in the hold where it still can be;
    2 the rules have mistakes, which are told with their places; 75 a drain runs, which decides by itself; 130 Ctrl-C:
    with --flush the rest stays in the hold.
    """
    given_before, file_before = context.obj
    if flush and against:
        cannot_start("--flush and --against: one of the two, as the first delivers and the second only shows")
    if flush:
        from drain.commands.flush import flush as flush_hold  # noqa: PLC0415 - see above

        rules = {} if file is None else {"sampling": str(file)}
        for name in given_before:
            if name not in FLUSH_FIELDS:
                cannot_start(f"{flag_of(name)} has no effect with sampling --flush")
        raise typer.Exit(flush_hold(effective({**given_before, **given(flags), **rules}, config_file or file_before)))
    from drain.commands.sampling import try_rules  # noqa: PLC0415 - a drain that is started needs none of it

    keep_ratio = flags.pop("keep_ratio")
    for name in (*given_before, *given(flags)):
        cannot_start(f"{flag_of(name)} has no effect with sampling without --flush")
    sources = [one.get_parameter_source("config_file") for one in (context, context.parent) if one is not None]
    if any(source is not None and source.name == "COMMANDLINE" for source in sources):  # the variable is the drain's
        cannot_start("--config has no effect with sampling without --flush: name its rules as FILE")
    if not against:
        cannot_start("name recorded spans with --against, or --flush to empty the hold")
    for path in against:
        if path != Path("-") and not path.exists():  # typer 0.29 has no allow_dash beside its own `exists`
            raise typer.BadParameter(f"{str(path)!r} does not exist.", param_hint="--against")
    ratio = cast("float | None", keep_ratio)
    raise typer.Exit(_interruptible(lambda: try_rules(file, ratio, against)))


app.command("sampling", cls=GroupedCommand, context_settings=CONTEXT)(with_settings(sampling, FLUSH_FIELDS))


def _interruptible(work: Callable[[], int]) -> int:
    # Until now Ctrl-C ended the process at once: here something may have to be taken down.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return work()
    except KeyboardInterrupt:  # of which older versions of typer make 1 and "Aborted!"
        return INTERRUPTED
