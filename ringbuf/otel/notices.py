"""What the bridge has to say to people: once, and where somebody sees it."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from typing import Final

_logger: Final = logging.getLogger("ringbuf")
_here: Final = threading.local()


class Notices:
    """The notices of one processor: each kind once, none from within another's handler, and never an exception.

    A handler of the program's may itself be traced: a span that fails while a notice of a failed span is on its way
    would be the next one, and so on without end.
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
        if kind in self._given or getattr(_here, "is_giving", False):
            return
        self._given.add(kind)
        _here.is_giving = True
        try:
            with contextlib.suppress(Exception):  # a handler's trouble is not the traced program's
                _logger.warning(message, *arguments, exc_info=exc_info)
        finally:
            _here.is_giving = False


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
