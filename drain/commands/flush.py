"""`ringbuf-drain sampling --flush`: decides and delivers what waits in the hold, with no service running."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from drain import assembly
from drain.accounting.audit import write_rules
from drain.accounting.hold_sums import HOLD_SUM_NAMES
from drain.commands.starting import cannot_start, is_output_taken, log_of, say
from drain.exit_codes import AT_ONCE, DELIVERED, INTERRUPTED, LOCKED, UNDELIVERED
from drain.exporters.measured import MeasuredExporter
from drain.rings.directory import DirectoryLockedError, RingDirectory
from drain.sampling.hold.files import HOLD_FOLDER
from drain.service.flush import Flush
from drain.standard_streams import STDERR, STDOUT, StandardStream
from ringbuf._ringbuf import lib
from ringbuf.exceptions import RingBufferError
from ringbuf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from drain.service.flush import Flushed
    from drain.settings.configuration import Configuration

_ALWAYS: Final = {"delivered", "sampled_out", "waiting"}


def flush(configuration: Configuration) -> int:
    """Empty the hold of a ring directory; return the exit code.

    Args:
        configuration: the effective settings.
    """
    settings = configuration.settings
    if configuration.origins["exporter"] == "default":
        cannot_start(
            "--flush does not guess where to: name --exporter, --endpoint or --output, "
            "or set OTEL_EXPORTER_OTLP_ENDPOINT"
        )
    if not (settings.ring_dir / HOLD_FOLDER).is_dir():
        say(f"nothing waits: there is no hold in {settings.ring_dir}")
        return DELIVERED
    with contextlib.ExitStack() as cleanup:
        opened = _open(configuration, cleanup)
        if opened is None:
            say(f"nothing waits in {settings.ring_dir / HOLD_FOLDER}")
            return DELIVERED
        run, exporter = opened
        cleanup.callback(run.close)
        if not run.found:
            say(f"nothing waits in {settings.ring_dir / HOLD_FOLDER}")
            return DELIVERED
        exporter.when_gone = run.stop
        signals = _heed_signals(run)
        with _progress(run.found) as progress:
            flushed = run.run(progress)
        _tell(flushed, exporter.endpoint, StandardStream(STDERR if is_output_taken(settings) else STDOUT))
        code = _code_of(flushed, signals)
        if not run.threads_ended:  # one hangs in an attempt, and may not hold up the exit
            run.close()
            os._exit(code)
    return code


def _open(configuration: Configuration, cleanup: contextlib.ExitStack) -> tuple[Flush, MeasuredExporter] | None:
    """Return what empties the hold, and the exporter; None where nothing waits. Ends the process where it cannot."""
    log = log_of(configuration)
    ring_dir = configuration.settings.ring_dir
    try:
        directory = RingDirectory(ring_dir)
        cleanup.callback(directory.close)
        directory.note_crashes()
        if lib.rb_guard_install() != lib.RB_OK:
            cannot_start("the guard against truncated files cannot be installed")
        exporter = MeasuredExporter(assembly.make_exporter(configuration, holds=False))
        cleanup.callback(exporter.close)
        stores = assembly.open_stores(configuration, log)
        if stores.spool is not None:
            cleanup.callback(stores.spool.close)
        plan = assembly.sampling_plan(configuration, ring_dir, log, exporter=exporter, crash=directory.crash)
        if plan is None:
            return None
        policy, limits = assembly.retry_policy(configuration), assembly.limits(configuration)
        return Flush(plan, exporter, policy, limits, dead_letters=stores.dead_letters, log=log), exporter
    except DirectoryLockedError as error:
        say(error)
        say("it decides and delivers by itself; to have all of it decided now, stop it and call this again")
        raise typer.Exit(LOCKED) from None
    except (RingBufferError, ValueError, OSError, MemoryError) as error:
        cannot_start(error)


def _heed_signals(run: Flush) -> list[int]:
    """Let the first Ctrl-C or SIGTERM leave the rest in the hold, a second end it at once; return those that come."""
    came: list[int] = []

    def stop(number: int, _frame: object) -> None:
        came.append(number)
        run.stop()
        if len(came) > 1:
            os._exit(AT_ONCE + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return came


def _code_of(flushed: Flushed, signals: Sequence[int]) -> int:
    if signals and flushed.sums.waiting:
        return INTERRUPTED
    sums = flushed.sums
    lost = sums.waiting + sums.rejected + sums.dead_lettered + sums.invalid + sums.lost
    return UNDELIVERED if lost else DELIVERED


def _tell(flushed: Flushed, destination: str, to: StandardStream) -> None:
    """Print what each rule decided, and what became of all that waited."""
    sums = flushed.sums
    shown = [
        f"{count:,} {'left' if name == 'waiting' else name.replace('_', ' ')}"
        for name in HOLD_SUM_NAMES[2:]
        if (count := getattr(sums, name)) or name in _ALWAYS
    ]
    with contextlib.suppress(OSError):  # nobody reads it; the exit code says it, too
        write_rules(flushed.sampling, to)
        to.write(f"{counted(sums.taken_up, 'span')} waited = {' + '.join(shown)}\nto {destination}\n")
        to.flush()


@contextlib.contextmanager
def _progress(waiting: int) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how many spans are done with; the function is told how many wait."""
    bar = Progress(
        TextColumn("Flushing the hold"),
        BarColumn(),
        MofNCompleteColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=waiting)
        yield lambda left: bar.update(task, completed=waiting - left)
