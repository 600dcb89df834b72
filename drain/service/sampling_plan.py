"""Which traces a service keeps, and where their spans wait."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from drain.exporters.protocol import partitioner_of
from drain.service.late_sampling import LateSampling

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from drain.accounting.span_metrics import SpanMetrics
    from drain.delivery.batch import Batcher
    from drain.exporters.protocol import Exporter
    from drain.sampling.hold.hold import Hold
    from drain.sampling.rules import Rules
    from drain.service.limits import Limits


class SamplingPlan(NamedTuple):
    """Late sampling of one service.

    Attributes:
        rules: decide.
        hold: has the spans that wait; its service closes it.
        rules_file: from which the rules are; None: from none.
    """

    rules: Rules
    hold: Hold
    rules_file: Path | None = None

    def decider(
        self,
        batcher: Batcher,
        exporter: Exporter,
        limits: Limits,
        *,
        metrics: SpanMetrics | None = None,
        log: FilteringBoundLogger,
        clock: Callable[[], float],
    ) -> LateSampling:
        """Return what decides by it, on the way to an exporter; see `LateSampling`."""
        return LateSampling(
            self.hold,
            self.rules,
            batcher,
            exporter.encoding,
            batch_bytes=limits.batch_bytes,
            partitioner=functools.partial(partitioner_of, exporter),
            counts_unsampled=limits.counts_unsampled,
            metrics=metrics,
            log=log,
            clock=clock,
        )
