"""Three hosts deliver over links that fail to gateways and brokers that are killed; the sums over all hosts add up."""

from __future__ import annotations

import secrets
import shutil
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.fleet.fleet import Fleet
from tests.fleet.gateways import GRPC, HTTP, Gateway, nginx, rotel
from tests.fleet.network import inside
from tests.kafka.cluster import IMPATIENT, TOPIC, MockCluster
from tests.kept_bodies import bodies_in
from tests.service.storm.arrived import Arrived

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fleet.network import Network, Node

BROKERS: Final = (1, 2, 3)
PARTITIONS: Final = 16  # the cluster keeps 5 MiB of each: more than comes while the reader is held up
PASSING: Final = (6, 7, 19, 20, 89)
IN_ONE_POLL: Final = 1000


class GatewayStorm:
    """A fleet before two gateways, each trace with one of them as its home."""

    def __init__(self, fleet: Fleet, gateways: list[Gateway], kind: str) -> None:
        self.fleet = fleet
        self.gateways = gateways
        self._arrived = Arrived()
        self._read = dict.fromkeys(gateways, 0)
        port = GRPC if kind == "otlp-grpc" else HTTP
        endpoints = [f"http://{gateway.node.address}:{port}" for gateway in gateways]
        fleet.begin(
            [
                *("--exporter", kind, "--balance", "trace", "--timeout", 2),
                *(word for endpoint in endpoints for word in ("--endpoint", endpoint)),
            ]
        )

    def strike(self) -> None:
        dice = self.fleet.dice
        seconds = 0.3 + dice.random() * 2
        what = self.fleet.drawn(["link", "link 2", "link 3", "gateway", "stall", "drain", "producer"])
        match what:
            case "link" | "link 2" | "link 3":
                gateways = (gateway.node for gateway in self.gateways)
                self.fleet.strike_a_link([*self.fleet.nodes.values(), *gateways], seconds)
            case "gateway" | "stall":
                self.fleet.strikes[what] += 1
                gateway = dice.choice(self.gateways)
                if what == "stall":
                    gateway.stall(on=True)
                    time.sleep(seconds)
                    gateway.stall(on=False)
                else:
                    gateway.kill()
                    time.sleep(seconds / 2)
                    gateway.start()
            case _:
                self.fleet.strike_a_process(what, seconds)

    def arrived(self) -> Arrived:
        for gateway in self.gateways:
            bodies, self._read[gateway] = bodies_in(gateway.kept, self._read[gateway])
            self._arrived.add(bodies)
        return self._arrived


class KafkaStorm:
    """A fleet before three brokers on one node."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        from confluent_kafka import Consumer, TopicPartition  # noqa: PLC0415 - only where it is installed

        self.fleet = fleet
        self.node: Node = fleet.network.add("brokers")
        with inside(self.node):
            self.cluster = fleet.stack.enter_context(MockCluster(len(BROKERS), PARTITIONS))
            own = {"bootstrap.servers": self.cluster.bootstrap, "group.id": "fleet", "enable.auto.commit": False}
            own |= {"auto.offset.reset": "error"}  # what the cluster has no more is told, and not passed over
            self.reader: Any = Consumer({**own, "log_level": 0, "reconnect.backoff.max.ms": 500})
            fleet.stack.callback(self.reader.close)
            self.reader.assign([TopicPartition(TOPIC, partition, 0) for partition in range(PARTITIONS)])
        ports = [int(address.rpartition(":")[2]) for address in self.cluster.bootstrap.split(",")]
        fleet.network.forward_loopback(ports, self.node, *fleet.nodes.values())
        impatient = folder / "impatient.toml"
        impatient.write_text(IMPATIENT)
        self._arrived = Arrived()
        fleet.begin(
            [
                *("--exporter", "kafka", "--kafka-brokers", self.cluster.bootstrap, "--config", impatient),
                *("--kafka-partition-by", "trace"),
            ]
        )

    def strike(self) -> None:
        dice = self.fleet.dice
        seconds = 0.3 + dice.random() * 2
        what = self.fleet.drawn(["link", "link 2", "broker", "all brokers", "leader", "errors", "drain", "producer"])
        match what:
            case "link" | "link 2":
                self.fleet.strike_a_link([*self.fleet.nodes.values(), self.node], seconds)
            case "drain" | "producer":
                self.fleet.strike_a_process(what, seconds)
            case _:
                self.fleet.strikes[what] += 1
                self._strike_brokers(what, seconds)

    def arrived(self) -> Arrived:
        from confluent_kafka import KafkaError  # noqa: PLC0415 - only where it is installed

        for message in self.reader.consume(IN_ONE_POLL, 0.1):
            error = message.error()
            if error is None:
                self._arrived.add([message.value()])
            assert error is None or error.code() != KafkaError._AUTO_OFFSET_RESET, "the cluster forgot messages"
        return self._arrived

    def _strike_brokers(self, what: str, seconds: float) -> None:
        dice = self.fleet.dice
        match what:
            case "leader":
                self.cluster.lead(dice.randrange(PARTITIONS), dice.choice(BROKERS))
            case "errors":
                self.cluster.fail(dice.choices(PASSING, k=dice.randint(1, 5)))
            case _:
                struck = BROKERS if what == "all brokers" else (dice.choice(BROKERS),)
                for broker in struck:
                    self.cluster.down(broker)
                time.sleep(seconds / 2)
                for broker in struck:
                    self.cluster.up(broker)


def rage(fleet: Fleet, storm: GatewayStorm | KafkaStorm, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(fleet.dice.random() * 0.5)
        storm.strike()
        storm.arrived()
    sums = fleet.settle(storm.arrived)
    print(dict(fleet.strikes), sums)  # noqa: T201 - the report of a soak
    assert sum(one["arrived"] for one in sums.values()) > 0


@pytest.fixture
def fleet(network: Network, ring_dir: Path, tmp_path: Path) -> Any:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it when the test fails
    made = Fleet(network, ring_dir, tmp_path, seed)
    with made.stack:
        yield made


def storm_of_gateways(fleet: Fleet, folder: Path, kind: str, debian_program: Callable[[str], str]) -> GatewayStorm:
    nodes = [fleet.network.add(f"gateway-{number}") for number in (1, 2)]
    second = rotel(fleet.network, nodes[1], folder / "gateway-2")
    fleet.stack.enter_context(second)
    if kind == "otlp-http":
        program = shutil.which("nginx", path="/usr/sbin") or debian_program("nginx")
        first = nginx(fleet.network, nodes[0], folder / "gateway-1", program)
    else:
        first = rotel(fleet.network, nodes[0], folder / "gateway-1")
    fleet.stack.enter_context(first)
    return GatewayStorm(fleet, [first, second], kind)


SECONDS = pytest.mark.parametrize(
    "seconds", [pytest.param(10, marks=pytest.mark.prove), pytest.param(300, marks=pytest.mark.soak)]
)


@SECONDS
@pytest.mark.parametrize("kind", ["otlp-http", "otlp-grpc"])
def test_no_span_is_missing_after_a_storm_over_gateways(
    fleet: Fleet, tmp_path: Path, kind: str, seconds: float, debian_program: Callable[[str], str]
) -> None:
    rage(fleet, storm_of_gateways(fleet, tmp_path, kind, debian_program), seconds)


@SECONDS
def test_no_span_is_missing_after_a_storm_over_brokers(fleet: Fleet, tmp_path: Path, seconds: float) -> None:
    pytest.importorskip("confluent_kafka", reason="needs confluent-kafka, the extra [kafka]")
    rage(fleet, KafkaStorm(fleet, tmp_path), seconds)
