"""The drain's metrics as a collector of the Prometheus client: read when somebody asks, counted nowhere twice."""

from __future__ import annotations

import time
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as Shown
from prometheus_client.samples import Sample, Timestamp
from prometheus_client.utils import floatToGoString

from drain.accounting.exemplars import SHOWN_NANO
from drain.telemetry.metric import Distribution
from drain.telemetry.metric_table import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drain.accounting.exemplars import Exemplar
    from drain.telemetry.sources import Sources


class DrainCollector(Collector):
    """Reads everything at a scrape.

    Args:
        sources: what is read.
        clock_nano: CLOCK_MONOTONIC, that of exemplars.
    """

    def __init__(self, sources: Sources, clock_nano: Callable[[], int] = time.monotonic_ns) -> None:
        self._sources = sources
        self._clock_nano = clock_nano

    def collect(self) -> Iterator[Family]:
        """Return all metric families, in the order of the table."""
        reading, since_nano = self._sources.read(), self._clock_nano() - SHOWN_NANO
        for metric in METRICS:
            family = Family(metric.name.removesuffix("_total"), metric.help, metric.kind)
            for item in metric.read(reading):
                if isinstance(item, Distribution):
                    family.samples += _histogram(metric.name, item, since_nano)
                else:
                    values, value = item
                    family.samples.append(Sample(metric.name, dict(zip(metric.labels, values, strict=True)), value))
            yield family

    def describe(self) -> list[Family]:
        """Return nothing: registering must not ask the loop."""
        return []


def _histogram(name: str, shown: Distribution, since_nano: int) -> Iterator[Sample]:
    """Yield the samples of a histogram, with the exemplars that were seen since then."""
    cumulative = list(accumulate(shown.counts))
    exemplars = {one.bucket: _exemplar(one) for one in shown.exemplars if one.seen_nano >= since_nano}
    bounds = (*map(floatToGoString, shown.bounds), "+Inf")
    for bucket, (bound, count) in enumerate(zip(bounds, cumulative, strict=True)):
        yield Sample(f"{name}_bucket", {**shown.labels, "le": bound}, count, exemplar=exemplars.get(bucket))
    yield Sample(f"{name}_count", dict(shown.labels), cumulative[-1])
    yield Sample(f"{name}_sum", dict(shown.labels), shown.total)


def _exemplar(one: Exemplar) -> Shown:
    """Return an exemplar as the client library writes it in OpenMetrics; its labels have 63 of 128 characters."""
    labels = {"trace_id": one.trace_id.hex(), "span_id": one.span_id.hex()}
    return Shown(labels, one.seconds, Timestamp(*divmod(one.unix_nano, 1_000_000_000)))


def registry_of(collector: DrainCollector) -> CollectorRegistry:
    """Return a registry of its own with the drain's metrics and the process's."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    ProcessCollector(registry=registry)
    return registry
