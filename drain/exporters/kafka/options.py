"""How the exporter of kind "kafka" is set, and what it refuses at a start."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

Property: TypeAlias = str | Mapping[str, str]
"""Value of a property of librdkafka: a text, or `{"file": path}`, whose contents it is."""

DEFAULTS: Final[Mapping[str, str]] = {
    "acks": "all",
    "enable.idempotence": "true",
    "client.id": "ringbuf-drain",
    "compression.codec": "zstd",  # librdkafka's gzip: 15 MB/s
    # The attempt's time-out. A leader's change takes seconds, so that there is time for a second request within it.
    "message.timeout.ms": "30000",
    "socket.timeout.ms": "10000",
    "request.timeout.ms": "9000",
    "message.max.bytes": "16777216",  # of the producer: the topic's own limit is below
    "socket.keepalive.enable": "true",
    "log.connection.close": "false",  # brokers close what is idle
    "statistics.interval.ms": "10000",
}
"""Of properties, where ours are other than librdkafka's."""

# librdkafka has two names for some; the last one that it is told wins, in an order that nobody sees.
_OTHER_NAMES: Final = {
    "metadata.broker.list": "bootstrap.servers",
    "request.required.acks": "acks",
    "delivery.timeout.ms": "message.timeout.ms",
    "compression.type": "compression.codec",
    "sasl.mechanism": "sasl.mechanisms",
    "retries": "message.send.max.retries",
    "queue.buffering.max.ms": "linger.ms",
    "max.in.flight": "max.in.flight.requests.per.connection",
}
_NO: Final = {
    "transactional.id": "batches are delivered at least once; its readers count by the headers, see docs/kafka.md",
    "delivery.report.only.error": "without a report of each message nobody knows what was delivered",
    "enable.gapless.guarantee": "a message that is not delivered in time is sent again by the drain",
}
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_CREATED: Final = re.compile(r"([1-9][0-9]{0,4}):([1-9][0-9]?)")


class NewTopic(NamedTuple):
    """How a missing topic is made."""

    partitions: int
    replicas: int


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """Where messages go, and how.

    Attributes:
        brokers: HOST:PORT of some, with commas.
        topic: of all messages.
        encoding: the Collector's name for it.
        partition_by: what decides on a span's partition; "none": librdkafka chooses one for each message.
        partitioner: the function of a trace's or a service's key.
        create_topic: PARTITIONS:REPLICAS of a topic that is missing; None: it is not made.
        properties: of librdkafka, by name.
    """

    brokers: str | None = None
    topic: str = "otlp_spans"
    encoding: Literal["otlp_proto", "otlp_json"] = "otlp_proto"
    partition_by: Literal["none", "trace", "service"] = "none"
    partitioner: Literal["fnv1a", "murmur2"] = "fnv1a"
    create_topic: str | None = None
    properties: Mapping[str, Property] = field(default_factory=dict)

    def new_topic(self) -> NewTopic | None:
        """Return how a missing topic is made.

        Raises:
            ValueError: it is not written so.
        """
        if self.create_topic is None:
            return None
        found = _CREATED.fullmatch(self.create_topic)
        if found is None:
            raise ValueError(f"--kafka-create-topic {self.create_topic!r}: write PARTITIONS:REPLICAS, as in 12:3")
        return NewTopic(int(found[1]), int(found[2]))

    def configuration(self) -> dict[str, str]:
        """Return all properties that the producer is made with; files are read.

        Raises:
            ValueError: something cannot be, or would send in plain text or without knowing what was delivered.
        """
        if not _TOPIC.fullmatch(self.topic) or self.topic in {".", ".."}:
            raise ValueError(f"{self.topic!r} is no name of a topic: up to 249 of A-Z a-z 0-9 . _ -")
        given = {}
        for name, value in self.properties.items():
            known = _OTHER_NAMES.get(name, name)
            if known in given:
                raise ValueError(f"kafka: {name} is another name of {known}: give one of the two")
            given[known] = _text_of(name, value)
        if self.brokers is not None and "bootstrap.servers" in given:
            raise ValueError("name the brokers once: --kafka-brokers, or bootstrap.servers among kafka's properties")
        merged = {**DEFAULTS, "bootstrap.servers": self.brokers or "", **given}
        _refuse(merged)
        return merged


def _text_of(name: str, value: Property) -> str:
    if isinstance(value, str):
        return value
    path = Path(value["file"])
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"kafka: {name}: cannot read {path}: {getattr(error, 'strerror', None) or 'no text'}"
        ) from None


def _refuse(properties: Mapping[str, str]) -> None:
    """Refuse what librdkafka would take, and that does not do what is wanted.

    Raises:
        ValueError: the first of it.
    """
    if not any(part.strip() for part in properties["bootstrap.servers"].split(",")):
        raise ValueError("exporter kafka needs brokers: name some with --kafka-brokers HOST:PORT")
    for name, reason in _NO.items():
        if properties.get(name, "false").lower() not in {"false", ""}:
            raise ValueError(f"kafka: {name} cannot be: {reason}")
    if properties["acks"].lower() not in {"all", "-1"}:
        raise ValueError("kafka: acks below all: what one broker has is lost with it; the drain would have released it")
    for name in ("message.timeout.ms", "message.max.bytes"):  # which we read, too: librdkafka knows 0x10 and 010
        if not re.fullmatch(r"[0-9]+", properties[name].strip()):
            raise ValueError(f"kafka: {name} {properties[name]!r} is no whole number in decimal digits")
    if not int(properties["message.timeout.ms"]):
        raise ValueError("kafka: message.timeout.ms is an attempt's time-out: 0 would be an attempt without an end")
    _refuse_plain_text(properties)


def _refuse_plain_text(properties: Mapping[str, str]) -> None:
    protocol = properties.get("security.protocol", "").lower()
    for prefix, protocols in (("sasl.", "SASL_SSL"), ("ssl.", "SSL or SASL_SSL")):
        name = next((name for name in sorted(properties) if name.startswith(prefix)), None)
        if name is not None and prefix[:-1] not in protocol.split("_"):
            raise ValueError(
                f"kafka: {name} has no effect with security.protocol {protocol or 'unset'}: spans would go in plain "
                f"text, to whoever asks for them; set security.protocol to {protocols}"
            )
    if "gssapi" in properties.get("sasl.mechanisms", "" if "sasl" not in protocol.split("_") else "gssapi").lower():
        raise ValueError("kafka: Kerberos (GSSAPI) is not in the library's wheels: set sasl.mechanisms to another")
