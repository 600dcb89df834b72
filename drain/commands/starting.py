"""How a command begins, or says why it cannot."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from drain.exit_codes import USAGE
from drain.settings.configuration import ConfigurationError, load
from drain.standard_streams import STDERR, StandardStream

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from drain.settings.configuration import Configuration
    from drain.settings.settings import Settings


def effective(flags: dict[str, object], config_file: Path | None) -> Configuration:
    """Return the effective settings, or end the process where they cannot be."""
    try:
        return load(flags, config_file)
    except ConfigurationError as error:
        cannot_start(error)


def log_of(configuration: Configuration) -> FilteringBoundLogger:
    """Return the log, which has the warnings about the settings already."""
    from drain.log import configure_log  # noqa: PLC0415 - a tenth of a second, which `config` does without

    log = configure_log(configuration.settings.log_level)
    for warning in configuration.warnings:
        log.warning("a setting may not be what was meant", reason=warning)
    return log


def is_output_taken(settings: Settings) -> bool:
    """Return whether spans go to standard output, where a table among them would be no JSON."""
    return settings.exporter == "console" or (settings.exporter == "file" and settings.output == Path("-"))


def say(reason: object) -> None:
    """Say something on standard error, where somebody hears it."""
    # Of descriptor 2 the log may have made a pipe into itself, whose reader would not get to it before the end.
    try:
        descriptor = sys.stderr.fileno()
    except OSError:  # it is no file: a test's
        descriptor = STDERR
    with contextlib.suppress(OSError):  # nobody hears it; the exit code says it, too
        StandardStream(descriptor).write(f"ringbuf-drain: {_words(reason)}\n")


def _words(reason: object) -> str:
    """Return a reason without the number that Python puts before those of the kernel."""
    if not isinstance(reason, OSError) or reason.strerror is None:
        return str(reason)
    if reason.filename is None:
        return reason.strerror
    name = os.fsdecode(reason.filename)
    return f"{name if name.isprintable() else ascii(name)}: {reason.strerror}"


def cannot_start(reason: object) -> NoReturn:
    """Say why, and end the process; the exit code is that of the reason, where it is an exception."""
    say(reason)
    if not isinstance(reason, BaseException):
        raise typer.Exit(USAGE)
    from drain.commands.failed_start import exit_code_of  # noqa: PLC0415 - it knows the errors of all parts

    raise typer.Exit(exit_code_of(reason))
