"""`ringbuf-drain check`: whether a drain with these settings would start, and whether the backend would take spans."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Final

import typer

from drain import assembly
from drain.commands.serve import refuse_missing_ring_dir
from drain.commands.starting import cannot_start, is_output_taken, log_of
from drain.exit_codes import DELIVERED, UNDELIVERED
from drain.exporters.gateways.gateways import Gateways
from drain.exporters.metrics import make_metric_exporter
from drain.exporters.protocol import Inspectable, Verdict
from drain.otlp.request import Request
from ringbuf.exceptions import RingBufferError
from ringbuf.ring.directory import check_ring_dir

if TYPE_CHECKING:
    from pathlib import Path

    from drain.exporters.protocol import Exporter
    from drain.otlp.request import Encoding
    from drain.settings.configuration import Configuration

_EMPTY: Final[dict[Encoding, bytes]] = {"protobuf": b"", "json": b'{"resourceSpans":[]}\n'}
_WORDS: Final = {
    Verdict.RETRY: "did not take it",
    Verdict.REFUSED: "refuses it",
    Verdict.TOO_LARGE: "finds it too large",
}


def check(configuration: Configuration) -> int:
    """Check settings and folders, send an empty request, and say what came of it; return the exit code.

    A drain that runs meanwhile is not disturbed: no lock is taken but that of a file for spans.
    """
    log = log_of(configuration)
    settings = configuration.settings
    try:
        assembly.retry_policy(configuration)
        assembly.listen_address(configuration, once=False)
        assembly.rules(configuration)
        refuse_missing_ring_dir(configuration)
        with contextlib.suppress(FileNotFoundError):  # the default: a drain makes it
            settings.ring_dir.lstat()
            check_ring_dir(settings.ring_dir)
        state = _state(configuration)
        # A file that only the check has made would be that of another user, where root looks what a service would do.
        is_made = settings.exporter == "file" and not settings.output.exists() and not is_output_taken(settings)
        exporter = assembly.make_exporter(configuration)
        metric_exporter = make_metric_exporter(configuration, log)
    except (RingBufferError, ValueError, OSError) as error:
        cannot_start(error)
    typer.echo(f"settings: sound; rings: {settings.ring_dir}; state: {state}")
    with contextlib.closing(exporter):
        several = list(exporter.exporters.values()) if isinstance(exporter, Gateways) else [exporter]
        code = max([_try(one, str(settings.exporter)) for one in several])
        if is_made:
            with contextlib.suppress(FileNotFoundError):
                if not settings.output.stat().st_size:
                    settings.output.unlink()  # while it is locked: no drain writes to it
    if metric_exporter is not None:
        with contextlib.closing(metric_exporter):
            code = max(code, _try(metric_exporter, "otlp, of metrics"))
    return code


def _state(configuration: Configuration) -> str:
    """Return where a drain would keep its state, for people."""
    folder = configuration.settings.state_dir
    if folder is None:
        return "none"
    try:
        _refuse_unwritable(folder)
    except (ValueError, OSError) as error:
        if configuration.origins["state_dir"] != "default":
            raise
        return f"none, {error}"  # a folder that nobody asked for is gone without
    return str(folder)


def _refuse_unwritable(folder: Path) -> None:
    """Refuse a folder in which nothing can be made, or that cannot be made itself."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"{folder}: the state directory cannot be used, {there} cannot be written")


def _try(exporter: Exporter, kind: str) -> int:
    if isinstance(exporter, Inspectable):
        for finding in exporter.findings():
            typer.echo(f"exporter {kind}: {finding}")
        is_reachable = exporter.is_reachable()
        typer.echo(f"exporter {kind}: {exporter.endpoint} {'is there' if is_reachable else 'cannot be sent to'}")
        return DELIVERED if is_reachable else UNDELIVERED
    if not kind.startswith("otlp"):
        typer.echo(f"exporter {kind}: {exporter.endpoint} can be written")
        return DELIVERED
    started = time.monotonic()
    result = exporter.export(Request(_EMPTY[exporter.encoding], 0, exporter.encoding))
    seconds = time.monotonic() - started
    where = f"exporter {kind}: {exporter.endpoint}"
    if result.verdict is Verdict.DELIVERED:
        said = f"; it says: {result.message}" if result.message else ""
        typer.echo(f"{where} took an empty request in {seconds * 1000:.0f} ms{said}")
        return DELIVERED
    typer.echo(f"{where} was sent an empty request and {_WORDS[result.verdict]}: {result.message}")
    return UNDELIVERED
