"""What became of the spans that a service had: as sums, as a picture for those who watch, as a table and a log line."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from drain.accounting.audit import log_audit, write_audit
from drain.accounting.hold_sums import HoldStatus
from drain.accounting.snapshot import Snapshot
from drain.log import RepeatedTrouble
from drain.rings.ring import Life

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from structlog.typing import FilteringBoundLogger

    from drain.accounting.audit import Audit
    from drain.accounting.hold_sums import HoldSums
    from drain.accounting.letter_sums import LetterSums
    from drain.accounting.spool_sums import SpoolSums
    from drain.accounting.sums import Sums
    from drain.delivery.delivery import Delivery
    from drain.delivery.stores import Stores
    from drain.exporters.protocol import Exporter
    from drain.rings.reader import Reader
    from drain.service.late_sampling import LateSampling
    from drain.standard_streams import TextStream


class Accounts:
    """The books of one service; all methods belong to its thread.

    Args:
        audit: the sums of rings that are gone.
        reader: the rings that are attached.
        delivery: what is on its way.
        stores: what is on disk.
        exporter: where the spans go.
        late: decides on traces, and has the hold; None: nobody does.
        log: for the audit's line.
        audit_to: where the audit's table goes.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        audit: Audit,
        reader: Reader,
        delivery: Delivery,
        stores: Stores,
        exporter: Exporter,
        *,
        late: LateSampling | None = None,
        log: FilteringBoundLogger,
        audit_to: TextStream,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._audit = audit
        self._reader = reader
        self._delivery = delivery
        self._spool = stores.spool
        self._dead_letters = stores.dead_letters
        self._exporter = exporter
        self._late = late
        self.failed_reloads = 0
        self._log = log
        self._audit_to = audit_to
        self._trouble = RepeatedTrouble(log, clock)

    def sums(self) -> dict[str, Sums]:
        """Return what became of the spans of each service."""
        self._reader.poll()
        return self._audit.by_service((ring.service, ring.sums()) for ring in self._reader.rings)

    def spool_sums(self) -> Mapping[str, SpoolSums]:
        """Return what became of the spooled spans of each service; empty without a spool."""
        return self._spool.status().services if self._spool else {}

    def letter_sums(self) -> Mapping[str, LetterSums] | None:
        """Return what became of the spans of each service in the dead letters; None where none are kept."""
        return dict(sorted(self._dead_letters.status().services.items())) if self._dead_letters else None

    def hold_sums(self) -> dict[str, HoldSums]:
        """Return what became of the held spans of each service since the start; empty where nobody decides."""
        return self._late.hold.sums() if self._late else {}

    def hold_waiting(self) -> int:
        """Return how many spans wait in the hold."""
        return sum(sums.waiting for sums in self.hold_sums().values())

    def hold_lost(self) -> int:
        """Return how many spans left the hold without a delivery though they were wanted, since this service began."""
        every = self.hold_sums().values()
        return sum(sums.rejected + sums.dead_lettered + sums.invalid + sums.lost for sums in every)

    def hold_status(self) -> HoldStatus | None:
        """Return what the hold does now; None where nobody decides."""
        if self._late is None:
            return None
        hold = self._late.hold
        sizes = (hold.used_bytes, hold.capacity_bytes)
        return HoldStatus(hold.sums(), *sizes, hold.remade, self._late.on_their_way, hold.unsound)

    def spool_waiting(self) -> int:
        """Return how many spans wait in the spool."""
        return sum(sums.waiting for sums in self.spool_sums().values())

    def spool_lost(self) -> int:
        """Return how many spans that were in the spool have left it without a delivery, since this service began."""
        if self._spool is None:
            return 0
        status = self._spool.status()
        return _lost(status.services) - _lost(status.services_before)

    def dropped(self) -> int:
        """Return how many spans producers could not write, since this service began."""
        return sum(sums.full + sums.contended for sums in self._since_start().values())

    def rings_seen(self) -> int:
        """Return how many rings were taken in."""
        return sum(sums.rings for sums in self.sums().values())

    def snapshot(self) -> Snapshot:
        """Return what the service does now, for those who watch."""
        self._reader.poll()
        rings = self._reader.rings
        now = time.time_ns()
        lag: dict[str, float] = {}
        for ring in rings:
            oldest = ring.oldest_unix_nano()
            if oldest is not None:
                lag[ring.service] = max(lag.get(ring.service, 0.0), (now - oldest) / 1e9)
        self._note_told()
        states = {life.value.replace(" ", "_"): sum(ring.life is life for ring in rings) for life in Life}
        return Snapshot(
            services=self._since_start(),
            lag_seconds=lag,
            rings={**states, "left_alone": self._reader.left_alone},
            quarantined_rings=self._reader.quarantined,
            batches_in_flight=self._delivery.in_flight,
            hold=self.hold_status(),
            sampling=self._late.status() if self._late else None,
            failed_reloads=self.failed_reloads + (self._late.not_renewed if self._late else 0),
        )

    def tell_audit(self) -> None:
        """Write the audit as a table, and to the log as one line."""
        services, spooled, letters = self.sums(), self.spool_sums(), self.letter_sums()
        held, sampling = self.hold_sums(), self._late.status() if self._late else None
        self._note_told()
        try:
            write_audit(services, self._audit_to, spooled, letters, self._exporter.endpoint, held, sampling)
        except OSError as error:  # a closed pipe is no reason to stop
            self._trouble.warn("audit cannot be written", reason=str(error))
        log_audit(self._log, services, spooled, letters, self._exporter.endpoint, held, sampling)

    def _note_told(self) -> None:
        """Note in the rings what is about to be told: no drain after this one tells it again."""
        for ring in self._reader.rings:
            ring.note_told()

    def _since_start(self) -> dict[str, Sums]:
        return self._audit.since_start((ring.service, ring.sums()) for ring in self._reader.rings)


def _lost(services: Mapping[str, SpoolSums]) -> int:
    """Return how many spans a spool ever took that were not delivered and do not wait."""
    return sum(sums.spooled - sums.delivered - sums.waiting for sums in services.values())
