"""Late sampling in a folder, under a test's clock, and the records that it decides on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog
import structlog.testing
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from drain.accounting.outcome import Outcome
from drain.delivery.batch import Batcher
from drain.otlp.encoder import to_resource_spans
from drain.sampling.hold.hold import Hold
from drain.sampling.rules import DEFAULT, Rule, Rules
from drain.sampling.seen_span import SeenSpan, seen_spans
from drain.sampling.trace_state import stated
from drain.service.late_sampling import LateSampling
from ringbuf.dataplane import DATAPLANE_LAYOUT as LAYOUT

if TYPE_CHECKING:
    from pathlib import Path

    from ringbuf.layout.layout import SpanLayout

SECOND = 10**9
ERRORS = Rule("errors", statuses=frozenset({2}))
RULES = Rules((ERRORS, Rule("half", ratio=0.5, kinds=frozenset({3})), Rule(DEFAULT, ratio=0.1)), is_head_open=True)
OTHERS = Rules((ERRORS, Rule("half", ratio=0.02, kinds=frozenset({3})), Rule(DEFAULT, ratio=0.9)), is_head_open=True)


class Bench:
    """Late sampling in a folder, its clock, and what was delivered."""

    def __init__(
        self, folder: Path, rules: Rules = RULES, capacity_bytes: int = 1 << 20, *, counts_unsampled: bool = False
    ) -> None:
        self.folder, self.rules, self.capacity_bytes = folder, rules, capacity_bytes
        self.counts_unsampled = counts_unsampled
        self.now_nano = 1_000 * SECOND
        self.delivered: dict[bytes, Any] = {}
        self.partitioner: Any = None
        self.open()

    def open(self) -> None:
        log = structlog.get_logger()
        self.hold = Hold(
            self.folder / "hold", self.capacity_bytes, chunk_bytes=1 << 16, log=log, clock_nano=lambda: self.now_nano
        )
        self.batcher = Batcher("protobuf", 100, 1 << 20)
        self.late = LateSampling(
            self.hold,
            self.rules,
            self.batcher,
            "protobuf",
            batch_bytes=1 << 20,
            partitioner=lambda: self.partitioner,
            counts_unsampled=self.counts_unsampled,
            log=log,
            clock=lambda: self.now_nano / SECOND,
            clock_nano=lambda: self.now_nano,
        )

    def ring(self, number: int, layout: SpanLayout = LAYOUT) -> Any:
        ring: Any = SimpleNamespace(
            name=f"{number}.ring",
            layout=layout,
            owner=0,
            resource={"service.name": f"service {number}"},
            root_threshold=0,
            file=SimpleNamespace(inode=number),
            created_unix_nano=number,
        )
        self.late.join(ring)
        return ring

    def deliver(self, outcome: str = "delivered") -> int:
        """Send all that is in batches; return how many spans that were."""
        self.batcher.close()
        batches = list(self.batcher.full)
        self.batcher.full.clear()
        for batch in batches:
            if outcome == "delivered":
                for message in TracesData.FromString(batch.parts[0].body).resource_spans:
                    for span in message.scope_spans[0].spans:
                        assert span.span_id not in self.delivered
                        self.delivered[span.span_id] = span
            batch.decide(0, Outcome(**{outcome: batch.spans}))
        self.late.settle(batches)
        return sum(batch.spans for batch in batches)

    def check_law(self) -> None:
        sums = self.hold.sums().values()
        assert [one.unaccounted for one in sums] == [0] * len(sums)
        assert sum(one.waiting for one in sums) == self.late.waiting


def drawn(source: np.random.Generator, count: int, traces: int, first: int) -> np.ndarray[Any, Any]:
    records = np.zeros(count, LAYOUT.dtype)
    ids = np.zeros((count, 16), np.uint8)
    trace = source.integers(first, first + traces, count)
    for at, number in enumerate(trace.tolist()):
        ids[at] = np.frombuffer(np.random.default_rng(number).bytes(16), np.uint8)
    records["trace_id"] = ids
    records["span_id"] = source.integers(1, 256, (count, 8))
    records["parent_span_id"] = np.where(source.random((count, 1)) < 0.2, 0, 1)
    records["kind"], records["flags"] = source.integers(1, 5, count), 0x101
    records["status"] = np.where(source.random(count) < 0.05, 2, 0)
    records["start_unix_nano"], records["end_unix_nano"] = 1, 5
    return records


def span_of(trace: int, parent: int = 1) -> np.ndarray[Any, Any]:
    record = drawn(np.random.default_rng(trace), 1, 1, trace)
    record["status"], record["kind"], record["parent_span_id"] = 0, 1, parent
    record["span_id"][0, :2] = trace, parent
    return record


def seen(records: np.ndarray[Any, Any], service: str) -> list[SeenSpan]:
    message = to_resource_spans(records, LAYOUT, {"service.name": service})
    return list(seen_spans(TracesData(resource_spans=[message])))


def name_and_threshold(span: Any) -> tuple[str, int | None]:
    rule = next(item.value.string_value for item in span.attributes if item.key == "ringbuf.sampling.rule")
    return rule, stated(span.trace_state).threshold
