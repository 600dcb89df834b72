"""librdkafka's properties from a table and from variables; what is a secret is shown nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from drain import assembly
from drain.settings.configuration import ConfigurationError, load

if TYPE_CHECKING:
    from pathlib import Path


def of_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "drain.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        '[kafka]\n"security.protocol" = "SASL_SSL"\n"sasl.password" = { file = "/p" }\n"linger.ms" = 20\n',
        '[kafka]\nsecurity.protocol = "SASL_SSL"\nsasl.password.file = "/p"\nlinger.ms = 20\n',
        '[kafka]\nlinger.ms = 20\n[kafka.security]\nprotocol = "SASL_SSL"\n[kafka.sasl]\npassword = { file = "/p" }\n',
    ],
    ids=["quoted", "dotted", "tables"],
)
def test_all_forms_of_a_table_are_the_same(tmp_path: Path, text: str) -> None:
    assert load({}, of_file(tmp_path, text)).settings.kafka == {
        "security.protocol": "SASL_SSL",
        "sasl.password": {"file": "/p"},
        "linger.ms": "20",
    }


def test_a_variable_adds_to_the_table_and_beats_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBUF_DRAIN_KAFKA_SASL_PASSWORD", "p")
    monkeypatch.setenv("RINGBUF_DRAIN_KAFKA_LINGER_MS", "7")
    monkeypatch.setenv("RINGBUF_DRAIN_KAFKA_SSL_KEY_PASSWORD_FILE", "/k")
    monkeypatch.setenv("RINGBUF_DRAIN_KAFKA_TOPIC", "spans")  # which is a setting, and no property
    monkeypatch.setenv("KAFKA_PORT", "tcp://10.0.0.1:9092")  # Kubernetes' own
    toml = of_file(tmp_path, '[kafka]\nlinger.ms = 20\nclient.id = "d"\n')
    configuration = load({"kafka_brokers": "h:1"}, toml)
    assert configuration.settings.kafka == {
        "linger.ms": "7",
        "client.id": "d",
        "sasl.password": "p",
        "ssl.key.password": {"file": "/k"},
    }
    assert configuration.settings.kafka_topic == "spans"
    assert configuration.settings.exporter == "kafka"  # brokers say so
    assert configuration.warnings == ()
    assert "RINGBUF_DRAIN_KAFKA_SASL_PASSWORD" in configuration.origins["kafka"]


def test_config_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "SASL_PASSWORD": "s3cret-1",
        "SSL_KEY_PEM": "s3cret-2",
        "SSL_KEYSTORE_PASSWORD": "s3cret-3",
        "SASL_OAUTHBEARER_CLIENT_SECRET": "s3cret-4",
        "SASL_OAUTHBEARER_CONFIG": "s3cret-5",
        "SASL_OAUTHBEARER_ASSERTION_PRIVATE_KEY_PASSPHRASE": "s3cret-6",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(f"RINGBUF_DRAIN_KAFKA_{name}", value)
    monkeypatch.setenv("RINGBUF_DRAIN_KAFKA_SASL_USERNAME", "drain")
    text = load({"exporter": "kafka"}, None).describe()
    assert "s3cret" not in text
    assert '"sasl.username" = "drain"' in text
    assert '"sasl.password" = "(hidden)"' in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kafka = 3\n", "kafka"),
        ('kafka = "acks=all"\n', "kafka"),
        ("[kafka]\nacks = [1]\n", "acks: a text, a number, true or false"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str) -> None:
    monkeypatch.setenv("RINGBUF_DRAIN_KAFKA_LINGER_MS", "7")
    with pytest.raises(ConfigurationError, match=said):
        load({}, of_file(tmp_path, text))


@pytest.mark.parametrize(
    "flags", [{"exporter": "file", "kafka_brokers": "h:1"}, {"exporter": "otlp", "kafka_topic": "t"}]
)
def test_a_flag_without_effect_is_refused(flags: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="has no effect with --exporter"):
        load(flags, None)


def test_a_property_that_ends_like_our_word_for_a_file_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBUF_DRAIN_KAFKA_SASL_OAUTHBEARER_ASSERTION_PRIVATE_KEY_FILE", "/k")
    assert load({}, None).settings.kafka == {"sasl.oauthbearer.assertion.private.key.file": "/k"}


@pytest.mark.parametrize(
    ("flags", "seconds"),
    [
        ({}, 0.2),
        ({"kafka_partition_by": "trace"}, 1.0),
        ({"kafka_partition_by": "service"}, 1.0),
        ({"kafka_partition_by": "trace", "batch_delay": 0.5}, 0.5),
    ],
)
def test_a_batch_that_is_cut_by_partitions_waits_longer_for_more(flags: dict[str, Any], seconds: float) -> None:
    configuration = load({"kafka_brokers": "h:1"} | flags, None)
    assert assembly.limits(configuration).batch_delay == seconds
    assert f"batch_delay = {seconds}  # " in configuration.describe(), "what is shown is in effect"
