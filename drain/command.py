"""What `ringbuf-drain` does: drain, print its settings, replay.

Exit codes: 0 all delivered, or at a stop safe in the spool; 1 something undelivered; 2 it cannot start as it is
configured; 70 a thread of it has ended that was to go on, start it again; 75 another drain serves the ring directory or
has the state directory, or came to while this one ran; 128 + n after a second signal n, which ends it at once (what is
not delivered stays in rings and spool); 130 after Ctrl-C while it starts or replays.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import os
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, get_origin

import typer

import ringbuf
from drain import assembly
from drain.entry import EXIT_INTERRUPTED
from drain.exporters.measured import MeasuredExporter
from drain.log import configure_log, log_native_lines
from drain.replay.replay import Replay, show
from drain.replay.sources import files_of
from drain.rings.directory import DirectoryLockedError, RingDirectory
from drain.service.service import Service
from drain.settings.settings import (
    CONFIG_VARIABLE,
    Configuration,
    ConfigurationError,
    Settings,
    flag_of,
    load,
)
from drain.settings.units import Unit
from drain.spool.spool import SpoolLockedError
from drain.standard_streams import STDERR, STDOUT, StandardStream
from drain.telemetry.telemetry import Telemetry
from ringbuf._ringbuf import lib
from ringbuf.exceptions import RingBufferError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pydantic.fields import FieldInfo
    from structlog.typing import FilteringBoundLogger

    from drain.delivery.stores import Stores
    from drain.exporters.protocol import Exporter

EXIT_DELIVERED: Final = 0
EXIT_UNDELIVERED: Final = 1
EXIT_USAGE: Final = 2
EXIT_BROKEN: Final = 70  # EX_SOFTWARE of sysexits.h
EXIT_LOCKED: Final = 75  # EX_TEMPFAIL of sysexits.h
_EXIT_SIGNAL: Final = 128
_REPLAY_SECONDS: Final = 300.0
_SWITCH_SECONDS: Final = 0.0005  # a scrape's thread computes: of Python's default, 5 ms, the loop would lose most

_ALL_FIELDS: Final = frozenset(Settings.model_fields)
_REPLAY_FIELDS: Final = frozenset(
    name
    for name, field in Settings.model_fields.items()
    if (isinstance(field.json_schema_extra, dict) and "exporter" in field.json_schema_extra)
    or name
    in {
        "exporter",
        "retry_initial",
        "retry_maximum",
        "retry_attempts",
        "retry_after_maximum",
        "retry_elapsed",
        "batch_spans",
        "concurrency",
        "log_level",
    }
)

_CONFIG_OPTION: Final = typer.Option("--config", envvar=CONFIG_VARIABLE, help="TOML file with settings.")

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def _with_settings(command: Callable[..., None], fields: Collection[str] = _ALL_FIELDS) -> Callable[..., None]:
    """Give a command one flag for each field of `Settings`, so that no flag can differ from its variable or key.

    Args:
        command: takes the flags as keyword arguments.
        fields: those that have an effect on it.
    """
    parameters = [
        parameter
        for parameter in inspect.signature(command, eval_str=True).parameters.values()
        if parameter.kind is not parameter.VAR_KEYWORD
    ]
    for name, field in Settings.model_fields.items():
        if name == "headers" or name not in fields:
            continue  # headers: they hold credentials, and everybody may read a command line
        flag = f"{flag_of(name)}/--no-{flag_of(name)[2:]}" if field.annotation is bool else flag_of(name)
        kind, metavar = _kind(field)
        default = field.get_default(call_default_factory=True, validated_data={})
        is_shown = field.annotation is not bool and default not in (None, [])
        help_text = f"{field.description} [default: {default}]" if is_shown else field.description
        option = typer.Option(flag, help=help_text, metavar=metavar, show_default=False)
        parameters.append(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
            )
        )
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads both
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _kind(field: FieldInfo) -> tuple[Any, str | None]:
    """Return the type of a flag, and what stands for its value; a value of several forms is left to the settings."""
    for unit in field.metadata:
        if isinstance(unit, Unit):
            return str, unit.metavar
    kind: Any = field.annotation
    if kind in (Path, Path | None):
        return str, "PATH"  # as a Path an empty text would be the working directory
    return (list[str], "TEXT") if get_origin(kind) is list else (kind, None)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(ringbuf.__version__)
        raise typer.Exit


@app.callback(invoke_without_command=True)
@_with_settings
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

    Each option is also a variable (--batch-spans: RINGBUF_DRAIN_BATCH_SPANS) and a key of the TOML file (batch_spans);
    the OTLP exporters honour OTEL_EXPORTER_OTLP_*. A flag beats the environment, the environment the file.
    """
    del version
    given = _given(flags)
    if context.invoked_subcommand is not None:
        context.obj = (given, config_file)
        return
    raise typer.Exit(_drain(_configuration(given, config_file), once=once))


@app.command("config")
@_with_settings
def show_config(
    context: typer.Context,
    config_file: Annotated[Path | None, _CONFIG_OPTION] = None,
    **flags: object,
) -> None:
    """Print the effective settings, each with its origin, and exit."""
    given_before, file_before = context.obj
    configuration = _configuration({**given_before, **_given(flags)}, config_file or file_before)
    for warning in configuration.warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(configuration.describe(), nl=False)


def replay(
    context: typer.Context,
    paths: Annotated[list[Path], typer.Argument(help="Files, and folders of such files.", exists=True)],
    remove: Annotated[bool, typer.Option("--remove", help="Remove each file that was delivered whole.")] = False,
    config_file: Annotated[Path | None, _CONFIG_OPTION] = None,
    **flags: object,
) -> None:
    """Deliver what is in files that a crash, a refusal or a damage left.

    Rings, from this machine or another, quarantined ones as far as they are sound; dead letters; spools; OTLP JSON
    lines, also .gz and .zst; OTLP protobuf. What is refused or not taken within --retry-elapsed (here 300 seconds if
    it is 0) is told, and exit code 1.
    """
    # Before a drain listens to it (`_serve`), the signal ends the process at once: here a display has to be taken down.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    given_before, file_before = context.obj
    for name in given_before:
        if name not in _REPLAY_FIELDS:
            _cannot_start(f"{flag_of(name)} has no effect with replay")
    configuration = _configuration({**given_before, **_given(flags)}, config_file or file_before)
    try:
        code = _replay(configuration, paths, remove=remove)
    except KeyboardInterrupt:  # of which older versions of typer make 1 and "Aborted!"
        code = EXIT_INTERRUPTED
    raise typer.Exit(code)


app.command("replay")(_with_settings(replay, _REPLAY_FIELDS))


def _given(flags: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in flags.items() if value is not None and value != []}


def _configuration(flags: dict[str, object], config_file: Path | None) -> Configuration:
    try:
        return load(flags, config_file)
    except ConfigurationError as error:
        _cannot_start(error)


def _drain(configuration: Configuration, *, once: bool) -> int:
    log = configure_log(configuration.settings.log_level)
    _warn(configuration, log)
    _raise_descriptor_limit()
    sys.setswitchinterval(_SWITCH_SECONDS)
    with contextlib.ExitStack() as cleanup:
        try:
            directory = RingDirectory(configuration.settings.ring_dir)
            directory.note_crashes()
        except DirectoryLockedError as error:
            _say(error)
            return EXIT_LOCKED
        except (RingBufferError, OSError) as error:
            _cannot_start(error)
        # After the notes of crashes, of which a fault in a ring is none.
        if lib.rb_guard_install() != lib.RB_OK:
            _cannot_start("the guard against truncated ring files cannot be installed")
        # After the lock: the file exporter cuts off what a killed drain left incomplete.
        try:
            exporter = MeasuredExporter(assembly.make_exporter(configuration))
            cleanup.callback(exporter.close)
            stores = assembly.open_stores(configuration, log)
            telemetry = Telemetry(
                exporter.state,
                spool=None if stores.spool is None else stores.spool.status,
                dead_letters=None if stores.dead_letters is None else stores.dead_letters.status,
                max_series=configuration.settings.max_series,
                log=log,
            )
            service = _service(configuration, directory, exporter, stores, telemetry, log)
            exporter.when_gone = service.request_end
            if "grpc" in sys.modules:
                log_native_lines(log)
        except SpoolLockedError as error:
            directory.close()
            _say(error)
            return EXIT_LOCKED
        except (RingBufferError, ValueError, OSError) as error:
            directory.close()
            _cannot_start(error)
        try:
            _listen(configuration, telemetry, service, log, once=once)
            code = _serve(service, log, once=once)
        finally:
            telemetry.close()
        if not service.close():
            # A thread still hangs in an attempt: neither it nor the exporter's own threads may hold up the exit.
            os._exit(code)
    _forget_unwritten_output()
    return code


def _warn(configuration: Configuration, log: FilteringBoundLogger) -> None:
    for warning in configuration.warnings:
        log.warning("a setting may not be what was meant", reason=warning)


def _replay(configuration: Configuration, paths: list[Path], *, remove: bool) -> int:
    settings = configuration.settings
    log = configure_log(settings.log_level)
    _warn(configuration, log)
    if configuration.origins["exporter"] == "default":
        _cannot_start(
            "replay does not guess where to: name --exporter, --endpoint or --output, "
            "or set OTEL_EXPORTER_OTLP_ENDPOINT"
        )
    if settings.exporter == "file" and any(
        path.exists() and settings.output.exists() and path.samefile(settings.output) for path in files_of(paths)
    ):
        _cannot_start(f"{settings.output} would be replayed into itself: name another --output")
    try:
        policy = assembly.retry_policy(configuration)
        if not policy.elapsed_limit:
            policy = dataclasses.replace(policy, elapsed_limit=_REPLAY_SECONDS)
        exporter = MeasuredExporter(assembly.make_exporter(configuration, holds=False))
        exporter.when_gone = _end_by_sigpipe
    except (RingBufferError, ValueError, OSError) as error:
        _cannot_start(error)
    run = Replay(exporter, policy, concurrency=settings.concurrency, batch_spans=settings.batch_spans, log=log)
    to = sys.stderr if _is_output_taken(settings) else sys.stdout
    is_whole = show(run.run(paths, remove=remove), to, exporter.endpoint)
    code = EXIT_DELIVERED if is_whole else EXIT_UNDELIVERED
    if not run.close():
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(code)
    exporter.close()
    return code


def _end_by_sigpipe() -> None:
    """End as any program does whose reader has gone: files that were not replayed whole are left as they are."""
    os._exit(_EXIT_SIGNAL + signal.SIGPIPE)


def _is_output_taken(settings: Settings) -> bool:
    """Whether spans go to standard output, where a table among them would be no JSON."""
    return settings.exporter == "console" or (settings.exporter == "file" and settings.output == Path("-"))


def _service(
    configuration: Configuration,
    directory: RingDirectory,
    exporter: Exporter,
    stores: Stores,
    telemetry: Telemetry,
    log: FilteringBoundLogger,
) -> Service:
    return Service(
        directory,
        assembly.admission(configuration),
        exporter,
        assembly.retry_policy(configuration),
        assembly.limits(configuration),
        log=log,
        stores=stores,
        audit_to=StandardStream(STDERR if _is_output_taken(configuration.settings) else STDOUT),
        observer=telemetry,
    )


def _listen(
    configuration: Configuration, telemetry: Telemetry, service: Service, log: FilteringBoundLogger, *, once: bool
) -> None:
    address = assembly.listen_address(configuration, once=once)
    if address is None:
        return
    try:
        telemetry.listen(
            *address, service.snapshots, service.seconds_until_attempt, configuration.settings.spool_max_bytes
        )
    except OSError as error:
        if configuration.origins["listen"] != "default":
            service.close()
            _cannot_start(f"--listen {configuration.settings.listen}: {error.strerror}")
        # The second drain of a machine is not to fail for a port that nobody chose.
        log.warning("not listening; see --listen", address=configuration.settings.listen, reason=error.strerror)


def _serve(service: Service, log: FilteringBoundLogger, *, once: bool) -> int:
    signals_seen = 0

    def stop(number: int, _frame: object) -> None:
        nonlocal signals_seen
        signals_seen += 1
        if signals_seen > 1:
            os._exit(_EXIT_SIGNAL + number)
        service.request_stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGUSR1, lambda _number, _frame: service.request_audit())
    undelivered = service.drain_once() if once else service.run()
    service.accounts.tell_audit()
    code = EXIT_UNDELIVERED if undelivered else EXIT_DELIVERED
    if service.why_broken:
        code = EXIT_BROKEN
    elif service.is_superseded:
        code = EXIT_LOCKED
    log.info("stopped", exit_code=code)
    return code


def _raise_descriptor_limit() -> None:
    """Each ring takes a descriptor: the soft limit is for programs that use select()."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _forget_unwritten_output() -> None:
    """Let nothing be left to be flushed when the interpreter ends: that would fail once more, with exit code 120."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, STDOUT)
        os.close(nowhere)


def _say(reason: object) -> None:
    # Of descriptor 2 the log may have made a pipe into itself, whose reader would not get to it before the end.
    try:
        descriptor = sys.stderr.fileno()
    except OSError:  # it is no file: a test's
        descriptor = STDERR
    with contextlib.suppress(OSError):  # nobody hears it; the exit code says it, too
        StandardStream(descriptor).write(f"ringbuf-drain: {reason}\n")


def _cannot_start(reason: object) -> NoReturn:
    _say(reason)
    raise typer.Exit(EXIT_USAGE)
