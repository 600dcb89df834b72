"""What came of the attempts to send batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drain.accounting.broker_state import BrokerState

LATENCY_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the buckets of an attempt's duration, in seconds."""


@dataclass(frozen=True, slots=True)
class EndpointState:
    """What came of the attempts at one of several endpoints.

    Attributes:
        name: as it was configured, without what is secret.
        gateways: that there are behind the name: one, or one for each address.
        failing: of these, those whose last attempt came to nothing.
        open: of these, those whose breaker is open.
        away: of these, those whose spans the others get.
        attempts: by the verdict's word, as of `ExportState`.
        attempt_seconds: sum of their durations.
        spans: that were delivered to it.
        handed_over: spans that others got in its place.
        failure: what it said last, of an attempt that came to nothing; empty: nothing as yet.
    """

    name: str
    gateways: int
    failing: int
    open: int
    away: int
    attempts: Mapping[str, int]
    attempt_seconds: float
    spans: int
    handed_over: int
    failure: str = ""


@dataclass(frozen=True, slots=True)
class ExportState:
    """What came of the attempts so far.

    Attributes:
        attempts: by the verdict's word: "delivered", "retry", "refused", "too large".
        latency_counts: attempts by bucket, not cumulative; the last is beyond all bounds.
        latency_seconds: sum of their durations.
        latency_exponential: attempts by the buckets of `exponential_buckets` that have any.
        encoded_bytes: of the requests that were delivered, before compression.
        sent_bytes: of the same, as they went out; those of which the exporter cannot tell are left out.
        values_left_out: values that were left out of what was delivered.
        gzip_spans: of what was delivered and became gzip here, by what that was made from: "records", "body".
        mistrusted_layouts: that were not written rightly from records, so that they are encoded first.
        gzip_layouts: of the rings, by how gzip is made of their records: "straight", "unfit", "large", "mistrusted".
        running: attempts that have no verdict yet.
        failing_seconds: for how long the backend has accepted nothing that it was given; 0 when the last was accepted,
            or nothing waits any more of what it did not take.
            After a refusal for good it grows with the next attempt only: there may be nothing to send.
        failure: what it said last, empty when it is not failing.
        brokers: of an exporter to Kafka.
        endpoints: of an exporter to several.
    """

    attempts: Mapping[str, int]
    latency_counts: tuple[int, ...]
    latency_seconds: float
    latency_exponential: Mapping[int, int]
    encoded_bytes: int
    sent_bytes: int
    values_left_out: int
    gzip_spans: Mapping[str, int]
    mistrusted_layouts: int
    gzip_layouts: Mapping[str, int]
    running: int
    failing_seconds: float
    failure: str
    brokers: BrokerState | None = None
    endpoints: Sequence[EndpointState] = ()
