"""The whole way to a receiver that others wrote: Phase 219's doors, ring, drain process, OTLP, rotel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import urllib3
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

import ringbuf
from ringbuf.dataplane import LeaseId, OpType, Outcome, site
from tests.service.draining import run_once, spans_of, until

if TYPE_CHECKING:
    from pathlib import Path

    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    from tests.otlp_server import OtlpGrpcServer
    from tests.service.exporters.receivers import Receiver

LEASE = 0x000102030405060708090A0B0C0D0E0F
START = 1_700_000_000_000_000_000
COUNT = 300


@pytest.fixture(autouse=True)
def forget(behind_rotel: OtlpGrpcServer) -> None:
    behind_rotel.requests.clear()


def produce(ring_dir: Path) -> tuple[bytes, bytes]:
    """Emit a parent and its children; return the trace id and the parent's span id."""
    with ringbuf.Emitter("memory-node", ring_dir=ring_dir) as emitter:
        write, read = (site(op, emitter=emitter) for op in (OpType.FBMU_WRITE, OpType.FBMU_READ))
        lease = LeaseId(LEASE)
        with write.span(lease) as parent:
            for number in range(COUNT):
                assert read.emit(lease, START + number, START + number + 250, number, Outcome.HIT)
        return parent.trace_id, parent.span_id


def arrived(behind_rotel: OtlpGrpcServer, trace_id: bytes) -> list[Span]:
    """Return the spans of a trace, each once: what rotel was late to hear of it sends again."""
    # The request of the service has the fields of TracesData.
    found = {
        span.span_id: span
        for request in list(behind_rotel.requests)
        for span in spans_of(TracesData.FromString(request.message.SerializeToString()))
        if span.trace_id == trace_id
    }
    return [*found.values()]


def check(spans: list[Span], trace_id: bytes, parent_id: bytes) -> None:
    children = sorted((span for span in spans if span.parent_span_id), key=lambda span: span.start_time_unix_nano)
    (parent,) = (span for span in spans if not span.parent_span_id)
    assert (parent.trace_id, parent.span_id, parent.name) == (trace_id, parent_id, "grafos.dataplane.fbmu")
    assert len({span.span_id for span in spans}) == COUNT + 1
    for number, child in enumerate(children):
        assert (child.trace_id, child.parent_span_id) == (trace_id, parent_id)
        assert (child.start_time_unix_nano, child.end_time_unix_nano) == (START + number, START + number + 250)
        values = {pair.key: pair.value for pair in child.attributes}
        assert values["grafos.lease.id"].string_value == "000102030405060708090a0b0c0d0e0f"
        assert values["grafos.operation"].string_value == "fbmu_read"
        assert values["grafos.outcome"].string_value == "hit"
        assert values["grafos.bytes"].int_value == number


@pytest.mark.parametrize("exporter", ["otlp-grpc", "otlp-http", "otlp-http-json"])
def test_every_span_arrives_as_it_was_emitted(
    ring_dir: Path, tmp_path: Path, rotel_receiver: Receiver, behind_rotel: OtlpGrpcServer, exporter: str
) -> None:
    ids = produce(ring_dir)
    endpoint = rotel_receiver.grpc if exporter == "otlp-grpc" else rotel_receiver.http
    assert run_once(tmp_path / "log", ring_dir, "--exporter", exporter, "--endpoint", endpoint) == 0
    until(lambda: len(arrived(behind_rotel, ids[0])) == COUNT + 1)
    check(arrived(behind_rotel, ids[0]), *ids)


def test_the_lines_of_the_file_are_otlp_json_to_a_reader_that_others_wrote(
    ring_dir: Path, tmp_path: Path, rotel_receiver: Receiver, behind_rotel: OtlpGrpcServer
) -> None:
    ids = produce(ring_dir)
    output = tmp_path / "spans.jsonl"
    assert run_once(tmp_path / "log", ring_dir, "--exporter", "file", "--output", output) == 0
    with urllib3.PoolManager() as client:
        for line in output.read_bytes().splitlines():
            headers = {"Content-Type": "application/json"}
            reply = client.request("POST", f"{rotel_receiver.http}/v1/traces", body=line, headers=headers, timeout=120)
            assert reply.status == 200, reply.data
    until(lambda: len(arrived(behind_rotel, ids[0])) == COUNT + 1)
    check(arrived(behind_rotel, ids[0]), *ids)
