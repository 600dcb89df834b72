"""`ringbuf-drain replay`: delivers what a crash, a refusal or a damage left in files."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import zstandard
from isal.igzip_lib import IsalError

from drain.delivery.batch import Batch
from drain.delivery.delivery import Delivery
from drain.otlp.batch_number import BatchNumbers
from drain.replay import sources
from drain.replay.sources import SourceError, files_of, kept_from_the_drain, read, stamp_of
from ringbuf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import TextIO

    from structlog.typing import FilteringBoundLogger

    from drain.accounting.outcome import Outcome
    from drain.delivery.retry import RetryPolicy
    from drain.exporters.protocol import Exporter
    from drain.otlp.request import Request
    from drain.replay.sources import Piece, Stamp

_MOST_NOTES: Final = 5
_STOP_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 0.1


@dataclass(slots=True)
class _FileSegment:
    """Spans of a file: they hold up nothing, and a file names no service."""

    spans: int
    invalid: int = 0
    sampled_out: int = 0
    outcome: Outcome | None = None
    is_delivered: bool = False
    service: str = ""
    is_pressing: bool = False


@dataclass(slots=True)
class FileReport:
    """What became of a file.

    Attributes:
        path: of the file.
        delivered: spans that the backend took.
        undelivered: spans that it did not.
        invalid: records that are no spans.
        unreadable: lines, rows or lanes that cannot be read; 1 for a file that cannot be read at all.
        notes: why, the first few.
        waiting: spans that are on their way.
        is_left: it was to be removed, and could not be.
    """

    path: Path
    delivered: int = 0
    undelivered: int = 0
    invalid: int = 0
    unreadable: int = 0
    notes: list[str] = field(default_factory=list)
    waiting: int = 0
    is_left: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether everything in the file was delivered, and what was to be done with it is done."""
        return not (self.undelivered or self.invalid or self.unreadable or self.waiting or self.is_left)

    def note(self, text: str) -> None:
        """Keep a reason, if there are not enough."""
        if text and len(self.notes) < _MOST_NOTES:
            self.notes.append(text)

    def line(self) -> str:
        """Return the report for people."""
        parts = [f"{counted(self.delivered, 'span')} delivered"]
        parts += [
            text
            for count, text in (
                (self.undelivered, f"{self.undelivered:,} not delivered"),
                (self.invalid, counted(self.invalid, "invalid record")),
                (self.unreadable, counted(self.unreadable, "unreadable part")),
            )
            if count
        ]
        notes = f" ({'; '.join(self.notes)})" if self.notes else ""
        return f"{_printable(str(self.path))}: {', '.join(parts)}{notes}"


class _Sent(NamedTuple):
    batch: Batch
    report: FileReport
    answers_before: int


class Replay:
    """Sends files through an exporter.

    Args:
        exporter: the caller closes it.
        policy: when to send again, and when to give up.
        concurrency: batches that are sent at the same time.
        batch_spans: the most spans of a request that is made of a ring.
        log: of the delivery.
    """

    def __init__(
        self,
        exporter: Exporter,
        policy: RetryPolicy,
        *,
        concurrency: int,
        batch_spans: int,
        log: FilteringBoundLogger,
    ) -> None:
        self._exporter = exporter
        self._batch_spans = batch_spans
        self._settled = threading.Semaphore(0)
        self._delivery = Delivery(exporter, policy, concurrency, done=self._settled.release, log=log)
        self._gave_up = False  # on the backend: no second batch is to wait in vain
        self._on_their_way: deque[_Sent] = deque()
        self._numbers = BatchNumbers()  # of what comes without: a reader of Kafka adds up by them

    def run(self, paths: Iterable[Path], *, remove: bool) -> Iterator[FileReport]:
        """Deliver files one after the other; each report is yielded again and again while it grows.

        Args:
            paths: files, and folders of files.
            remove: unlink each file that was delivered whole.
        """
        for path in files_of(paths):
            report = FileReport(path)
            as_read: Stamp = ()
            with contextlib.ExitStack() as stack:
                try:
                    stack.enter_context(kept_from_the_drain(path))
                    as_read = stamp_of(path)
                    for piece in read(path, self._exporter.encoding, self._batch_spans):
                        self._take(piece, report)
                        yield report
                except (SourceError, OSError, EOFError, zstandard.ZstdError, IsalError) as error:  # type: ignore[misc]  # isal's has no type
                    report.unreadable += 1
                    report.note(str(error) or repr(error))
                while report.waiting:
                    self._settle_some()
                    yield report
                if remove and report.is_whole:
                    _remove(report, as_read)
            yield report

    def close(self) -> bool:
        """End the threads; return whether they all ended."""
        return self._delivery.stop(_STOP_SECONDS)

    def _take(self, piece: Piece, report: FileReport) -> None:
        report.invalid += piece.invalid
        report.unreadable += piece.unreadable
        report.note(piece.note)
        if piece.request is not None and self._gave_up:
            report.undelivered += piece.request.spans
        elif piece.request is not None:
            self._send(piece.request, report)

    def _send(self, request: Request, report: FileReport) -> None:
        while not self._delivery.has_room:
            self._settle_some()
        if request.batch is None:
            request = request.numbered(self._numbers.next(request.spans))
        batch = Batch([request], [_FileSegment(request.spans)])
        report.waiting += request.spans
        self._on_their_way.append(_Sent(batch, report, self._delivery.answers))
        self._delivery.send(batch)

    def _settle_some(self) -> None:
        """Wait for a delivery, a moment at most, and count what has come of those that are done."""
        self._settled.acquire(timeout=_LOOK_SECONDS)
        self._delivery.settled()
        for sent in list(self._on_their_way):
            outcome, report, spans = sent.batch.segments[0].outcome, sent.report, sent.batch.spans
            if outcome is not None:
                self._on_their_way.remove(sent)
                report.waiting -= spans
                report.delivered += outcome.delivered
                report.undelivered += spans - outcome.delivered
                # Attempts that time out are few: the breaker may not have seen enough of them.
                is_away = self._delivery.is_backend_down or self._delivery.answers == sent.answers_before
                self._gave_up |= not outcome.delivered and is_away


def _remove(report: FileReport, as_read: Stamp) -> None:
    try:
        sources.remove(report.path, as_read)
    except (SourceError, OSError) as error:
        report.is_left = True
        report.note(f"not removed: {error}")


def show(reports: Iterator[FileReport], to: TextIO, destination: str) -> bool:
    """Show how a replay gets on, and return whether everything was delivered.

    Args:
        reports: of `Replay.run`.
        to: a terminal gets a moving display, anything else a line for each file that is done.
        destination: where the spans went, for the last line.
    """
    done: list[FileReport] = []
    with contextlib.ExitStack() as stack:
        update = _display(stack, to)
        for report in reports:
            if not done or done[-1] is not report:
                done.append(report)
                if len(done) > 1:
                    update(done[-2], is_done=True)
            update(report, is_done=False)
        if done:
            update(done[-1], is_done=True)
    total = sum(report.delivered for report in done)
    missing = sum(report.undelivered for report in done)
    unsound = sum(report.invalid + report.unreadable for report in done)
    to.write(
        f"{counted(len(done), 'file')}, {counted(total, 'span')} delivered to {destination}, {missing:,} not delivered,"
        f" {unsound:,} invalid or unreadable\n"
    )
    to.flush()
    return bool(done) and all(report.is_whole for report in done)


def _display(stack: contextlib.ExitStack, to: TextIO) -> Any:
    if not to.isatty():

        def write_line(report: FileReport, *, is_done: bool) -> None:
            if is_done:
                to.write(report.line() + "\n")

        return write_line
    from rich.console import Console  # noqa: PLC0415 - 100 ms, for a terminal
    from rich.live import Live  # noqa: PLC0415 - likewise for a terminal
    from rich.text import Text  # noqa: PLC0415 - no markup: names come out of files

    console = Console(file=to)
    live = stack.enter_context(Live(console=console, transient=True, refresh_per_second=8))

    def move(report: FileReport, *, is_done: bool) -> None:
        if is_done:
            console.print(Text(report.line()))
        else:
            waiting = f", {report.waiting:,} on their way" if report.waiting else ""
            live.update(Text(report.line() + waiting))

    return move


def _printable(name: str) -> str:
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name)
