"""Reads what a topic of a test has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaException, TopicPartition

from tests.kafka.cluster import TOPIC
from tests.waiting import comes_true

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import KafkaError, Message


def read_until(
    enough: Callable[[Sequence[Message]], bool], bootstrap: str, partitions: int = 4, topic: str = TOPIC
) -> list[Message]:
    """Read a topic from its beginning until there is enough of it, or too much time has passed.

    Raises:
        KafkaException: the last error that was met in so much time; one that passed is none.
    """
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "test", "enable.auto.commit": False, "log_level": 0}
    )
    found: list[Message] = []
    errors: list[KafkaError] = []

    def read_some() -> None:
        for message in consumer.consume(500, 0.1):
            if (error := message.error()) is None:
                found.append(message)
            else:
                errors.append(error)

    try:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
        if not comes_true(lambda: enough(found), read_some) and errors:
            raise KafkaException(errors[-1])
    finally:
        consumer.close()
    return found


def headers_of(message: Message) -> dict[str, str]:
    headers: list[tuple[str, bytes]] = message.headers() or []  # type: ignore[assignment]  # as a reader has them
    return {name: value.decode() for name, value in headers}
