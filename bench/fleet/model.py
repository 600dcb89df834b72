"""The sizing model of a fleet: a few costs, and the arithmetic that predicts what any number of hosts takes.

A drain makes a batch when the batch delay is over or the batch is full, and cuts it into one request for each
destination. What that costs is so much for each span, each request and each batch, however large these are; and so much
for a drain that looks after its rings every few milliseconds, since something comes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

# The spool's database: what a row has beside its body, and in the indexes; what SQLite's format has of its own.
_COLUMNS_BYTES: Final = 140
_INDEXES_BYTES: Final = 60
_PAGE_BYTES: Final = 4096
_PAGE_HEADER_BYTES: Final = 8
_MOST_INSIDE_BYTES: Final = _PAGE_BYTES - 35
_CELL_BYTES: Final = 8
_OVERFLOW_BYTES: Final = _PAGE_BYTES - 4
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
        request: of each request, beside its spans; of a producer, each burst of spans between two pauses.
        batch: of each batch, beside its requests.
        second: of each second in which there are any.
    """

    span: float = 0.0
    request: float = 0.0
    batch: float = 0.0
    second: float = 0.0

    @classmethod
    def from_measurements(cls, loads: Sequence[Load], costs: Sequence[float], *, of_drain: bool = False) -> Cost:
        """Return what explains these measurements best; nothing costs less than nothing.

        Args:
            loads: as many as there are costs, or more; requests have few spans or many, batches one request or many.
            costs: what each of them took, a second.
            of_drain: whether batches cost something of their own, and being awake; who only gets requests knows of
                neither.
        """
        matrix = np.array([(load.spans, load.requests, load.batches, 1.0) for load in loads])
        matrix /= np.array(costs)[:, np.newaxis]  # so that a small cost counts for as much as a large one
        kept = list(range(4 if of_drain else 2))
        found = np.zeros(4)
        while True:
            found[:] = 0.0
            found[kept], *_ = np.linalg.lstsq(matrix[:, kept], np.ones(len(loads)))
            least = int(np.argmin(found))
            if found[least] >= 0.0:
                return cls(*map(float, found))
            # What differs by less than the measurements' noise would else be paid back by what it comes with.
            kept.remove(least)

    def of(self, load: Load) -> float:
        """Return what this load takes, a second."""
        return self.span * load.spans + self.request * load.requests + self.batch * load.batches + self.second


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured on one machine.

    Attributes:
        emit: seconds of a core that a producer takes, with two clock readings a span.
        drain: seconds of a core that a drain takes.
        drain_idle: cores that a drain takes without spans.
        gateway: seconds of a core that a gateway takes; zeros where there is none.
        gateway_idle: cores that a gateway takes without spans.
        wire: bytes that go to the destinations, compressed, without headers of HTTP and TCP.
        encoded: bytes of a span before compression.
        pause: seconds between two batches beside the batch delay.
    """

    emit: Cost
    drain: Cost
    drain_idle: float
    gateway: Cost
    gateway_idle: float
    wire: Cost
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
        batch_spans: spans with which a batch waits for no more (half of `--batch-spans`, or 8,192 if that is more).
        batch_bytes: of a full batch, before compression (`--batch-bytes`; to Kafka no more than a message may have).
        bursts: a second, in which a host's producers emit.
    """

    hosts: int
    rate: float
    destinations: int
    delay: float
    batch_spans: int = 8192
    batch_bytes: int = 4_000_000
    bursts: float = 50.0


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
    of_producer = Load(fleet.rate, min(fleet.bursts, fleet.rate), 0.0)
    return Prediction(
        requests=of_all.requests,
        spans_in_request=of_all.spans / of_all.requests,
        producer_cores=costs.emit.of(of_producer),
        drain_cores=costs.drain_idle + costs.drain.of(of_host),
        gateway_cores=fleet.destinations * costs.gateway_idle + costs.gateway.of(of_all),
        host_bytes=costs.wire.of(of_host),
        fleet_bytes=costs.wire.of(of_all),
        stored_bytes=of_host.requests * _mean_row(costs.wire, of_host.spans / of_host.requests),
    )


def row_bytes(body_bytes: float) -> float:
    """Return what a request takes in the spool's database, where it is a row.

    Small rows share a page, as many as fit whole; of a large one a part is in a page of that kind, and the rest in
    pages of its own, which the format has full.

    Args:
        body_bytes: of the request, compressed.
    """
    payload = body_bytes + _COLUMNS_BYTES
    own_pages = 0.0
    if payload > _MOST_INSIDE_BYTES:
        least = (_PAGE_BYTES - 12) * 32 // 255 - 23
        inside = least + (payload - least) % _OVERFLOW_BYTES
        inside = inside if inside <= _MOST_INSIDE_BYTES else least
        own_pages = (payload - inside) / _OVERFLOW_BYTES
        payload = inside
    in_a_page = (_PAGE_BYTES - _PAGE_HEADER_BYTES) // (payload + _CELL_BYTES)
    return _PAGE_BYTES * (own_pages + 1 / max(1, in_a_page)) + _INDEXES_BYTES


def _mean_row(wire: Cost, spans: float) -> float:
    """Return the same for a request of so many spans on the average: some have more, and some less."""
    spread = math.sqrt(spans)
    every = [max(1.0, spans + share * spread) for share in (-1.0, -0.5, 0.0, 0.5, 1.0)]
    return sum(row_bytes(wire.request + wire.span * one) for one in every) / len(every)


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
    measured = (costs.drain, costs.gateway, costs.wire)
    drain, gateway, wire = (replace(cost, second=0.0).of(a_span) for cost in measured)
    found = {
        "cores of a host, producers and drain": cores / (costs.emit.span + drain),
        "network of a host": link / wire,
        "network of the gateways": fleet.destinations * link / (fleet.hosts * wire),
    }
    if gateway:
        found["cores of the gateways"] = fleet.destinations * cores / (fleet.hosts * gateway)
    return found
