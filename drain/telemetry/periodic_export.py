"""Sends the metrics by OTLP at intervals, in a thread of its own: what hangs or fails there holds up nothing else."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from drain.exporters.protocol import Result, Verdict
from drain.log import RepeatedTrouble
from drain.otlp.request import Request
from drain.telemetry.metric import MetricExports

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from drain.exporters.protocol import Exporter
    from drain.telemetry.metric import Reading
    from drain.telemetry.otlp_metrics import OtlpMetrics

_LAST_SECONDS: Final = 5.0  # that the end of the drain waits for the last export
_LONGEST_PAUSE_SECONDS: Final = 300.0  # at which a receiver's Retry-After is cut


class PeriodicMetricExport:
    """Exports at each interval and once more at the end; begins at once, and lasts until `close`.

    Args:
        exporter: sends requests; it is closed with this.
        metrics: makes them.
        read: reads the metrics; may wait for the loop for a moment.
        interval: seconds from one export to the next.
        timeout: seconds, after which an export begins no further request.
        log: a line when exports begin to fail, and when they succeed again.
        clock_unix_nano: the time of the points.
    """

    def __init__(
        self,
        exporter: Exporter,
        metrics: OtlpMetrics,
        read: Callable[[], Reading],
        interval: float,
        *,
        timeout: float,
        log: FilteringBoundLogger,
        clock_unix_nano: Callable[[], int] = time.time_ns,
    ) -> None:
        self._exporter = exporter
        self._metrics = metrics
        self._read = read
        self._interval = interval
        self._timeout = timeout
        self._log = log
        self._trouble = RepeatedTrouble(log)
        self._clock_unix_nano = clock_unix_nano
        self._last_unix_nano = clock_unix_nano()
        self._is_failing = False
        self._delivered = self._failed = self._rejected = 0
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metric export", daemon=True)
        self._thread.start()

    def exports(self) -> MetricExports:
        """Return what came of the exports so far; any thread may ask."""
        return MetricExports(self._delivered, self._failed, self._rejected)

    def close(self, seconds: float = _LAST_SECONDS) -> bool:
        """Export once more, as far as that is possible within so many seconds; return whether the thread has ended."""
        self._is_closing.set()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        pause = self._interval
        while not self._is_closing.wait(pause):
            pause = max(self._interval, self._export())
        self._export()
        self._exporter.close()

    def _export(self) -> float:
        """Export once; return for how many seconds the receiver wants to be left alone."""
        end = time.monotonic() + self._timeout
        try:
            for number, request in enumerate(self._metrics.requests(self._read(), self._now())):
                if number and time.monotonic() >= end:
                    return self._failed_with(Result(Verdict.RETRY, message=f"an export may take {self._timeout:g} s"))
                body = request.message.SerializeToString()
                result = self._exporter.export(Request(body, request.points, "protobuf"))
                if result.verdict is not Verdict.DELIVERED:
                    return self._failed_with(result)
                request.acknowledge()
                self._note_rejected(result)
        except Exception as error:  # noqa: BLE001 - whatever it is: metrics are no reason for spans to stop
            self._failed += 1
            self._is_failing = True
            self._trouble.error("metrics cannot be exported", reason=repr(error))
            return 0.0
        self._delivered += 1
        if self._is_failing:
            self._is_failing = False
            self._log.info("metrics are taken again", to=self._exporter.endpoint)
        return 0.0

    def _failed_with(self, result: Result) -> float:
        self._failed += 1
        self._is_failing = True
        self._trouble.warn("metrics were not taken", to=self._exporter.endpoint, reason=result.message)
        return min(result.retry_after or 0.0, _LONGEST_PAUSE_SECONDS)

    def _note_rejected(self, result: Result) -> None:
        if result.rejected or result.message:
            self._rejected += result.rejected
            self._trouble.warn(
                "metrics were taken in part",
                to=self._exporter.endpoint,
                points_rejected=result.rejected,
                reason=result.message,
            )

    def _now(self) -> int:
        """Return the time, which for receivers must not go back, whatever the clock does."""
        self._last_unix_nano = max(self._clock_unix_nano(), self._last_unix_nano + 1)
        return self._last_unix_nano
