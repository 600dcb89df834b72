"""The drain's log: readable on a terminal, one JSON object a line anywhere else, always on standard error."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Literal

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from structlog.typing import FilteringBoundLogger

LogLevel = Literal["debug", "info", "warning", "error"]

_REPEAT_SECONDS: Final = 60.0


def configure_log(level: LogLevel) -> FilteringBoundLogger:
    """Return the logger of this process, which drops lines below `level`."""
    is_terminal = sys.stderr.isatty()
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=not is_terminal),
        structlog.processors.format_exc_info,
    ]
    if is_terminal:
        # Names come out of ring files: as reprs they cannot carry escape sequences to the terminal.
        processors.append(structlog.dev.ConsoleRenderer(repr_native_str=True))
    else:
        processors.append(structlog.processors.JSONRenderer())
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


class RepeatedTrouble:
    """Logs the first of each kind of trouble at once, then a line a minute with the number of those in between.

    Args:
        log: where to.
        clock: seconds that never go back.
    """

    def __init__(self, log: FilteringBoundLogger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._since: dict[str, float] = {}  # by event: when it was last logged
        self._unlogged: dict[str, int] = {}

    def warn(self, event: str, **fields: object) -> None:
        """Log `event`, or count it when it was logged less than a minute ago."""
        self._tell(self._log.warning, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Do the same with what somebody should see to."""
        self._tell(self._log.error, event, fields)

    def _tell(self, log: Callable[..., object], event: str, fields: Mapping[str, object]) -> None:
        with self._lock:
            now = self._clock()
            if now - self._since.get(event, -_REPEAT_SECONDS) < _REPEAT_SECONDS:
                self._unlogged[event] = self._unlogged.get(event, 0) + 1
                return
            self._since[event] = now
            more = self._unlogged.pop(event, 0)
        log(event, **fields, **({"not_logged": more} if more else {}))
