"""A processor with small rings, and a provider with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.trace import TracerProvider

from ringbuf.otel import RingSpanProcessor
from tests.unit.otel.arrived import RESOURCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def processor(ring_dir: Path) -> Iterator[RingSpanProcessor]:
    made = RingSpanProcessor(ring_dir=ring_dir, slot_bytes=1024, capacity=16, large_capacity=8)
    yield made
    made.shutdown()


@pytest.fixture
def provider(processor: RingSpanProcessor) -> TracerProvider:
    made = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    made.add_span_processor(processor)
    return made
