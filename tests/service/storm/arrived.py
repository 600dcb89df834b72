"""Which numbered spans have arrived, of which services: each body is read once, however often somebody looks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from tests.service.draining import number_of

if TYPE_CHECKING:
    from collections.abc import Iterable


class Arrived:
    """The numbers that have arrived, by service."""

    def __init__(self) -> None:
        self.numbers: dict[str, Counter[int]] = {}

    def add(self, bodies: Iterable[bytes]) -> None:
        for body in bodies:
            for resource_spans in TracesData.FromString(body).resource_spans:
                named = {item.key: item.value.string_value for item in resource_spans.resource.attributes}
                numbers = self.numbers.setdefault(named["service.name"], Counter())
                for scope_spans in resource_spans.scope_spans:
                    numbers.update(number_of(span) for span in scope_spans.spans)

    def distinct(self, service: str) -> int:
        return len(self.numbers.get(service, ()))
