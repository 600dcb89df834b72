"""An exporter that is measured: attempts, what came of them, how long they took, and whether the backend takes any."""

from __future__ import annotations

import bisect
import threading
import time
from typing import TYPE_CHECKING

from drain.accounting.export_state import LATENCY_BOUNDS, ExportState
from drain.exporters.protocol import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from drain.exporters.protocol import Exporter, Result
    from drain.otlp.request import Encoding, Request


class MeasuredExporter:
    """Passes requests on to an exporter and keeps count.

    Args:
        exporter: does the work.
        clock: seconds that never go back.

    Attributes:
        when_gone: called by a thread that finds the reader gone (`Result.reader_is_gone`), each time.
    """

    def __init__(self, exporter: Exporter, clock: Callable[[], float] = time.monotonic) -> None:
        self.when_gone: Callable[[], None] = lambda: None
        self.encoding: Encoding = exporter.encoding
        self.endpoint = exporter.endpoint
        self._exporter = exporter
        self._clock = clock
        self._lock = threading.Lock()
        self._attempts = dict.fromkeys(Verdict, 0)
        self._latency_counts = [0] * (len(LATENCY_BOUNDS) + 1)
        self._latency_seconds = 0.0
        self._encoded_bytes = 0
        self._sent_bytes = 0
        self._running = 0
        self._failing_since: float | None = None
        self._failure = ""

    def export(self, request: Request) -> Result:
        """Make one attempt; see `drain.exporters.protocol.Exporter`."""
        with self._lock:
            self._running += 1
        started = self._clock()
        result = None
        try:
            result = self._exporter.export(request)
        finally:
            self._ended(started, request, result)
        if result.reader_is_gone:
            self.when_gone()
        return result

    def close(self) -> None:
        """Close the exporter."""
        self._exporter.close()

    def state(self) -> ExportState:
        """Return what came of the attempts so far."""
        with self._lock:
            return ExportState(
                attempts={verdict.value: count for verdict, count in self._attempts.items()},
                latency_counts=tuple(self._latency_counts),
                latency_seconds=self._latency_seconds,
                encoded_bytes=self._encoded_bytes,
                sent_bytes=self._sent_bytes,
                running=self._running,
                failing_seconds=0.0 if self._failing_since is None else self._clock() - self._failing_since,
                failure=self._failure,
            )

    def _ended(self, started: float, request: Request, result: Result | None) -> None:
        now = self._clock()
        with self._lock:
            self._running -= 1
            if result is None:
                return  # it raised: that is a fault of this program, not an attempt
            self._attempts[result.verdict] += 1
            self._latency_counts[bisect.bisect_left(LATENCY_BOUNDS, now - started)] += 1
            self._latency_seconds += now - started
            match result.verdict:
                case Verdict.DELIVERED:
                    self._encoded_bytes += len(request.body)
                    self._sent_bytes += result.sent_bytes or 0
                    self._failing_since, self._failure = None, ""
                case Verdict.RETRY | Verdict.REFUSED:
                    if self._failing_since is None:
                        self._failing_since = started
                    self._failure = result.message
                case Verdict.TOO_LARGE:
                    pass  # it answers, and its halves will tell more
