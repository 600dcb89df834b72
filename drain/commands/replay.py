"""`ringbuf-drain replay`: delivers what is in files."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

from drain import assembly
from drain.commands.starting import cannot_start, is_output_taken, log_of
from drain.exit_codes import AT_ONCE, DELIVERED, UNDELIVERED
from drain.exporters.measured import MeasuredExporter
from drain.replay.replay import Replay, show
from drain.replay.sources import FOLDER_SUFFIXES, files_of
from ringbuf.exceptions import RingBufferError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from drain.settings.configuration import Configuration

_GIVES_UP_SECONDS: Final = 300.0


def replay(configuration: Configuration, paths: Sequence[Path], *, remove: bool) -> int:
    """Deliver what is in files; return the exit code.

    Args:
        configuration: the effective settings.
        paths: files, and folders of files.
        remove: unlink each file that was delivered whole.
    """
    settings = configuration.settings
    log = log_of(configuration)
    if configuration.origins["exporter"] == "default":
        cannot_start(
            "replay does not guess where to: name --exporter, --endpoint or --output, "
            "or set OTEL_EXPORTER_OTLP_ENDPOINT"
        )
    if settings.exporter == "file" and _is_among(settings.output, paths):
        cannot_start(f"{settings.output} would be replayed into itself: name another --output")
    try:
        policy = assembly.retry_policy(configuration)
        if not policy.elapsed_limit:
            policy = dataclasses.replace(policy, elapsed_limit=_GIVES_UP_SECONDS)
        exporter = MeasuredExporter(assembly.make_exporter(configuration, holds=False))
        exporter.when_gone = _end_by_sigpipe
    except (RingBufferError, ValueError, OSError) as error:
        cannot_start(error)
    run = Replay(exporter, policy, concurrency=settings.concurrency, batch_spans=settings.batch_spans, log=log)
    to = sys.stderr if is_output_taken(settings) else sys.stdout
    is_whole = show(run.run(paths, remove=remove), to, exporter.endpoint)
    code = DELIVERED if is_whole else UNDELIVERED
    if not run.close():
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(code)
    exporter.close()
    return code


def _is_among(output: Path, paths: Sequence[Path]) -> bool:
    """Return whether a file that is written would be read, though it may have to be made first."""
    if output.exists():
        return any(path.exists() and path.samefile(output) for path in files_of(paths))
    to = output.resolve()
    return to.name.endswith(FOLDER_SUFFIXES) and any(to.is_relative_to(path.resolve()) for path in paths)


def _end_by_sigpipe() -> None:
    """End as any program does whose reader has gone: files that were not replayed whole are left as they are."""
    os._exit(AT_ONCE + signal.SIGPIPE)
