"""The storm over Kafka: brokers, leaders, errors, drain and producers, and no published span is missing."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

import pytest

from drain.replay.sources import kept_from_the_drain, read
from tests.kafka.cluster import IMPATIENT, TOPIC, MockCluster
from tests.service.draining import DrainProcess
from tests.service.storm.test_storm import Storm, rage

pytest.importorskip("confluent_kafka", reason="needs confluent-kafka, the extra [kafka]")

from confluent_kafka import Consumer, KafkaError, TopicPartition

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

BROKERS: Final = (1, 2, 3)
PASSING: Final = (6, 7, 19, 20, 29, 45, 89)
TOO_LARGE: Final = 10
MOST_TOO_LARGE: Final = 4  # each halves what is sent, and makes a dead letter of one span alone
IN_ONE_POLL: Final = 1000


class KafkaStorm(Storm):
    """The receiver is a cluster, which is not killed: it keeps what it has in memory."""

    too_large = 0
    partition_by = "none"
    partitions = 32  # the cluster keeps 5 MiB of each: more than comes while the reader is held up

    def start_receiver(self) -> subprocess.Popen[str]:
        self.cluster = MockCluster(len(BROKERS), self.partitions)
        self.stack.callback(self.cluster.close)
        self.messages: deque[bytes] = deque()
        self.gone: list[str] = []
        own = {"bootstrap.servers": self.cluster.bootstrap, "group.id": "storm", "enable.auto.commit": False}
        own |= {"auto.offset.reset": "error"}  # what the cluster has no more is told, and not passed over
        self.consumer = Consumer({**own, "log_level": 0, "reconnect.backoff.max.ms": 500})
        self.consumer.assign([TopicPartition(TOPIC, partition, 0) for partition in range(self.partitions)])
        self.is_read = threading.Event()
        # All the time: the cluster forgets the oldest messages, whoever has read them.
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        self.stack.callback(self.end_reading)
        return self.cluster.process

    def start_drain(self) -> DrainProcess:
        impatient = self.folder / "impatient.toml"
        impatient.write_text(IMPATIENT)
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
                self.cluster.lead(self.dice.randrange(self.partitions), self.dice.choice(BROKERS))
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
        while not self.is_read.is_set():
            for message in self.consumer.consume(IN_ONE_POLL, 0.3):
                error = message.error()
                if error is None:
                    self.messages.append(message.value() or b"")
                elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                    self.gone.append(error.str())

    def new_bodies(self) -> Iterator[bytes]:
        """Return what the cluster got since the last look, and the dead letters, which are not missing either."""
        assert not self.gone, "the cluster forgot messages before they were read"
        while self.messages:
            yield self.messages.popleft()
        for path in (self.folder / "state" / "dead-letters").glob("*.dead-letter"):
            with kept_from_the_drain(path):
                letters = [piece.request for piece in read(path, "protobuf", batch_spans=1000)]
            yield from (letter.body for letter in letters if letter is not None)

    def end_reading(self) -> None:
        self.is_read.set()
        self.reader.join()
        self.consumer.close()


class SortedKafkaStorm(KafkaStorm):
    """Each batch has a part for each partition."""

    partition_by = "trace"
    partitions = 8


@pytest.mark.prove
@pytest.mark.parametrize("storm_of", [KafkaStorm, SortedKafkaStorm])
def test_no_published_span_is_missing_after_a_storm_over_brokers(
    storm_of: type[KafkaStorm], ring_dir: Path, tmp_path: Path
) -> None:
    rage(ring_dir, tmp_path, 20, storm_of)


@pytest.mark.soak
def test_no_published_span_is_missing_after_a_long_storm_over_brokers(ring_dir: Path, tmp_path: Path) -> None:
    rage(ring_dir, tmp_path, 300, KafkaStorm)
