"""The metrics are those of the table, in the code and in docs/metrics.md, and say what their sources say."""

from __future__ import annotations

import gzip
import re
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from drain.accounting.snapshot import Snapshot, SnapshotExchange
from drain.accounting.sums import Sums
from drain.exporters.measured import MeasuredExporter
from drain.exporters.protocol import Result, Verdict
from drain.otlp.gzip_writers import WRITERS, Ways
from drain.otlp.request import Request
from drain.telemetry.health import Health
from drain.telemetry.metric_table import METRICS
from drain.telemetry.metrics import DrainCollector, registry_of
from tests.clocks import Clock

from .full_drain import FULL, Backend, full_sources, request, sources

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric
    from prometheus_client.samples import Sample


ROOT = Path(__file__).parents[3]


def registry(snapshot: Snapshot, exporter: MeasuredExporter, clock: Clock, **more: Any) -> CollectorRegistry:
    return registry_of(DrainCollector(sources(snapshot, exporter, clock, **more)))


@pytest.fixture
def full_registry() -> CollectorRegistry:
    return registry_of(DrainCollector(full_sources()))


def samples(of: CollectorRegistry) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    sample: Sample
    for family in families_of(of):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, "a series is there twice"
            found[key] = sample.value
    return found


def families_of(of: CollectorRegistry) -> list[Metric]:
    """Return what a strict reader of OpenMetrics makes of the exposition."""
    return list(parse_openmetrics(generate_openmetrics(of).decode()))  # type: ignore[no-untyped-call]  # its reader has no types


def value(of: CollectorRegistry, name: str, **labels: str) -> float:
    return samples(of)[f"ringbuf_{name}", frozenset(labels.items())]


def test_the_exposition_has_each_metric_of_the_table_with_its_labels_and_no_other(
    full_registry: CollectorRegistry,
) -> None:
    families = {family.name: family for family in families_of(full_registry) if not family.name.startswith("process_")}
    assert list(families) == [metric.name.removesuffix("_total") for metric in METRICS]
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        assert family.samples, f"{metric.name} is never seen"
        fixed = set(metric.labels) - {"…"}
        for sample in family.samples:
            labels = set(sample.labels) - {"le"}
            assert labels == fixed or ("…" in metric.labels and labels == {*fixed, "grafos_outcome"})


def test_brokers_are_shown_each_with_what_is_known_of_it(full_registry: CollectorRegistry) -> None:
    shown = samples(full_registry)
    first, second = (frozenset({("broker", name)}) for name in ("h:9092/1", "h:9093/2"))
    assert shown["ringbuf_drain_kafka_round_trip_seconds", first] == 0.004
    assert shown["ringbuf_drain_kafka_throttle_seconds", first] == 0.5
    assert ("ringbuf_drain_kafka_round_trip_seconds", second) not in shown  # it was asked nothing
    assert [shown["ringbuf_drain_kafka_errors_total", broker] for broker in (first, second)] == [2, 0]
    assert shown["ringbuf_drain_kafka_partitions_without_leader", frozenset()] == 1


def test_the_page_of_the_documentation_has_the_same_table() -> None:
    rows = re.findall(
        r"^\| `(ringbuf_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE
    )
    assert rows == [
        (metric.name, metric.kind, ", ".join(f"`{label}`" for label in metric.labels), metric.help)
        for metric in METRICS
    ]


def test_names_follow_the_conventions_of_prometheus(
    full_registry: CollectorRegistry, debian_program: Callable[[str], str]
) -> None:
    lint = [debian_program("promtool"), "check", "metrics"]
    run = subprocess.run(lint, input=generate_latest(full_registry), capture_output=True, check=False, timeout=60)
    assert (run.returncode, run.stdout + run.stderr) == (0, b"")


def test_what_became_of_the_spans_adds_up_by_service(full_registry: CollectorRegistry) -> None:
    outcomes = ["delivered_total", "spooled_total", "rejected_total", "dead_lettered_total", "invalid_total"]
    outcomes.append("sampled_out_total")
    for service, received in (("shop", 101), ("bank", 10)):
        names = [*outcomes, "quarantined", "pending", "unaccounted"]
        parts = [value(full_registry, f"drain_spans_{name}", service=service) for name in names]
        assert sum(parts) == value(full_registry, "drain_spans_received_total", service=service) == received
    assert value(full_registry, "drain_spans_unaccounted", service="shop") == 0
    assert value(full_registry, "drain_spans_unaccounted", service="bank") == 1


def test_drops_are_told_by_reason_and_what_was_not_sampled_is_no_drop(full_registry: CollectorRegistry) -> None:
    reasons = {
        dict(labels)["reason"]: number
        for (name, labels), number in samples(full_registry).items()
        if name == "ringbuf_drain_spans_dropped_total" and ("service", "shop") in labels
    }
    assert reasons == {"full": 11, "contended": 12}
    assert value(full_registry, "drain_spans_unsampled_total", service="shop") == 14
    assert value(full_registry, "drain_values_truncated_total", service="shop") == 15
    assert value(full_registry, "drain_values_invalid_total", service="shop") == 16


def test_lag_is_zero_for_a_service_of_which_nothing_is_pending(full_registry: CollectorRegistry) -> None:
    assert value(full_registry, "drain_lag_seconds", service="shop") == 1.5
    assert value(full_registry, "drain_lag_seconds", service="bank") == 0


def test_services_whose_names_are_the_same_once_cut_are_added() -> None:
    clock = Clock()
    snapshot = Snapshot(services={"x" * 500: Sums(published=1), "x" * 501: Sums(published=2)})
    of = registry(snapshot, MeasuredExporter(Backend(clock)), clock)
    names = {dict(labels)["service"]: number for (name, labels), number in samples(of).items() if "received" in name}
    assert names == {"x" * 119 + "…": 3}


def test_a_service_name_cannot_add_lines_to_the_exposition() -> None:
    clock = Clock()
    hostile = 'x"} 1\nevil_total{a="\\'
    of = registry(Snapshot(services={hostile: Sums(published=1)}), MeasuredExporter(Backend(clock)), clock)
    assert value(of, "drain_spans_received_total", service=hostile) == 1
    assert not [line for line in generate_latest(of).decode().splitlines() if line.startswith("evil")]


def test_what_waits_for_a_decision_is_told_with_its_law(full_registry: CollectorRegistry) -> None:
    left = [n for (name, _), n in samples(full_registry).items() if name == "ringbuf_drain_hold_spans_left_total"]
    assert sum(left) + value(full_registry, "drain_hold_spans", service="shop") == 105
    assert value(full_registry, "drain_hold_spans_left_total", service="shop", outcome="sampled_out") == 14
    assert value(full_registry, "drain_hold_used_bytes") == 4 << 20
    assert value(full_registry, "drain_hold_capacity_bytes") == 8 << 20
    assert value(full_registry, "drain_hold_kept_spans") == 6
    assert value(full_registry, "drain_hold_files_remade_total") == 2
    assert value(full_registry, "drain_hold_files_unsound_total") == 3


def test_what_rules_decide_is_told_by_rule_and_reason(full_registry: CollectorRegistry) -> None:
    assert value(full_registry, "drain_sampling_dry_run") == 1
    assert value(full_registry, "drain_sampling_waiting_traces") == 3
    assert value(full_registry, "drain_sampling_waiting_spans") == 8
    assert value(full_registry, "drain_sampling_oldest_wait_seconds") == 2.5
    assert value(full_registry, "drain_sampling_traces_total", rule="failures", reason="hold") == 1
    assert value(full_registry, "drain_sampling_traces_total", rule="rest", reason="timeout") == 18
    assert value(full_registry, "drain_sampling_kept_traces_total", rule="rest") == 3
    assert value(full_registry, "drain_sampling_spans_total", rule="rest", decision="kept") == 7
    assert value(full_registry, "drain_sampling_spans_total", rule="rest", decision="sampled_out") == 35
    assert value(full_registry, "drain_sampling_spans_total", rule="unsampled", decision="sampled_out") == 5
    assert value(full_registry, "drain_sampling_kept_ratio", rule="rest") == 0.125
    assert value(full_registry, "drain_sampling_malformed_trace_states_total") == 19
    assert value(full_registry, "drain_sampling_late_spans_total", decided="as_trace") == 5
    assert value(full_registry, "drain_sampling_late_spans_total", decided="for_itself") == 4


def test_attempts_are_counted_by_verdict_and_timed(full_registry: CollectorRegistry) -> None:
    for verdict in ("delivered", "retry", "refused", "too_large"):
        assert value(full_registry, "drain_export_attempts_total", verdict=verdict) == 1
    assert value(full_registry, "drain_export_duration_seconds_count") == 4
    assert value(full_registry, "drain_export_duration_seconds_sum") == pytest.approx(3.02)
    assert value(full_registry, "drain_export_duration_seconds_bucket", le="0.025") == 3
    assert value(full_registry, "drain_export_duration_seconds_bucket", le="2.5") == 3
    assert value(full_registry, "drain_export_duration_seconds_bucket", le="5.0") == 4
    assert value(full_registry, "drain_export_bytes_total", stage="encoded") == 100, "only what was delivered"
    assert value(full_registry, "drain_export_bytes_total", stage="sent") == 40
    assert value(full_registry, "drain_export_values_left_out_total") == 7


class WrittenStraight:
    """Records that are a gzip member without having been encoded."""

    body_bytes, size = 4, 128

    def encode(self) -> bytes:
        return b"body"

    def gzip(self) -> bytes:
        return gzip.compress(b"body")


def test_delivered_spans_are_counted_by_what_their_gzip_was_made_from(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    results = [Result(Verdict.RETRY), *[Result(Verdict.DELIVERED)] * 4]
    exporter = MeasuredExporter(Backend(clock, *((0.0, result) for result in results)), clock)
    straight, encoded = Request.of_records(WrittenStraight(), 5), Request(b"body", 3, "protobuf")
    stored, plain = Request.of_gzip(gzip.compress(b"body"), 7, "protobuf"), Request(b"body", 11, "protobuf")
    for sent in (straight, encoded, stored):
        sent.gzip()
    for sent in (straight, straight, encoded, stored, plain):
        exporter.export(sent)
    monkeypatch.setattr(WRITERS, "mistrusted", 2)
    monkeypatch.setattr(WRITERS, "ways", lambda: Ways(straight=4, unfit=3, large=1, mistrusted=2))
    of = registry(Snapshot(), exporter, clock)
    assert value(of, "drain_export_gzip_spans_total", made_from="records") == 5
    assert value(of, "drain_export_gzip_spans_total", made_from="body") == 3, "not what had been compressed before"
    assert value(of, "drain_export_gzip_mistrusted_layouts_total") == 2
    layouts = {way: value(of, "drain_export_gzip_layouts", way=way) for way in Ways._fields}
    assert layouts == {"straight": 4, "unfit": 3, "large": 1, "mistrusted": 2}


def test_a_backend_fails_from_the_first_refusal_until_it_accepts_something() -> None:
    clock = Clock()
    refusals = [(0.0, Result(verdict, message="no")) for verdict in (Verdict.RETRY, Verdict.REFUSED)]
    exporter = MeasuredExporter(Backend(clock, *refusals, (0.0, Result(Verdict.DELIVERED))), clock)
    assert exporter.state().failing_seconds == 0
    exporter.export(request())
    clock.now += 40
    assert exporter.state().failing_seconds == 40, "it is sent again"
    exporter.export(request())
    assert (exporter.state().failing_seconds, exporter.state().failure) == (40, "no")
    clock.now += 1000
    assert exporter.state().failing_seconds == 40, "there was nothing more to send"
    exporter.export(request())
    assert (exporter.state().failing_seconds, exporter.state().failure) == (0, "")


def test_a_backend_fails_no_longer_when_what_it_did_not_take_was_given_up() -> None:
    clock = Clock()
    exporter = MeasuredExporter(Backend(clock, (0.0, Result(Verdict.RETRY, message="no"))), clock)
    exporter.export(request())
    clock.now += 40
    assert exporter.state().failing_seconds == 40
    exporter.has_more = lambda: False
    assert (exporter.state().failing_seconds, exporter.state().failure) == (0, "")
    exporter.has_more = lambda: True
    assert exporter.state().failing_seconds == 40, "something came that it has not taken, either"


def test_an_exporter_that_raises_leaves_no_attempt_running() -> None:
    clock = Clock()
    exporter = MeasuredExporter(Backend(clock, (0.0, ValueError("does not parse"))), clock)
    with pytest.raises(ValueError, match="does not parse"):
        exporter.export(request())
    assert exporter.state().running == 0
    assert not any(exporter.state().attempts.values())


def test_the_spool_adds_up_by_service(full_registry: CollectorRegistry) -> None:
    for service, spooled in (("shop", 39 - 12), ("bank", 2)):
        left = [
            number
            for (name, labels), number in samples(full_registry).items()
            if name == "ringbuf_drain_spool_spans_left_total" and ("service", service) in labels
        ]
        assert len(left) == 6
        assert sum(left) + value(full_registry, "drain_spool_spans", service=service) == spooled
    assert value(full_registry, "drain_spool_size_bytes") == 4096
    assert value(full_registry, "drain_spool_capacity_bytes") == 8192
    assert value(full_registry, "drain_spool_refused_total", reason="failing") == 21
    assert value(full_registry, "drain_dead_letter_batches_total", event="failed") == 32
    assert value(full_registry, "drain_dead_letter_spans", service="shop") == 9
    assert value(full_registry, "drain_dead_letter_spans", service="bank") == 2
    assert value(full_registry, "drain_dead_letter_spans_left_total", service="shop", outcome="deleted") == 31
    assert value(full_registry, "drain_dead_letter_spans_left_total", service="bank", outcome="deleted") == 3
    assert value(full_registry, "drain_dead_letter_spans_left_total", service="shop", outcome="taken_away") == 10
    assert value(full_registry, "drain_dead_letter_size_bytes") == 11
    assert value(full_registry, "drain_dead_letter_capacity_bytes") == 4096


def test_without_a_spool_there_are_no_numbers_of_one() -> None:
    clock = Clock()
    names = {name for name, _ in samples(registry(Snapshot(), MeasuredExporter(Backend(clock)), clock))}
    assert not [name for name in names if "spool_" in name or "dead_letter_" in name]


def test_a_loop_that_does_not_answer_gives_the_last_numbers_and_their_age() -> None:
    clock = Clock()
    exchange = SnapshotExchange(lambda: None, clock)
    exchange.publish(FULL)
    clock.now += 60
    assert exchange.take(timeout=0.0) == (FULL, 60.0)
    assert exchange.is_wanted


def test_many_that_ask_get_one_snapshot() -> None:
    clock = Clock()
    made = []
    asked = threading.Event()
    exchange = SnapshotExchange(asked.set, clock)
    taken: list[Snapshot] = []
    threads = [threading.Thread(target=lambda: taken.append(exchange.take(timeout=120.0)[0])) for _ in range(20)]
    for thread in threads:
        thread.start()
    assert asked.wait(120)
    while len(taken) < len(threads):  # the loop
        if exchange.is_wanted:
            made.append(1)
            exchange.publish(FULL)
    for thread in threads:
        thread.join()
    assert all(snapshot is FULL for snapshot in taken)
    assert len(made) == 1, "the clock stands still: the first is as fresh as any"


def test_health_tells_a_loop_that_stands_and_a_backend_that_takes_nothing() -> None:
    clock = Clock()
    exporter = MeasuredExporter(Backend(clock, (0.0, Result(Verdict.RETRY, message="HTTP 503"))), clock)
    health = Health(exporter.state, clock)
    assert health.not_ready() == ["the ring directory is not served"]
    health.serves(True)
    assert health.not_ready() == []
    exporter.export(request())
    clock.now += 31
    health.beat()
    assert health.not_ready() == ["the backend has accepted nothing for 31 s: HTTP 503"]
    assert health.not_alive() == []
    clock.now += 11
    assert health.not_alive() == ["the loop has not gone round for 11 s"]
    assert len(health.not_ready()) == 2
