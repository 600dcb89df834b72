"""The drain's log: readable on a terminal, one JSON object a line anywhere else, always on standard error.

Logging never harms delivery: a line that cannot be written at once is dropped and counted (`lines_dropped`), and the
log says so when it can. Of warnings and errors of one kind so many are logged in a minute; the rest is counted, too.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from drain.standard_streams import STDERR, StandardStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from structlog.typing import EventDict, FilteringBoundLogger

_REPEAT_SECONDS: Final = 60.0
_LINES_OF_A_KIND: Final = 20
_LIMITED: Final = frozenset({"warning", "error", "exception", "critical"})
_LONGEST_NATIVE_LINE: Final = 1000
_LEVELS: Final = ("debug", "info", "warning", "error", "critical")

_lines_dropped = 0
_stream: StandardStream | None = None


def lines_dropped() -> int:
    """Return how many lines could not be written since this process began."""
    return _lines_dropped


def configure_log(level: str) -> FilteringBoundLogger:
    """Return the logger of this process, which drops lines below `level`: debug, info, warning or error."""
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    rendering: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if is_terminal:
        # Names come out of ring files: as reprs they cannot carry escape sequences to the terminal. The order of a line
        # is that in which it was written: what it is about comes first, and not what begins with an a.
        rendering.append(structlog.dev.ConsoleRenderer(repr_native_str=True, sort_keys=False))
    else:
        rendering.append(structlog.processors.JSONRenderer())
    global _stream  # noqa: PLW0603 - standard error, of which a process has one
    _stream = StandardStream(STDERR)
    sink = _Sink(_stream, rendering)
    set_level(level)
    structlog.configure(
        processors=[_threshold, _Limit(sink.warn), *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[0]),
        logger_factory=structlog.WriteLoggerFactory(sink),  # type: ignore[arg-type]  # it has what of a TextIO is used
    )
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


def set_level(level: str) -> None:
    """Drop lines below another level from now on, also of loggers that were bound before."""
    _threshold.level = level


def reopen_log() -> None:
    """Go on in the file that has the log's name now, where the log is a file and was rotated.

    Raises:
        OSError: it cannot be opened; the log goes on where it was.
    """
    if _stream is not None:
        _stream.reopen()


class _Threshold:
    """Drops lines below a level, which may change: of structlog's own filter a bound logger keeps that of its time."""

    def __init__(self) -> None:
        self.level = _LEVELS[0]

    def __call__(self, _logger: object, method: str, event: EventDict) -> EventDict:
        if method in _LEVELS[: _LEVELS.index(self.level)]:
            raise structlog.DropEvent
        return event


_threshold = _Threshold()


class _Sink:
    """Where lines go; none of its methods raises or waits.

    Args:
        stream: takes them.
        rendering: makes a line of an event, for those that this class has to say.
    """

    def __init__(self, stream: StandardStream, rendering: Sequence[Any]) -> None:
        self._stream = stream
        self._rendering = rendering
        self._lock = threading.Lock()
        self._untold = 0

    def write(self, line: str) -> None:
        global _lines_dropped  # noqa: PLW0603 - the number of a process, as its standard error is
        with self._lock:
            if self._untold and self._put(self._rendered("log lines could not be written", lines=self._untold)):
                self._untold = 0
            if not self._put(line):
                self._untold += 1
                _lines_dropped += 1

    def flush(self) -> None:
        pass

    def warn(self, event: str, **fields: object) -> None:
        self.write(self._rendered(event, **fields))

    def _put(self, line: str) -> bool:
        try:
            self._stream.write(line)
        except OSError:
            return False
        return True

    def _rendered(self, event: str, **fields: object) -> str:
        line: Any = {"event": event, **fields}
        for processor in self._rendering:
            line = processor(None, "warning", line)
        return f"{line}\n"


@dataclass(slots=True)
class _Minute:
    began: float
    lines: int = 0
    not_logged: int = 0


class _Limit:
    """Lets so many warnings and errors of a kind through in a minute, and says how many more there were.

    Args:
        tell: logs that.
        clock: seconds that never go back.
    """

    def __init__(self, tell: Callable[..., None], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock = clock
        self._lock = threading.Lock()
        self._minutes: dict[str, _Minute] = {}

    def __call__(self, _logger: object, method: str, event: EventDict) -> EventDict:
        kind = str(event.get("event"))
        with self._lock:
            now = self._clock()
            over = list(self._over(now))
            is_logged = method not in _LIMITED or self._counts(kind, now)
        for other, minute in over:
            if minute.not_logged:
                self._tell("more lines of a kind than are logged", kind=other, not_logged=minute.not_logged)
        if not is_logged:
            raise structlog.DropEvent
        return event

    def _counts(self, kind: str, now: float) -> bool:
        minute = self._minutes.setdefault(kind, _Minute(now))
        minute.lines += 1
        minute.not_logged += minute.lines > _LINES_OF_A_KIND
        return minute.lines <= _LINES_OF_A_KIND

    def _over(self, now: float) -> Iterator[tuple[str, _Minute]]:
        for kind, minute in list(self._minutes.items()):
            if now - minute.began >= _REPEAT_SECONDS:
                yield kind, self._minutes.pop(kind)


def log_native_lines(log: FilteringBoundLogger) -> None:
    """Let what C code writes to standard error go through the log, too: gRPC's core knows no other way.

    From now on descriptor 2 is a pipe into the log, which has the terminal, file or socket for itself.
    """
    # Python's own lines, tracebacks above all, stay what they are.
    sys.stderr = os.fdopen(os.dup(STDERR), "w", buffering=1, errors="backslashreplace")
    reader, writer = os.pipe()
    # C code that holds Python's lock would wait in a full pipe for a reader that waits for this lock.
    os.set_blocking(writer, False)
    os.dup2(writer, STDERR)
    os.close(writer)
    trouble = RepeatedTrouble(log)

    def run() -> None:
        with os.fdopen(reader, "rb") as lines:
            while line := lines.readline(_LONGEST_NATIVE_LINE):
                text = line.decode(errors="replace").strip()
                if text:
                    trouble.warn("a library wrote to standard error", text=text)

    threading.Thread(target=run, name="native-lines", daemon=True).start()


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
