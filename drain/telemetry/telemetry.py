"""How the drain tells about itself: metrics and probes over HTTP, and the service manager's protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drain.accounting.span_metrics import SpanMetrics
from drain.telemetry.health import Health
from drain.telemetry.listener import Listener
from drain.telemetry.metrics import DrainCollector, Sources, registry_of
from drain.telemetry.systemd import ServiceManager

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from drain.accounting.snapshot import SnapshotExchange
    from drain.delivery.stores import Stores
    from drain.exporters.measured import MeasuredExporter
    from drain.settings.address import Address


class Telemetry:
    """What watches one service.

    Args:
        exporter: that the service sends with.
        stores: that the service has.
        max_series: of span metrics; 0: none are counted.
        log: for changes and trouble.

    Attributes:
        spans: the span metrics, None where there are none.
    """

    def __init__(
        self, exporter: MeasuredExporter, stores: Stores, max_series: int, *, log: FilteringBoundLogger
    ) -> None:
        self.spans = SpanMetrics(max_series) if max_series else None
        self._exporter = exporter
        self._stores = stores
        self._health = Health(exporter)
        self._manager = ServiceManager()
        self._log = log
        self._listener: Listener | None = None
        self._is_ready = False
        self._is_broken = False

    def listen(
        self,
        address: Address,
        snapshots: SnapshotExchange,
        seconds_until_attempt: Callable[[], float],
        spool_capacity_bytes: int,
    ) -> None:
        """Answer at an address until `close`.

        Args:
            address: where.
            snapshots: of the service that is watched.
            seconds_until_attempt: says when it tries the backend next.
            spool_capacity_bytes: what its spool may take, where it has one.

        Raises:
            OSError: nobody can listen there.
        """
        sources = Sources(
            snapshots=snapshots,
            exporter=self._exporter,
            health=self._health,
            spans=self.spans,
            spool=self._stores.spool,
            spool_capacity_bytes=spool_capacity_bytes,
            dead_letters=self._stores.dead_letters,
            seconds_until_attempt=seconds_until_attempt,
        )
        self._health.seconds_until_attempt = seconds_until_attempt
        registry = registry_of(
            DrainCollector(sources, lambda: self._listener.connections_refused if self._listener else 0)
        )
        self._listener = Listener(address, registry, self._health, log=self._log)
        host, port = self._listener.address
        self._log.info("listening", host=host, port=port)

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
        """Answer nobody any more; to be called before the service is closed."""
        if self._listener is not None:
            self._listener.close()
        self._manager.close()
