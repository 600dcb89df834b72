"""The exporter to Kafka before brokers that speak the protocol: librdkafka's mock cluster, and noida-db."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal

import pytest
import trustme
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData
from structlog.testing import capture_logs

from drain.delivery.halves import by_destination
from drain.exporters.kafka.options import KafkaOptions
from drain.exporters.protocol import Verdict
from drain.otlp.batch_number import BatchNumber
from drain.otlp.request import Request
from tests.kafka.cluster import MockCluster
from tests.nursery import shared
from tests.service.draining import DrainProcess, ProducerProcess, number_of, run_once, spans_of
from tests.unit.test_kafka_audit import example
from tests.waiting import SECONDS, until

pytest.importorskip("confluent_kafka", reason="needs confluent-kafka, the extra [kafka]")

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic  # type: ignore[attr-defined]  # its documents name both

from drain.exporters.kafka.exporter import KafkaExporter
from drain.exporters.kafka.partition import KafkaPartitioner
from drain.exporters.kafka.producer import Producer
from drain.exporters.kafka.topic import Administration
from tests.kafka.noida import NoidaBroker
from tests.kafka.reader import headers_of, read_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REQUEST = Request(b"", 3, "protobuf")
ALL = (1, 2, 3)


@pytest.fixture(scope="module")
def cluster() -> Iterator[MockCluster]:
    with MockCluster() as cluster:
        yield cluster


def exporter_to(cluster: MockCluster, seconds: float = 30, **properties: str) -> KafkaExporter:
    timeout = {"message.timeout.ms": str(round(seconds * 1000))}
    return KafkaExporter(KafkaOptions(cluster.bootstrap, properties=timeout | properties))


def delivers(exporter: KafkaExporter) -> bool:
    return exporter.export(REQUEST).verdict is Verdict.DELIVERED


def test_a_drain_delivers_to_kafka(ring_dir: Path, tmp_path: Path) -> None:
    with MockCluster() as cluster, ProducerProcess(ring_dir, 1000):
        arguments = ("--exporter", "kafka", "--kafka-brokers", cluster.bootstrap)
        with DrainProcess(tmp_path / "log", ring_dir, *arguments) as drain:
            messages = read_until(lambda found: sum(map(spans_in, found)) >= 1000, cluster.bootstrap)
            assert drain.stop() == 0
    numbers = [number_of(span) for m in messages for span in spans_of(TracesData.FromString(m.value() or b""))]
    assert sorted(numbers) == list(range(1000))
    assert drain.audit()["shop"]["delivered"] == 1000


def test_the_audit_of_the_examples_adds_up_what_a_drain_sent(
    ring_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with MockCluster() as cluster:
        arguments = ("--exporter", "kafka", "--kafka-brokers", cluster.bootstrap, "--batch-spans", 100)
        with ProducerProcess(ring_dir, 1000):
            assert run_once(tmp_path / "log", ring_dir, *arguments) == 0
        assert example().main(["--brokers", cluster.bootstrap, "--property", "log_level=0"]) == 0
    (row,) = re.findall(r"^([0-9a-f]{16}) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+)$", capsys.readouterr().out, re.MULTILINE)
    batches, *counts = map(int, row[1:])
    assert batches >= 10
    assert counts == [0, 1000, 0, 0]  # absent, spans, repeated, missing


def spans_in(message: Any) -> int:
    return int(headers_of(message)["ringbuf.spans"])


@pytest.mark.parametrize("code", [6, 7, 19, 20])
def test_what_the_client_retries_by_itself_is_one_attempt(cluster: MockCluster, code: int) -> None:
    with closing(exporter_to(cluster)) as exporter:
        cluster.fail([code])
        assert delivers(exporter)


@pytest.mark.parametrize(
    ("code", "verdict", "is_operators"),
    [
        (10, Verdict.TOO_LARGE, False),
        (18, Verdict.TOO_LARGE, False),
        (29, Verdict.RETRY, True),
        (31, Verdict.RETRY, True),
        (44, Verdict.RETRY, True),
        (76, Verdict.RETRY, True),
        (87, Verdict.RETRY, True),
        (60, Verdict.RETRY, False),
        (89, Verdict.RETRY, False),
        (45, Verdict.RETRY, False),
        (90, Verdict.RETRY, False),
    ],
)
def test_an_error_is_judged_and_the_next_attempt_gets_through(
    cluster: MockCluster, code: int, verdict: Verdict, *, is_operators: bool
) -> None:
    with closing(exporter_to(cluster)) as exporter:
        assert delivers(exporter)
        cluster.fail([code])
        result = exporter.export(REQUEST)
        assert (result.verdict, result.needs_operator) == (verdict, is_operators), result
        until(lambda: delivers(exporter))  # not minutes later: a client believes for so long that it has no right


def test_after_a_fatal_error_one_new_producer_takes_over(cluster: MockCluster) -> None:
    with closing(exporter_to(cluster)) as exporter, ThreadPoolExecutor(8) as threads:
        assert delivers(exporter)
        cluster.fail([45])
        results = list(threads.map(exporter.export, [REQUEST] * 8))
        assert {result.verdict for result in results} <= {Verdict.RETRY, Verdict.DELIVERED}
        assert Verdict.RETRY in {result.verdict for result in results}
        until(lambda: delivers(exporter))
        assert exporter.broker_state().producers == 2
        assert sum(thread.name == "kafka-reports" for thread in threading.enumerate()) == 1


def test_a_fatal_error_while_no_new_producer_can_be_made_is_no_refusal(cluster: MockCluster) -> None:
    with closing(exporter_to(cluster)) as exporter:
        assert delivers(exporter)
        sound, exporter._configuration = exporter._configuration, {"ssl.ca.location": "/nowhere/ca.pem"}
        exporter._configuration |= {"security.protocol": "SSL", "bootstrap.servers": cluster.bootstrap}
        cluster.fail([45])
        for _ in range(2):  # a certificate is being replaced: this is no fault of the spans
            assert exporter.export(REQUEST).verdict is Verdict.RETRY
        assert exporter.broker_state().producers == 1
        exporter._configuration = sound
        until(lambda: delivers(exporter))
        assert exporter.broker_state().producers == 2


def test_a_producer_that_asks_for_topics_is_not_closed_under_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asks = threading.Event()
    seen: list[str] = []

    class Client:
        def list_topics(self, **_arguments: object) -> Any:
            asks.set()
            time.sleep(0.3)  # no broker answers; in this time an unguarded producer is closed
            seen.append("asked")
            raise RuntimeError("no broker")

        def close(self) -> None:
            seen.append("closed")

        def flush(self, _seconds: float) -> None:
            pass

        def purge(self) -> None:
            pass

        def poll(self, _seconds: float) -> None:
            time.sleep(0.01)

    monkeypatch.setattr("drain.exporters.kafka.producer.confluent_kafka.Producer", lambda _configuration: Client())
    producer = Producer({})
    with ThreadPoolExecutor(1) as threads:
        under_way = threads.submit(producer.topics, 1.0)
        assert asks.wait(SECONDS)
        producer.close()
        assert isinstance(under_way.exception(SECONDS), RuntimeError)
    assert seen == ["asked", "closed"]
    with pytest.raises(RuntimeError, match="closed"):
        producer.topics(1.0)
    assert seen == ["asked", "closed"]


def test_a_message_that_no_broker_takes_ends_with_the_reason_and_close_does_not_wait(cluster: MockCluster) -> None:
    with closing(exporter_to(cluster, seconds=0.5)) as exporter, ThreadPoolExecutor(2) as threads:
        until(lambda: delivers(exporter))
        patient = exporter_to(cluster, seconds=600)
        assert delivers(patient)
        for broker in ALL:
            cluster.down(broker)
        try:
            results = [exporter.export(REQUEST)]
            # Who waits to be told that they are away may be told later than the message has timed out.
            until(
                lambda: "refused" in results[-1].message or "closed" in results[-1].message,
                lambda: results.append(exporter.export(REQUEST)),
            )
            assert {result.verdict for result in results} == {Verdict.RETRY}
            assert "timed out" in results[-1].message
            under_way = threads.submit(patient.export, REQUEST)
            until(lambda: patient._producer.calls == 1)
            patient.close()  # bounded, though the brokers are dead and the message has ten minutes
            assert under_way.result(SECONDS).verdict is Verdict.RETRY
            assert patient.export(REQUEST).verdict is Verdict.RETRY
        finally:
            for broker in ALL:
                cluster.up(broker)
        until(lambda: delivers(exporter))


def test_the_leader_of_a_partition_changes(cluster: MockCluster) -> None:
    with closing(exporter_to(cluster)) as exporter:
        for leader in (1, 2, 3):
            for partition in range(4):
                cluster.lead(partition, leader)
            assert delivers(exporter)


def test_json_is_sent_as_one_object(cluster: MockCluster) -> None:
    options = KafkaOptions(cluster.bootstrap, encoding="otlp_json")
    with closing(KafkaExporter(options)) as exporter:
        assert exporter.encoding == "json"
        assert exporter.export(Request(b'{"resourceSpans":[]}\n', 7, "json")).verdict is Verdict.DELIVERED
    found = read_until(lambda all_of_them: any(spans_in(m) == 7 for m in all_of_them), cluster.bootstrap)
    assert [m.value() for m in found if spans_in(m) == 7] == [b'{"resourceSpans":[]}']


def test_renewal_leaves_the_producer_when_its_attempts_have_ended(cluster: MockCluster) -> None:
    with closing(exporter_to(cluster)) as exporter:
        assert delivers(exporter)
        exporter.renew()
        assert delivers(exporter)
        assert exporter.broker_state().producers == 2


@pytest.mark.parametrize(("by", "has_hint"), [("none", False), ("trace", True)])
def test_the_log_says_how_many_spans_a_message_had_and_what_to_do_where_they_are_few(
    cluster: MockCluster, by: Literal["none", "trace"], *, has_hint: bool
) -> None:
    with (
        capture_logs() as lines,
        closing(KafkaExporter(KafkaOptions(cluster.bootstrap, partition_by=by))) as exporter,
    ):
        until(lambda: exporter.most_together > 1)  # the partitions are known
        for spans in (10, 20):
            assert exporter.export(Request(b"", spans, "protobuf", "0")).verdict is Verdict.DELIVERED
        exporter._tell_messages()  # too soon
        exporter._told_at -= 60
        exporter._tell_messages()
        exporter._told_at -= 60
        exporter._tell_messages()  # there were none
    told = [line for line in lines if line["event"] == "messages were sent"]
    assert [(line["messages"], line["spans_a_message"], bool(line["hint"])) for line in told] == [(2, 15, has_hint)]


def test_what_the_client_says_is_in_our_log_and_nowhere_else(capfd: pytest.CaptureFixture[str]) -> None:
    with capture_logs() as lines, closing(KafkaExporter(KafkaOptions("127.0.0.1:1"))):
        until(lambda: [line for line in lines if line["event"] == "the Kafka client warns"])
    (text, *_) = (line["text"] for line in lines if line["event"] == "the Kafka client warns")
    assert "127.0.0.1:1" in text
    assert "127.0.0.1:1" not in "".join(capfd.readouterr())


def test_a_property_that_the_library_does_not_know_is_refused_at_the_start(
    ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGBUF_DRAIN_KAFKA_NO_SUCH", "7")
    to = ("--exporter", "kafka", "--kafka-brokers", "127.0.0.1:1")
    checked = shared().run("drain", "check", "--ring-dir", ring_dir, *to)
    assert (checked.returncode, 'No such configuration property: "no.such"' in checked.stderr) == (2, True), checked


def test_each_of_several_goes_to_its_partition_and_is_judged_by_itself() -> None:
    with MockCluster() as cluster, closing(exporter_to(cluster)) as exporter:
        assert exporter.is_reachable()
        assert exporter.most_together == 4
        cluster.fail([10])
        requests = [Request(b"%d" % number, 1, "protobuf", str(number)) for number in (0, 1, 2, 3)]
        requests.append(Request(b"no JSON", 1, "json", "1"))
        verdicts = [result.verdict for result in exporter.export_together(requests)]
        assert sorted(verdict.value for verdict in verdicts) == ["delivered"] * 3 + ["refused", "too large"]
        assert verdicts[4] is Verdict.REFUSED
        found = read_until(lambda all_of_them: len(all_of_them) == 3, cluster.bootstrap)
        sent = {number: b"%d" % number for number in range(4) if verdicts[number] is Verdict.DELIVERED}
        assert {message.partition(): message.value() for message in found} == sent
        (gone,) = exporter.export_together([Request(b"", 1, "protobuf", "9")])  # of a topic that had more
        assert gone.verdict is Verdict.DELIVERED


@pytest.mark.parametrize(("by", "function"), [("trace", "fnv1a"), ("trace", "murmur2"), ("service", "fnv1a")])
def test_a_drain_keeps_a_trace_or_a_service_in_one_partition(
    by: Literal["trace", "service"], function: Literal["fnv1a", "murmur2"], ring_dir: Path, tmp_path: Path
) -> None:
    partitioner = KafkaPartitioner(by, function, 4)
    with MockCluster() as cluster, ProducerProcess(ring_dir, 1000), ProducerProcess(ring_dir, 500, "bank"):
        to = ("--exporter", "kafka", "--kafka-brokers", cluster.bootstrap, "--kafka-partition-by", by)
        with DrainProcess(tmp_path / "log", ring_dir, *to, "--kafka-partitioner", function) as drain:
            messages = read_until(lambda found: sum(map(spans_in, found)) >= 1500, cluster.bootstrap)
            assert drain.stop() == 0
    assert sum(map(spans_in, messages)) == 1500
    for message in messages:
        for resource_spans in TracesData.FromString(message.value() or b"").resource_spans:
            (service,) = (a.value.string_value for a in resource_spans.resource.attributes if a.key == "service.name")
            homes = {partitioner.home(span.trace_id, service) for s in resource_spans.scope_spans for span in s.spans}
            assert homes == {str(message.partition())}
    (sums,) = example().add_up(map(headers_of, messages)).values()
    assert (sums.spans, sums.repeated, sums.missing, sums.absent_batches) == (1500, 0, 0, 0)
    homes = {partitioner.home(b"", service) for service in ("shop", "bank")} if by == "service" else set("0123")
    assert {str(message.partition()) for message in messages} == homes


def test_partitions_are_known_before_a_broker_has_told_the_topics_settings(
    cluster: MockCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = threading.Event()

    def told_late(*_arguments: object) -> None:
        assert seen.wait(SECONDS)

    monkeypatch.setattr(Administration, "settings", told_late)
    with closing(KafkaExporter(KafkaOptions(cluster.bootstrap, partition_by="trace"))) as one:
        try:
            until(lambda: one.partitioner is not None)
            assert one.partitioner is not None
            assert one.partitioner.names == ("0", "1", "2", "3")
            assert not one._has_looked.is_set()
        finally:
            seen.set()


def test_settings_that_nobody_told_are_asked_for_again(cluster: MockCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[KafkaError | None] = [None, KafkaError(-185), KafkaError(29), KafkaError(29)]

    def answer(*_arguments: object) -> Any:
        error = told.pop(0)
        raise TimeoutError if error is None else KafkaException(error)

    monkeypatch.setattr(Administration, "_answer", answer)
    with closing(exporter_to(cluster)) as exporter:
        until(lambda: len(told) == 3)
        assert exporter.is_reachable()
        for left in (2, 1, 1):  # who may not see them has an answer, and is not asked for ever
            exporter._look()
            assert len(told) == left


@pytest.mark.parametrize("by", ["trace", "service"])
def test_what_is_for_no_partition_yet_is_sorted_before_it_is_sent(by: Literal["trace", "service"]) -> None:
    traces = TracesData()
    for service in ("shop", "bank", "post"):
        around = traces.resource_spans.add()
        around.resource.attributes.add(key="service.name").value.string_value = service
        around.scope_spans.add().spans.extend(Span(trace_id=bytes([number] * 16), name=service) for number in range(40))
    number = BatchNumber("00f1e2d3c4b5a697", 7, 0, 120)
    with MockCluster() as cluster:
        options = KafkaOptions(cluster.bootstrap, partition_by=by)
        with closing(KafkaExporter(options)) as exporter:
            assert exporter.is_reachable()
            request = Request(traces.SerializeToString(), 120, "protobuf", batch=number)
            assert exporter.export(request).verdict is Verdict.RETRY  # until the delivery has sorted it
            partitioner = exporter.partitioner
            assert partitioner is not None
            parts = by_destination(request, partitioner.home)
            for _ in range(2):
                assert {result.verdict for result in exporter.export_together(parts)} == {Verdict.DELIVERED}
            found = read_until(lambda all_of_them: sum(map(spans_in, all_of_them)) == 240, cluster.bootstrap)
    for message in found:
        spans = list(spans_of(TracesData.FromString(message.value() or b"")))
        assert len(spans) == spans_in(message)
        assert {partitioner.partition_of(span.trace_id, span.name) for span in spans} == {message.partition()}
    (sums,) = example().add_up(map(headers_of, found)).values()
    assert (sums.spans, sums.repeated, sums.missing) == (120, 120, 0)


def test_what_timed_out_before_a_listener_without_tls_tells_so(cluster: MockCluster, tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = {"security.protocol": "SSL", "ssl.ca.location": str(tmp_path / "ca.pem")}
    with closing(exporter_to(cluster, seconds=1, **tls)) as exporter:
        results = [exporter.export(REQUEST)]
        # And, most times, that it may be a listener without TLS.
        until(lambda: "SSL_HANDSHAKE" in results[-1].message, lambda: results.append(exporter.export(REQUEST)))
        assert {result.verdict for result in results} == {Verdict.RETRY}


def test_an_authority_that_is_not_trusted_is_the_operators(tmp_path: Path) -> None:
    ours, theirs = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    theirs.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=shake_hands, args=(server, context), daemon=True).start()
        tls = {"security.protocol": "SSL", "ssl.ca.location": str(tmp_path / "ca.pem"), "message.timeout.ms": "1000"}
        options = KafkaOptions(f"127.0.0.1:{server.getsockname()[1]}", properties=tls)
        with closing(KafkaExporter(options)) as exporter:
            results = [exporter.export(REQUEST)]
            until(lambda: results[-1].needs_operator, lambda: results.append(exporter.export(REQUEST)))
            assert {result.verdict for result in results} == {Verdict.RETRY}
            assert "certificate verify failed" in results[-1].message
        server.shutdown(socket.SHUT_RDWR)


def shake_hands(server: socket.socket, context: ssl.SSLContext) -> None:
    """Offer a certificate to whoever comes, until the server ends."""
    with contextlib.suppress(OSError):
        while True:
            connection, _ = server.accept()
            with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True):
                pass


def test_check_tells_that_no_broker_answers(ring_dir: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        to = ("--exporter", "kafka", "--kafka-brokers", f"127.0.0.1:{bound.getsockname()[1]}")
        checked = shared().run("drain", "check", "--ring-dir", ring_dir, *to)
    assert checked.returncode == 1
    assert "no broker has answered" in checked.stdout
    assert "Connection refused" in checked.stdout


def test_a_stop_while_no_broker_answers_leaves_the_spans_for_the_next_drain(ring_dir: Path, tmp_path: Path) -> None:
    with MockCluster() as cluster, ProducerProcess(ring_dir, 100):
        arguments = ("--exporter", "kafka", "--kafka-brokers", cluster.bootstrap, "--state-dir", tmp_path / "state")
        for broker in ALL:
            cluster.down(broker)
        with DrainProcess(tmp_path / "log", ring_dir, *arguments, "--shutdown-timeout", 1) as drain:
            drain.wait_for_event("ring attached")
            assert drain.stop() in {0, 1}
        for broker in ALL:
            cluster.up(broker)
        assert run_once(tmp_path / "log", ring_dir, *arguments) == 0
        messages = read_until(lambda found: sum(map(spans_in, found)) >= 100, cluster.bootstrap)
    numbers = [number_of(span) for m in messages for span in spans_of(TracesData.FromString(m.value() or b""))]
    assert sorted(numbers) == list(range(100))


# ---- another maker's broker, which knows topics and limits ----


@pytest.fixture(scope="module")
def noida(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NoidaBroker]:
    pytest.importorskip("noida_db", reason="needs noida-db")
    with NoidaBroker(tmp_path_factory.mktemp("noida")) as broker:
        yield broker


def test_check_tells_what_is_wrong_with_the_topic_and_makes_none(noida: NoidaBroker, ring_dir: Path) -> None:
    to = ("--ring-dir", ring_dir, "--exporter", "kafka", "--kafka-brokers", noida.bootstrap, "--kafka-topic", "missing")
    for _ in range(2):  # the first one has not made it
        checked = shared().run("drain", "check", *to)
        assert checked.returncode == 1, checked.stdout + checked.stderr
        assert "the topic missing does not exist" in checked.stdout
    checked = shared().run("drain", "check", *to, "--kafka-create-topic", "3:1")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "the topic missing has one replica" in checked.stdout


def test_a_topic_is_made_with_its_partitions_and_its_limit_is_known(noida: NoidaBroker) -> None:
    options = KafkaOptions(noida.bootstrap, topic="made", create_topic="5:1")
    with closing(KafkaExporter(options)) as exporter:
        assert any("one replica" in finding for finding in exporter.findings())
        assert exporter.is_reachable()
        assert exporter.topic.partitions == 5
        assert exporter.topic.most_bytes() == 1_048_588
        assert 1_000_000 < exporter.most_bytes < 1_048_588
        assert delivers(exporter)


def test_a_topic_that_grows_gets_its_traces_on_all_its_partitions(noida: NoidaBroker) -> None:
    options = KafkaOptions(noida.bootstrap, topic="grows", partition_by="trace", create_topic="2:1")
    sent: list[tuple[KafkaPartitioner, TracesData]] = []

    def send(exporter: KafkaExporter, partitioner: KafkaPartitioner | None) -> None:
        assert partitioner is not None
        traces = TracesData()
        spans = [Span(trace_id=os.urandom(16), span_id=b"12345678", name=str(len(sent))) for _ in range(600)]
        traces.resource_spans.add().scope_spans.add().spans.extend(spans)
        parts = by_destination(Request(traces.SerializeToString(), 600, "protobuf"), partitioner.home)
        assert {part.destination for part in parts} == set(partitioner.names)
        assert {result.verdict for result in exporter.export_together(parts)} == {Verdict.DELIVERED}
        sent.append((partitioner, traces))

    with closing(KafkaExporter(options)) as exporter:
        assert exporter.is_reachable()
        before = exporter.partitioner
        send(exporter, before)
        admin = AdminClient({"bootstrap.servers": noida.bootstrap})
        admin.create_partitions([NewPartitions("grows", 6)])["grows"].result(SECONDS)
        exporter._look_now.set()  # which is done each minute
        until(lambda: exporter.broker_state().partitions == 6)  # which is told after what sorts has become another
        assert exporter.partitioner is not before
        send(exporter, exporter.partitioner)
        send(exporter, before)  # what was encoded or stored before has a partition that is there
        found = read_until(lambda some: sum(map(spans_in, some)) >= 1800, noida.bootstrap, 6, "grows")
    for message in found:
        for span in spans_of(TracesData.FromString(message.value() or b"")):
            assert sent[int(span.name)][0].partition_of(span.trace_id, "") == message.partition()
    assert {message.partition() for message in found} == set(range(6))


def test_no_message_is_larger_than_the_topic_allows(noida: NoidaBroker, ring_dir: Path, tmp_path: Path) -> None:
    small = NewTopic("small", 1, 1, config={"max.message.bytes": "20000"})
    client = AdminClient({"bootstrap.servers": noida.bootstrap})
    client.create_topics([small])["small"].result(SECONDS)
    to = ("--exporter", "kafka", "--kafka-brokers", noida.bootstrap, "--kafka-topic", "small", "--kafka-encoding")
    with DrainProcess(tmp_path / "log", ring_dir, *to, "otlp_json") as drain:
        drain.wait_for_event("the topic is there")  # with its limit, which is the subject
        with ProducerProcess(ring_dir, 1000):
            messages = read_until(lambda found: sum(map(spans_in, found)) >= 1000, noida.bootstrap, 1, "small")
        assert drain.stop() == 0
    assert sum(map(spans_in, messages)) == 1000
    assert max(len(message.value() or b"") for message in messages) < 20_000
    assert len(messages) > 10
    assert drain.events("backend takes no request of this size, its halves are sent") == []
