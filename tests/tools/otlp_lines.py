"""OTLP JSON lines made by hand, for what reads them."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any

START = 1_700_000_000_000_000_000


@dataclass
class Made:
    """A span as a test wants it; `json` says it in OTLP."""

    name: str = "read"
    start: int = START
    duration: int = 1000
    service: str = "shop"
    trace: int = 1
    span: int = 1
    parent: int = 0
    status: int = 0
    attributes: dict[str, str] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        made: dict[str, Any] = {
            "traceId": f"{self.trace:032x}",
            "spanId": f"{self.span:016x}",
            "name": self.name,
            "kind": 1,
            "startTimeUnixNano": str(self.start),
            "endTimeUnixNano": str(self.start + self.duration),
            "attributes": attributes(self.attributes),
        }
        if self.parent:
            made["parentSpanId"] = f"{self.parent:016x}"
        if self.status:
            made["status"] = {"code": self.status}
        return made


def attributes(of: dict[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in of.items()]


def line(spans: list[Made]) -> bytes:
    """Return spans as one line, with a `ResourceSpans` for each service."""
    by_service: dict[str, list[Made]] = {}
    for span in spans:
        by_service.setdefault(span.service, []).append(span)
    document = {
        "resourceSpans": [
            {
                "resource": {"attributes": attributes({"host.name": "here", "service.name": service})},
                "scopeSpans": [{"scope": {"name": "test"}, "spans": [span.json() for span in of_service]}],
            }
            for service, of_service in by_service.items()
        ]
    }
    return json.dumps(document).encode() + b"\n"


def lines(spans: list[Made], size: int = 100) -> bytes:
    """Return spans as lines of so many."""
    return b"".join(line(spans[at : at + size]) for at in range(0, len(spans), size))


def many_spans(count: int, seed: int = 219) -> list[Made]:
    """Return spans of three services, three names of which one has two operations, some failed, in no order of time."""
    random_ = random.Random(seed)  # noqa: S311 - the same spans every time
    made = []
    for number in range(count):
        name = random_.choice(["read", "read", "read", "write", "flush"])
        operation = {"op": random_.choice(["hit", "miss"])} if name == "read" else {}
        is_error = random_.random() < 0.05
        outcome = {"grafos.outcome": random_.choice(["timeout", "denied"]) if is_error else "ok"}
        made.append(
            Made(
                name=name,
                start=START + random_.randrange(20_000_000_000),
                duration=round(random_.lognormvariate(12, 2)),
                service=random_.choice(["front", "store", "disk"]),
                trace=1 + number // 3,
                span=1 + number,
                status=2 if is_error else 0,
                attributes={"other": "x", **operation, **outcome},
            )
        )
    random_.shuffle(made)
    return made
