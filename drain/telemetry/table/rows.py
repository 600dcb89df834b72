"""How rows of the table are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drain.telemetry.metric import Metric

if TYPE_CHECKING:
    from collections.abc import Callable

    from drain.telemetry.metric import Reading, Values


def counter(name: str, read: Callable[[Reading], Values], help_text: str, *labels: str, unit: str) -> Metric:
    """Return a counter of the drain; its name is made complete."""
    return Metric(f"ringbuf_drain_{name}_total", "counter", labels, help_text, read, unit)


def gauge(name: str, read: Callable[[Reading], Values], help_text: str, *labels: str, unit: str) -> Metric:
    """Return a gauge of the drain; its name is made complete."""
    return Metric(f"ringbuf_drain_{name}", "gauge", labels, help_text, read, unit)
