"""The sizing model of a fleet: a few costs, and the arithmetic that predicts what any number of hosts takes.

A drain makes a batch when the batch delay is over or the batch is full, and cuts it into one request for each
destination. What that costs is so much for each span, each request and each batch, however large these are; and so much
for a drain that looks after its rings every few milliseconds, since something comes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_FEWEST_SPANS: Final = 60
"""Of a request: with fewer, compression makes so little of them that a span takes one and a half times the bytes."""


@dataclass(frozen=True, slots=True)
class Load:
    """What goes through, a second.

    Attributes:
        spans: spans.
        requests: requests, or messages of Kafka.
        batches: of which these are parts.
    """

    spans: float
    requests: float
    batches: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What goes through, and what it takes.

    Attributes:
        span: of each span.
        request: of each request, beside its spans.
        batch: of each batch, beside its requests.
        second: of each second in which there are any.
    """

    span: float = 0.0
    request: float = 0.0
    batch: float = 0.0
    second: float = 0.0

    @classmethod
    def from_measurements(cls, loads: Sequence[Load], costs: Sequence[float], *, of_drain: bool = False) -> Cost:
        """Return what explains these measurements best.

        Args:
            loads: as many as there are costs, or more; requests have few spans or many, batches one request or many.
            costs: what each of them took, a second.
            of_drain: whether batches cost something of their own, and being awake; who only gets requests knows of
                neither.
        """
        rows = [(load.spans, load.requests, *((load.batches, 1.0) if of_drain else ())) for load in loads]
        matrix = np.array(rows, float)
        matrix /= np.array(costs)[:, np.newaxis]  # so that a small cost counts for as much as a large one
        found, *_ = np.linalg.lstsq(matrix, np.ones(len(loads)))
        return cls(*map(float, found))

    def of(self, load: Load) -> float:
        """Return what this load takes, a second."""
        return self.span * load.spans + self.request * load.requests + self.batch * load.batches + self.second


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured on one machine.

    Attributes:
        emit: seconds of a core that a producer takes for a span, with two clock readings.
        drain: seconds of a core that a drain takes.
        drain_idle: cores that a drain takes without spans.
        gateway: seconds of a core that a gateway takes; zeros where there is none.
        gateway_idle: cores that a gateway takes without spans.
        wire: bytes that go to the one destination, compressed, without headers of HTTP and TCP.
        wire_of_parts: the same where batches are cut: neighbours are what spans are compressed by.
        stored: bytes of the spool's database, where each request is a row; its log and its reserve come on top, once.
        encoded: bytes of a span before compression.
        pause: seconds between two batches beside the batch delay.
    """

    emit: float
    drain: Cost
    drain_idle: float
    gateway: Cost
    gateway_idle: float
    wire: Cost
    wire_of_parts: Cost
    stored: Cost
    encoded: float
    pause: float


@dataclass(frozen=True, slots=True)
class Fleet:
    """How many of what.

    Attributes:
        hosts: each with one drain.
        rate: spans a second of a host.
        destinations: gateways or partitions, each of which gets a part of every batch.
        delay: seconds that a batch waits for more spans (`--batch-delay`).
        batch_spans: spans of a full batch (`--batch-spans`).
        batch_bytes: of a full batch, before compression (`--batch-bytes`; to Kafka no more than a message may have).
    """

    hosts: int
    rate: float
    destinations: int
    delay: float
    batch_spans: int = 8192
    batch_bytes: int = 4_000_000


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a fleet takes.

    Attributes:
        requests: a second, over all hosts.
        spans_in_request: on the average.
        producer_cores: of a host.
        drain_cores: of a host.
        gateway_cores: of all gateways together.
        host_bytes: a second, out of a host.
        fleet_bytes: a second, into all destinations.
        stored_bytes: a second, into the spool of a host, while nobody takes its spans.
    """

    requests: float
    spans_in_request: float
    producer_cores: float
    drain_cores: float
    gateway_cores: float
    host_bytes: float
    fleet_bytes: float
    stored_bytes: float

    @property
    def is_cut_too_fine(self) -> bool:
        """Whether requests have so few spans that they compress badly."""
        return self.spans_in_request < _FEWEST_SPANS


def predict(costs: Costs, fleet: Fleet) -> Prediction:
    """Return what a fleet takes, by these costs."""
    full = min(fleet.batch_spans, fleet.batch_bytes / costs.encoded)
    batches = max(1 / (fleet.delay + costs.pause), fleet.rate / full)
    # A batch with fewer spans than there are destinations has a request for each of its spans.
    of_host = Load(fleet.rate, min(batches * fleet.destinations, fleet.rate), batches)
    of_all = Load(fleet.hosts * of_host.spans, fleet.hosts * of_host.requests, fleet.hosts * batches)
    wire = costs.wire_of_parts if fleet.destinations > 1 else costs.wire
    return Prediction(
        requests=of_all.requests,
        spans_in_request=of_all.spans / of_all.requests,
        producer_cores=costs.emit * fleet.rate,
        drain_cores=costs.drain_idle + costs.drain.of(of_host),
        gateway_cores=fleet.destinations * costs.gateway_idle + costs.gateway.of(of_all),
        host_bytes=wire.of(of_host),
        fleet_bytes=wire.of(of_all),
        stored_bytes=costs.stored.of(of_host),
    )


def bounds(costs: Costs, fleet: Fleet, cores: float = 64, link: float = 1.25e9) -> dict[str, float]:
    """Return at how many spans a second of a host each resource is used up, by its name.

    Args:
        costs: of the machine that was measured; cores of another are taken for as fast.
        fleet: hosts and gateways; its rate is not looked at. Requests are taken to be full batches.
        cores: of each host and each gateway.
        link: bytes a second of each host and each gateway.
    """
    full = min(fleet.batch_spans, fleet.batch_bytes / costs.encoded)
    a_span = Load(1.0, fleet.destinations / full, 1 / full)
    measured = (costs.drain, costs.gateway, costs.wire_of_parts if fleet.destinations > 1 else costs.wire)
    drain, gateway, wire = (replace(cost, second=0.0).of(a_span) for cost in measured)
    found = {
        "cores of a host, producers and drain": cores / (costs.emit + drain),
        "network of a host": link / wire,
        "network of the gateways": fleet.destinations * link / (fleet.hosts * wire),
    }
    if gateway:
        found["cores of the gateways"] = fleet.destinations * cores / (fleet.hosts * gateway)
    return found
