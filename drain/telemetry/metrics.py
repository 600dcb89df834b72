"""The drain's metrics as a collector of the Prometheus client: read when somebody asks, counted nowhere twice."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from drain.log import lines_dropped
from drain.telemetry.metric import Distribution, Reading
from drain.telemetry.metric_table import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drain.accounting.export_state import ExportState
    from drain.accounting.letter_sums import LetterStatus
    from drain.accounting.snapshot import SnapshotExchange
    from drain.accounting.span_metrics import SpanMetrics
    from drain.accounting.spool_status import SpoolStatus
    from drain.telemetry.health import Health

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
    """

    snapshots: SnapshotExchange
    exports: Callable[[], ExportState]
    health: Health
    spans: SpanMetrics | None = None
    spool: Callable[[], SpoolStatus] | None = None
    spool_capacity_bytes: int = 0
    dead_letters: Callable[[], LetterStatus] | None = None
    seconds_until_attempt: Callable[[], float] = lambda: 0.0


class DrainCollector(Collector):
    """Reads everything at a scrape.

    Args:
        sources: what is read.
        connections_refused: asked at each scrape.
    """

    def __init__(self, sources: Sources, connections_refused: Callable[[], int] = lambda: 0) -> None:
        self._sources = sources
        self._connections_refused = connections_refused

    def collect(self) -> Iterator[Family]:
        """Return all metric families, in the order of the table."""
        sources = self._sources
        snapshot, age = sources.snapshots.take(_SNAPSHOT_TIMEOUT_SECONDS)
        reading = Reading(
            snapshot=snapshot,
            snapshot_age=age,
            exports=sources.exports(),
            spans=sources.spans,
            spool=None if sources.spool is None else sources.spool(),
            spool_capacity_bytes=sources.spool_capacity_bytes,
            dead_letters=None if sources.dead_letters is None else sources.dead_letters(),
            seconds_until_attempt=sources.seconds_until_attempt(),
            stalled_seconds=sources.health.stalled_seconds,
            threads_ended=int(sources.health.is_broken),
            connections_refused=self._connections_refused(),
            log_lines_dropped=lines_dropped(),
        )
        for metric in METRICS:
            family = Family(metric.name.removesuffix("_total"), metric.help, metric.kind)
            for item in metric.read(reading):
                if isinstance(item, Distribution):
                    family.samples += _histogram(metric.name, item)
                else:
                    values, value = item
                    family.samples.append(Sample(metric.name, dict(zip(metric.labels, values, strict=True)), value))
            yield family

    def describe(self) -> list[Family]:
        """Return nothing: registering must not ask the loop."""
        return []


def _histogram(name: str, shown: Distribution) -> Iterator[Sample]:
    cumulative = list(accumulate(shown.counts))
    for bound, count in zip((*map(floatToGoString, shown.bounds), "+Inf"), cumulative, strict=True):
        yield Sample(f"{name}_bucket", {**shown.labels, "le": bound}, count)
    yield Sample(f"{name}_count", dict(shown.labels), cumulative[-1])
    yield Sample(f"{name}_sum", dict(shown.labels), shown.total)


def registry_of(collector: DrainCollector) -> CollectorRegistry:
    """Return a registry of its own with the drain's metrics and the process's."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    ProcessCollector(registry=registry)
    return registry
