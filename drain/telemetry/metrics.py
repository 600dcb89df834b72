"""The drain's metrics as a collector of the Prometheus client: read when somebody asks, counted nowhere twice."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from drain.telemetry.metric import Distribution
from drain.telemetry.metric_table import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drain.telemetry.sources import Sources


class DrainCollector(Collector):
    """Reads everything at a scrape.

    Args:
        sources: what is read.
    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Family]:
        """Return all metric families, in the order of the table."""
        reading = self._sources.read()
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
