"""A drain of which everything is known, for what shows its metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drain.accounting.broker_state import Broker, BrokerState
from drain.accounting.export_state import EndpointState
from drain.accounting.hold_sums import HoldStatus, HoldSums
from drain.accounting.letter_sums import LetterStatus, LetterSums
from drain.accounting.sampling_status import RuleStatus, SamplingStatus
from drain.accounting.snapshot import Snapshot, SnapshotExchange
from drain.accounting.span_metrics import SpanMetrics
from drain.accounting.spool_status import SpoolStatus
from drain.accounting.spool_sums import SpoolSums
from drain.accounting.sums import Sums
from drain.exporters.measured import MeasuredExporter
from drain.exporters.protocol import Result, Verdict
from drain.otlp.request import Request
from drain.telemetry.health import Health
from drain.telemetry.metric import MetricExports
from drain.telemetry.sources import Sources
from ringbuf.phase219 import DATAPLANE_LAYOUT
from tests.clocks import Clock

if TYPE_CHECKING:
    from drain.otlp.request import Encoding

FULL = Snapshot(
    services={
        "shop": Sums(
            rings=2,
            published=101,
            sampled_out=1,
            delivered=60,
            spooled=20,
            rejected=5,
            dead_lettered=4,
            invalid=3,
            pending=6,
            quarantined=2,
            repeated=7,
            full=11,
            contended=12,
            unsampled=14,
            truncated=15,
            invalid_values=16,
        ),
        "bank": Sums(rings=1, published=10, delivered=9),
    },
    lag_seconds={"shop": 1.5},
    rings={"alive": 2, "ending": 1, "set_aside": 0, "left_alone": 1},
    quarantined_rings=3,
    batches_in_flight=4,
    hold=HoldStatus(
        {
            "shop": HoldSums(
                taken_up=5,
                held=100,
                delivered=10,
                spooled=11,
                rejected=12,
                dead_lettered=13,
                sampled_out=14,
                invalid=15,
                lost=16,
                waiting=14,
            )
        },
        used_bytes=4 << 20,
        capacity_bytes=8 << 20,
        remade=2,
        kept_spans=6,
        unsound=3,
    ),
    sampling=SamplingStatus(
        {
            "failures": RuleStatus({"rule": 17, "hold": 1}, kept_traces=18, kept_spans=40, sampled_out_spans=2),
            "rest": RuleStatus({"timeout": 18}, kept_traces=3, kept_spans=7, sampled_out_spans=35, probability=0.125),
        },
        is_dry_run=True,
        unsampled=5,
        late=9,
        late_kept=4,
        waiting_spans=8,
        waiting_traces=3,
        oldest_wait_seconds=2.5,
        malformed_trace_states=19,
    ),
)
SPOOL = SpoolStatus(
    services={
        "shop": SpoolSums(
            spooled=39, delivered=5, rejected=6, dead_lettered=7, expired=8, dropped=9, damaged=3, waiting=1
        ),
        "bank": SpoolSums(spooled=2, waiting=2),
    },
    services_before={"shop": SpoolSums(spooled=12, delivered=4, dropped=1, expired=7)},
    batches=2,
    held=1,
    body_bytes=100,
    file_bytes=4096,
    oldest_age_seconds=4.0,
    refused_full=20,
    refused_failing=21,
    set_aside=22,
    is_writable=True,
)


class Backend:
    """Gives the results it was made with, one after the other; each takes so many seconds of the clock."""

    encoding: Encoding = "protobuf"
    endpoint = "http://backend"

    def __init__(self, clock: Clock, *results: tuple[float, Result | Exception]) -> None:
        self.clock = clock
        self.results = list(results)

    def export(self, _request: Request) -> Result:
        seconds, result = self.results.pop(0)
        self.clock.now += seconds
        if isinstance(result, Exception):
            raise result
        return result

    def close(self) -> None:
        pass


def request(size: int = 100) -> Request:
    return Request(b"x" * size, 1, "protobuf")


LETTERS = LetterStatus(
    {
        "shop": LetterSums(found=20, kept=30, waiting=9, deleted=31, taken=10),
        "bank": LetterSums(kept=5, waiting=2, deleted=3),
    },
    *(2, 11, 4096),
    batches_kept=4,
    batches_failed=32,
)


def sources(
    snapshot: Snapshot, exporter: MeasuredExporter, clock: Clock, *, exponential: bool = False, **more: Any
) -> Sources:
    """Return where the numbers of this snapshot and exporter are, with one series of spans."""
    exchange = SnapshotExchange(lambda: exchange.publish(snapshot), clock)
    spans = SpanMetrics(100, exponential=exponential)
    records = DATAPLANE_LAYOUT.empty(3)
    records["trace_id"] = records["span_id"] = 1
    records["present"] = 1 << DATAPLANE_LAYOUT.index("grafos.outcome")
    records["start_unix_nano"], records["end_unix_nano"] = 0, 2_000_000
    summary = spans.of(DATAPLANE_LAYOUT, "shop").summarise(records, 0)
    assert summary is not None
    spans.add(summary)
    return Sources(
        exchange, exporter.state, Health(exporter.state, clock), spans, connections_refused=lambda: 17, **more
    )


ENDPOINTS = tuple(
    EndpointState(
        name,
        gateways=3,
        failing=1,
        open=1,
        away=1,
        attempts={"delivered": 4, "retry": 2, "refused": 0, "too large": 1},
        attempt_seconds=1.5,
        spans=500,
        handed_over=30,
    )
    for name in ("http://a:4318", "http://b:4318")
)
BROKERS = BrokerState(
    queued_messages=3,
    queued_bytes=700,
    brokers=(Broker("h:9092/1", 0.004, 0.5, 2), Broker("h:9093/2", None, None, 0)),
    partitions=4,
    partitions_without_leader=1,
    messages=11,
    message_bytes=5000,
    message_spans=900,
    producers=2,
)


def full_sources() -> Sources:
    """Return where every metric of the table has a value."""
    clock = Clock()
    delivered = Result(Verdict.DELIVERED, sent_bytes=40, values_left_out=7)
    refused = Result(Verdict.REFUSED)
    too_large = Result(Verdict.TOO_LARGE)
    exporter = MeasuredExporter(
        Backend(clock, (0.02, delivered), (3.0, Result(Verdict.RETRY)), (0.0, refused), (0.0, too_large)), clock
    )
    for _ in range(4):
        exporter.export(request())
    exporter._exporter.broker_state = lambda: BROKERS  # type: ignore[union-attr]  # one that has any
    exporter._exporter.endpoint_states = lambda: ENDPOINTS  # type: ignore[union-attr]  # one that has several
    return sources(
        FULL,
        exporter,
        clock,
        spool=lambda: SPOOL,
        spool_capacity_bytes=8192,
        dead_letters=lambda: LETTERS,
        metric_exports=lambda: MetricExports(41, 42, 43),
    )
