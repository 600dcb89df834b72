"""What the exporter to Kafka refuses at a start: librdkafka would take it, and not do what was meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drain.exporters.kafka.options import KafkaOptions

if TYPE_CHECKING:
    from pathlib import Path

    from drain.exporters.kafka.options import Property

SASL = {"security.protocol": "SASL_SSL", "sasl.mechanisms": "SCRAM-SHA-512", "sasl.username": "u"}


def configuration(**properties: Property) -> dict[str, str]:
    return KafkaOptions("h:9092", properties=properties).configuration()


def test_the_usual_is_durable_and_compressed() -> None:
    made = configuration()
    assert made["acks"] == "all"
    assert made["enable.idempotence"] == "true"
    assert made["compression.codec"] == "zstd"
    assert made["bootstrap.servers"] == "h:9092"


@pytest.mark.parametrize("name", ["linger.ms", "client.id", "message.timeout.ms"])
def test_a_property_of_the_user_beats_ours(name: str) -> None:
    assert configuration(**{name: "7"})[name] == "7"


def test_another_name_of_a_property_beats_ours_too() -> None:
    made = configuration(**{"delivery.timeout.ms": "7000", "compression.type": "lz4"})
    assert (made["message.timeout.ms"], made["compression.codec"]) == ("7000", "lz4")
    assert not {"delivery.timeout.ms", "compression.type"} & made.keys()


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({"sasl.username": "u"}, "sasl.username has no effect with security.protocol unset"),
        ({"ssl.ca.location": "/ca"}, "ssl.ca.location has no effect with security.protocol unset"),
        ({"security.protocol": "plaintext", "ssl.ca.location": "/ca"}, "would go in plain text"),
        ({"security.protocol": "SSL", "sasl.password": "p"}, "sasl.password has no effect"),
        ({"security.protocol": "SASL_PLAINTEXT", "ssl.ca.location": "/ca", "sasl.mechanism": "PLAIN"}, "ssl.ca"),
        ({"security.protocol": "SASL_SSL"}, "Kerberos"),  # which is librdkafka's default
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "GSSAPI"}, "Kerberos"),
        ({"delivery.report.only.error": "true"}, "delivery.report.only.error"),
        ({"transactional.id": "t"}, "transactional.id"),
        ({"enable.gapless.guarantee": "true"}, "enable.gapless.guarantee"),
        ({"acks": "1"}, "acks below all"),
        ({"request.required.acks": "0"}, "acks below all"),
        ({"acks": "all", "request.required.acks": "all"}, "another name of acks"),
        ({"message.timeout.ms": "0"}, "without an end"),
        ({"delivery.timeout.ms": "0"}, "without an end"),
        ({"message.timeout.ms": " 00 "}, "without an end"),
        ({"message.timeout.ms": "0x0"}, "no whole number"),
        ({"message.max.bytes": "0x100000"}, "no whole number"),
        ({"message.max.bytes": ""}, "no whole number"),
        ({"bootstrap.servers": "other:1"}, "name the brokers once"),
        ({"sasl.password": {"file": "/nowhere/password"}}, "cannot read /nowhere/password: No such file"),
    ],
)
def test_what_would_not_do_what_is_meant_is_refused(properties: dict[str, Property], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        configuration(**properties)


@pytest.mark.parametrize("brokers", [None, "", " ", ",", " , "])
def test_empty_servers_are_refused(brokers: str | None) -> None:
    with pytest.raises(ValueError, match="needs brokers"):
        KafkaOptions(brokers).configuration()


@pytest.mark.parametrize("topic", ["", ".", "..", "a b", "a/b", "x" * 250, "ä"])
def test_what_is_no_name_of_a_topic_is_refused(topic: str) -> None:
    with pytest.raises(ValueError, match="is no name of a topic"):
        KafkaOptions("h:1", topic=topic).configuration()


def test_a_secret_is_read_from_its_file_and_never_quoted(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3cret\n")
    made = configuration(**SASL, **{"sasl.password": {"file": str(tmp_path / "password")}})
    assert made["sasl.password"] == "s3cret"
    (tmp_path / "binary").write_bytes(b"s3cret\xff")
    with pytest.raises(ValueError, match="no text") as refused:
        configuration(**SASL, **{"sasl.password": {"file": str(tmp_path / "binary")}})
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(("text", "made"), [(None, None), ("12:3", (12, 3)), ("1:1", (1, 1))])
def test_a_topic_is_made_as_it_is_asked_for(text: str | None, made: tuple[int, int] | None) -> None:
    assert KafkaOptions(create_topic=text).new_topic() == made


@pytest.mark.parametrize("text", ["", "3", "0:1", "3:0", "3:", "-1:1", "1:1:1", "three:1"])
def test_a_topic_that_nobody_can_make_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="PARTITIONS:REPLICAS"):
        KafkaOptions(create_topic=text).new_topic()
