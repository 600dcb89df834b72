"""The drain's metrics: one table, each with its meaning, its unit and how it is read; its rows are in `table/`.

Nothing is counted here. `docs/metrics.md` has the same table; a test compares them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drain.telemetry.table.backend import BACKEND
from drain.telemetry.table.itself import ITSELF
from drain.telemetry.table.late_sampling import LATE_SAMPLING
from drain.telemetry.table.rings import RINGS
from drain.telemetry.table.spans import SPANS
from drain.telemetry.table.stores import STORES

if TYPE_CHECKING:
    from drain.telemetry.metric import Metric

METRICS: Final[tuple[Metric, ...]] = (*RINGS, *BACKEND, *LATE_SAMPLING, *STORES, *ITSELF, *SPANS)
"""Every metric that the drain sends by OTLP and exposes at /metrics; there the Prometheus client adds process_*."""
