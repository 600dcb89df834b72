"""Where the numbers are that the drain shows of itself, and how all of them are read at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drain.log import lines_dropped
from drain.telemetry.metric import Reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from drain.accounting.export_state import ExportState
    from drain.accounting.letter_sums import LetterStatus
    from drain.accounting.snapshot import SnapshotExchange
    from drain.accounting.span_metrics import SpanMetrics
    from drain.accounting.spool_status import SpoolStatus
    from drain.telemetry.health import Health
    from drain.telemetry.metric import MetricExports

_SNAPSHOT_TIMEOUT_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the numbers are; all may be asked by any thread.

    Attributes:
        snapshots: of the loop.
        exports: what came of the attempts.
        health: knows when the loop last went round.
        spans: None where span metrics are off.
        spool: what it holds; None where there is none.
        spool_capacity_bytes: what the spool may take.
        dead_letters: what is kept of them; None where there are none.
        seconds_until_attempt: says when the backend is tried next.
        connections_refused: by the listener, for want of room.
        metric_exports: what came of those by OTLP; None where there are none.
    """

    snapshots: SnapshotExchange
    exports: Callable[[], ExportState]
    health: Health
    spans: SpanMetrics | None = None
    spool: Callable[[], SpoolStatus] | None = None
    spool_capacity_bytes: int = 0
    dead_letters: Callable[[], LetterStatus] | None = None
    seconds_until_attempt: Callable[[], float] = lambda: 0.0
    connections_refused: Callable[[], int] = lambda: 0
    metric_exports: Callable[[], MetricExports | None] = lambda: None

    def read(self) -> Reading:
        """Read everything once; the loop is waited for a second."""
        snapshot, age = self.snapshots.take(_SNAPSHOT_TIMEOUT_SECONDS)
        return Reading(
            snapshot=snapshot,
            snapshot_age=age,
            exports=self.exports(),
            spans=self.spans,
            spool=None if self.spool is None else self.spool(),
            spool_capacity_bytes=self.spool_capacity_bytes,
            dead_letters=None if self.dead_letters is None else self.dead_letters(),
            seconds_until_attempt=self.seconds_until_attempt(),
            stalled_seconds=self.health.stalled_seconds,
            threads_ended=int(self.health.is_broken),
            connections_refused=self.connections_refused(),
            log_lines_dropped=lines_dropped(),
            metric_exports=self.metric_exports(),
        )
