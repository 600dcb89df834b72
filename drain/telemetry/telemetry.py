"""How the drain tells about itself: metrics and probes over HTTP, and the service manager's protocol."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from drain.accounting.span_metrics import SpanMetrics
from drain.telemetry.health import Health
from drain.telemetry.sources import Sources
from drain.telemetry.systemd import ServiceManager

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from drain.accounting.exemplars import ExemplarFilter
    from drain.accounting.export_state import ExportState
    from drain.accounting.letter_sums import LetterStatus
    from drain.accounting.snapshot import SnapshotExchange
    from drain.accounting.spool_status import SpoolStatus
    from drain.exporters.protocol import Exporter
    from drain.telemetry.listener import Listener
    from drain.telemetry.metric import MetricExports
    from drain.telemetry.periodic_export import PeriodicMetricExport
    from drain.telemetry.streams import TemporalityPreference


class Telemetry:
    """What watches one service.

    Args:
        exports: what came of the service's attempts.
        spool: what it holds; None: there is none.
        dead_letters: what is kept of them; None: there are none.
        max_series: of span metrics; 0: none are counted.
        exponential: count exponential histograms, and export these.
        exemplars: which spans may be some.
        log: for changes and trouble.

    Attributes:
        spans: the span metrics, None where there are none.
    """

    def __init__(
        self,
        exports: Callable[[], ExportState],
        *,
        spool: Callable[[], SpoolStatus] | None = None,
        dead_letters: Callable[[], LetterStatus] | None = None,
        max_series: int,
        exponential: bool = False,
        exemplars: ExemplarFilter = "trace_based",
        log: FilteringBoundLogger,
    ) -> None:
        self.spans = SpanMetrics(max_series, exponential=exponential, exemplars=exemplars) if max_series else None
        self._exponential = exponential
        self._exports = exports
        self._spool = spool
        self._dead_letters = dead_letters
        self._health = Health(exports)
        self._manager = ServiceManager()
        self._log = log
        self._listener: Listener | None = None
        self._export: PeriodicMetricExport | None = None
        self._start_unix_nano = time.time_ns()
        self._is_ready = False
        self._is_broken = False

    def listen(
        self,
        host: str,
        port: int,
        snapshots: SnapshotExchange,
        seconds_until_attempt: Callable[[], float],
        spool_capacity_bytes: int,
    ) -> str:
        """Answer at an address until `close`; return it for people, with the port that it got.

        Args:
            host: where; empty: on every interface.
            port: 0: any free one.
            snapshots: of the service that is watched.
            seconds_until_attempt: says when it tries the backend next.
            spool_capacity_bytes: what its spool may take, where it has one.

        Raises:
            OSError: nobody can listen there.
        """
        # Loaded by a drain that listens: the Prometheus client takes a tenth of a start.
        from drain.telemetry.listener import Listener  # noqa: PLC0415
        from drain.telemetry.metrics import DrainCollector, registry_of  # noqa: PLC0415

        sources = self._sources(snapshots, seconds_until_attempt, spool_capacity_bytes)
        self._listener = Listener(host, port, registry_of(DrainCollector(sources)), self._health, log=self._log)
        at_host, at_port = self._listener.address
        return f"[{at_host}]:{at_port}" if ":" in at_host else f"{at_host}:{at_port}"

    def export(
        self,
        exporter: Exporter,
        snapshots: SnapshotExchange,
        seconds_until_attempt: Callable[[], float],
        spool_capacity_bytes: int,
        *,
        interval: float,
        timeout: float,
        preference: TemporalityPreference,
    ) -> None:
        """Send the metrics by OTLP until `close`, and then once more.

        Args:
            exporter: to their receiver; it is closed with this.
            snapshots: of the service that is watched, like the rest as `listen` has it.
            seconds_until_attempt: as in `listen`.
            spool_capacity_bytes: as in `listen`.
            interval: seconds from one export to the next.
            timeout: seconds that one may take.
            preference: which metrics are told as differences.
        """
        # Loaded by a drain that exports.
        from drain.telemetry.otlp_metrics import OtlpMetrics  # noqa: PLC0415
        from drain.telemetry.periodic_export import PeriodicMetricExport  # noqa: PLC0415
        from drain.telemetry.streams import Streams  # noqa: PLC0415

        metrics = OtlpMetrics(Streams(self._start_unix_nano, preference), exponential=self._exponential)
        sources = self._sources(snapshots, seconds_until_attempt, spool_capacity_bytes)
        self._export = PeriodicMetricExport(exporter, metrics, sources.read, interval, timeout=timeout, log=self._log)

    def _sources(
        self, snapshots: SnapshotExchange, seconds_until_attempt: Callable[[], float], spool_capacity_bytes: int
    ) -> Sources:
        self._health.seconds_until_attempt = seconds_until_attempt
        return Sources(
            snapshots=snapshots,
            exports=self._exports,
            health=self._health,
            spans=self.spans,
            spool=self._spool,
            spool_capacity_bytes=spool_capacity_bytes,
            dead_letters=self._dead_letters,
            seconds_until_attempt=seconds_until_attempt,
            connections_refused=lambda: self._listener.connections_refused if self._listener else 0,
            metric_exports=self._metric_exports,
        )

    def _metric_exports(self) -> MetricExports | None:
        return None if self._export is None else self._export.exports()

    def went_round(self, status: Callable[[], str]) -> None:
        """Note that the service's loop goes round; it calls this each time.

        Args:
            status: one line about what it does.
        """
        self._health.beat()
        if not self._is_ready:
            self._is_ready = True
            self._health.serves(True)
            self._manager.ready(status())
        if not self._is_broken:  # a service manager with a watchdog is to end it, if it does not end by itself
            self._manager.alive(status)

    def stopping(self, status: str) -> None:
        """Note that the service delivers what is there, and ends."""
        self._health.serves(False)
        self._manager.stopping(status)

    def broke(self, reason: str) -> None:
        """Note that a thread has ended that was to go on."""
        self._is_broken = True
        self._health.broke(reason)

    def close(self) -> None:
        """Answer nobody any more, and export for the last time, though one raises; before the service is closed."""
        with contextlib.ExitStack() as closing:  # the last first
            closing.callback(self._manager.close)
            if self._export is not None:
                closing.callback(self._end_export, self._export)
            if self._listener is not None:
                closing.callback(self._listener.close)

    def _end_export(self, export: PeriodicMetricExport) -> None:
        if not export.close():
            self._log.warning("the last export of metrics was given up: their receiver does not answer")
