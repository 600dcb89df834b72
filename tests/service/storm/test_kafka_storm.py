"""The storm over Kafka: brokers, leaders, errors, drain and producers, and no published span is missing."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from tests.kafka.cluster import TOPIC, MockCluster
from tests.service.draining import DrainProcess
from tests.service.storm.test_storm import Storm, rage

pytest.importorskip("confluent_kafka", reason="needs confluent-kafka, the extra [kafka]")

from confluent_kafka import Consumer, KafkaError, TopicPartition

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

BROKERS: Final = (1, 2, 3)
PARTITIONS: Final = 4
PASSING: Final = (6, 7, 19, 20, 29, 45, 89)
TOO_LARGE: Final = 10
MOST_TOO_LARGE: Final = 4  # each halves what is sent: of one span alone it would make a dead letter
IN_ONE_POLL: Final = 1000
SILENCE_SECONDS: Final = 5.0


class KafkaStorm(Storm):
    """The receiver is a cluster, which is not killed: it keeps what it has in memory."""

    too_large = 0
    partition_by = "none"

    def start_receiver(self) -> subprocess.Popen[str]:
        self.cluster = MockCluster(len(BROKERS), PARTITIONS)
        self.stack.callback(self.cluster.close)
        self.arrived: list[bytes] = []
        self.gone: list[str] = []
        self.offsets = dict.fromkeys(range(PARTITIONS), 0)  # of what is read next
        self.consumer = self.consumer_from_there()
        self.is_read = threading.Event()
        # All the time: the cluster keeps 5 MiB of a partition, whoever has read it.
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        self.stack.callback(self.end_reading)
        return self.cluster.process

    def consumer_from_there(self) -> Consumer:
        own = {"bootstrap.servers": self.cluster.bootstrap, "group.id": "storm", "enable.auto.commit": False}
        own |= {"auto.offset.reset": "error"}  # what the cluster has no more is told, and not passed over
        consumer = Consumer({**own, "log_level": 0, "reconnect.backoff.max.ms": 500})
        consumer.assign([TopicPartition(TOPIC, partition, offset) for partition, offset in self.offsets.items()])
        return consumer

    def start_drain(self) -> DrainProcess:
        impatient = self.folder / "impatient.toml"
        impatient.write_text(
            "[kafka]\nmessage.timeout.ms = 3000\nsocket.timeout.ms = 2000\nreconnect.backoff.max.ms = 500\n"
        )
        return self.stack.enter_context(
            DrainProcess(
                self.log,
                self.ring_dir,
                *("--exporter", "kafka", "--kafka-brokers", self.cluster.bootstrap),
                *("--kafka-partition-by", self.partition_by),
                *("--state-dir", self.folder / "state", "--spool-after", 0.05, "--batch-delay", 0.02),
                *("--retry-initial", 0.02, "--retry-maximum", 0.2, "--listen", "off", "--shutdown-timeout", 20),
                *("--config", impatient),
            )
        )

    def strike(self) -> None:
        what = self.dice.choice(["broker", "all brokers", "leader", "errors", "errors", "drain", "producer"])
        match what:
            case "broker" | "all brokers":
                struck = [self.dice.choice(BROKERS)] if what == "broker" else BROKERS
                for broker in struck:
                    self.cluster.down(broker)
                time.sleep(self.dice.random() * 0.5)
                for broker in struck:
                    self.cluster.up(broker)
            case "leader":
                self.cluster.lead(self.dice.randrange(PARTITIONS), self.dice.choice(BROKERS))
            case "errors":
                codes = self.dice.choices(PASSING, k=self.dice.randint(1, 5))
                if self.too_large < MOST_TOO_LARGE and self.dice.random() < 0.2:
                    self.too_large += 1
                    codes.append(TOO_LARGE)
                self.cluster.fail(codes)
                self.kills.update(f"error {code}" for code in codes)
            case _:
                return super().strike_one(what)
        self.kills[what] += 1
        return None

    def calm_down(self) -> dict[str, int]:
        self.cluster.fail([])
        return super().calm_down()

    def read(self) -> None:
        """Read until the end; replace a consumer that hears nothing: leaders that go may leave it waiting for good."""
        heard = time.monotonic()
        while not self.is_read.is_set():
            messages = self.consumer.consume(IN_ONE_POLL, 0.3)
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > SILENCE_SECONDS:
                self.consumer.close()
                self.consumer = self.consumer_from_there()
                heard = time.monotonic()
            for message in messages:
                error = message.error()
                if error is None:
                    self.arrived.append(message.value() or b"")
                    self.offsets[message.partition() or 0] = (message.offset() or 0) + 1
                elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                    self.gone.append(error.str())

    def bodies(self) -> Iterator[TracesData]:
        assert not self.gone, "the cluster forgot messages before they were read"
        return map(TracesData.FromString, list(self.arrived))

    def end_reading(self) -> None:
        self.is_read.set()
        self.reader.join()
        self.consumer.close()


class SortedKafkaStorm(KafkaStorm):
    """Each batch has a part for each partition."""

    partition_by = "trace"


@pytest.mark.prove
@pytest.mark.parametrize("storm_of", [KafkaStorm, SortedKafkaStorm])
def test_no_published_span_is_missing_after_a_storm_over_brokers(
    storm_of: type[KafkaStorm], ring_dir: Path, tmp_path: Path
) -> None:
    rage(ring_dir, tmp_path, 20, storm_of)


@pytest.mark.soak
def test_no_published_span_is_missing_after_a_long_storm_over_brokers(ring_dir: Path, tmp_path: Path) -> None:
    rage(ring_dir, tmp_path, 300, KafkaStorm)
