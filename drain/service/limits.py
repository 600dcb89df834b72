"""The sizes and times of a service."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How batches are made, and how long a stop may take.

    Attributes:
        batch_spans: spans in a batch, at most.
        batch_bytes: of a batch, before compression.
        batch_delay: seconds that a batch waits for more spans.
        concurrency: batches that are sent at the same time.
        counts_unsampled: spans without the sampled flag are counted in the span metrics, and not delivered.
        decides_on_stop: what waits in the hold is decided by a stop, and not left for the next drain.
        shutdown_timeout: seconds that a stop may take; of `drain_once`, the seconds without a delivery that end it.
    """

    batch_spans: int
    batch_bytes: int
    batch_delay: float
    concurrency: int
    shutdown_timeout: float
    counts_unsampled: bool = False
    decides_on_stop: bool = False
