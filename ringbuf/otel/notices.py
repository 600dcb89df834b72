"""What the bridge has to say to people: once, and where somebody sees it."""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from typing import Final

from ringbuf.log import warn_aside

_logger: Final = logging.getLogger("ringbuf")


class Notices:
    """The notices of one processor: each kind once, from a thread of its own, and never an exception.

    The thread that ends a span must not wait for the program's handlers, which may hold a lock, or write to a pipe that
    nobody reads; and a handler may itself be traced.
    """

    def __init__(self) -> None:
        _LastResort.install()
        self._given: set[str] = set()

    def give(self, kind: str, message: str, *arguments: object, exc_info: bool = False) -> None:
        """Log a warning, unless one of this kind was.

        Args:
            kind: what to tell it from others by.
            message: with the places of `arguments`, as logging has them.
            arguments: of the message.
            exc_info: whether the exception that is being handled is shown.
        """
        if kind in self._given:
            return
        self._given.add(kind)
        # As text: an exception holds the frames that it passed, and these what the application has in its hands.
        with contextlib.suppress(Exception):  # what an argument is as text is the traced program's
            texts = [str(argument) if isinstance(argument, BaseException) else argument for argument in arguments]
            if exc_info:
                message, texts = f"{message}\n%s", [*texts, traceback.format_exc().rstrip()]
            warn_aside(message, *texts)


class _LastResort(logging.Handler):
    """Writes to standard error what no handler of the program's writes anywhere.

    Python has one of its own, which is silent as soon as the root has any handler: the one that OpenTelemetry installs,
    for instance, which hands records to an exporter.
    """

    @classmethod
    def install(cls) -> None:
        """Add one to the logger `ringbuf`, unless that has one."""
        if not any(isinstance(handler, cls) for handler in _logger.handlers):
            _logger.addHandler(cls(logging.WARNING))

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record in one line (and its exception), unless another handler does."""
        if not _is_written(record) and sys.stderr is not None:
            try:
                sys.stderr.write(f"ringbuf: {self.format(record)}\n")
            except (OSError, ValueError):  # closed, or nobody reads it
                return


def _is_written(record: logging.LogRecord) -> bool:
    """Return whether a handler of a stream or a file gets the record."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None:
        if any(isinstance(one, logging.StreamHandler) and record.levelno >= one.level for one in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False
