"""What the brokers say of the topic: whether it is there, who leads its partitions, and what about it loses spans."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import confluent_kafka.admin
from confluent_kafka import KafkaException

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from drain.exporters.kafka.options import NewTopic
    from drain.exporters.kafka.producer import Producer

admin: Any = confluent_kafka.admin  # whose types leave out what its documents name

_ANSWER_SECONDS: Final = 5.0
_STEP_SECONDS: Final = 0.2  # after which it is looked whether anybody waits any more
_ALREADY_THERE: Final = 36
# Of the client's own work, apart from the producer's: what an admin client needs.
_OF_A_PRODUCER: Final = (
    *("acks", "enable.idempotence", "compression.codec", "message.timeout.ms", "request.timeout.ms", "linger.ms"),
    *("message.max.bytes", "statistics.interval.ms", "message.send.max.retries", "batch.size", "partitioner"),
    *("batch.num.messages", "max.in.flight.requests.per.connection"),
)


@dataclass(frozen=True, slots=True)
class Topic:
    """What is known of a topic.

    Attributes:
        is_there: it is, as far as this user sees; None: no broker has answered.
        problem: of the topic, in the brokers' words; empty: none.
        partitions: how many.
        without_leader: of these, which nobody can write to.
        replicas: the fewest of a partition.
        settings: its configuration, where this user may see it.
    """

    is_there: bool | None = None
    problem: str = ""
    partitions: int = 0
    without_leader: int = 0
    replicas: int = 0
    settings: Mapping[str, str] | None = None

    def most_bytes(self) -> int | None:
        """Return the largest batch of records that it takes; None: nobody knows."""
        value = (self.settings or {}).get("max.message.bytes", "")
        return int(value) if value.isdecimal() else None

    def findings(self, name: str, *, is_made: bool) -> Iterator[str]:
        """Say what an operator should know: what loses spans, and what is not possible.

        Args:
            name: of the topic.
            is_made: it is made where it is missing.
        """
        if self.is_there is None:
            yield f"no broker has answered: {self.problem}"
            return
        if not self.is_there:
            made = "it could not be made" if is_made else "make it, or let the drain (--kafka-create-topic)"
            yield f"the topic {name} does not exist, or this user may not see it; {made}: {self.problem or 'not found'}"
            return
        if self.problem:
            yield f"the topic {name}: {self.problem}"
        if self.without_leader:
            verb = "has" if self.without_leader == 1 else "have"
            yield f"{self.without_leader} of {self.partitions} partitions of {name} {verb} no leader"
        if self.replicas == 1:
            yield f"the topic {name} has one replica: what a broker's disk has is lost with it"
        settings = self.settings or {}
        if self.replicas > 1 and settings.get("min.insync.replicas") == "1":
            yield f"the topic {name} has min.insync.replicas 1: a span may count as delivered that one broker has"
        if "compact" in settings.get("cleanup.policy", ""):
            yield f"the topic {name} is compacted: it takes no message without a key, and ours have none"


def look(producer: Producer, name: str, *, is_known: bool, goes_on: Callable[[], bool]) -> Topic:
    """Ask the brokers for a topic; the producer then knows of new partitions, too.

    Args:
        producer: whose connections are used.
        name: of the topic.
        is_known: it was there before. One that was not is looked for in the list, since asking for it may make it.
        goes_on: whether anybody waits for the answer.
    """
    deadline = time.monotonic() + _ANSWER_SECONDS
    problem = ""
    while goes_on():
        try:
            topics = producer.topics(_STEP_SECONDS, name if is_known else None)
        except KafkaException as error:
            problem = error.args[0].str() if producer.trouble is None else producer.trouble.text
            if time.monotonic() >= deadline:
                break
            continue
        return _topic_of(topics.get(name))
    return Topic(problem=problem or "closed")


def _topic_of(metadata: Any) -> Topic:
    if metadata is None or not metadata.partitions:
        return Topic(is_there=False, problem="" if metadata is None or metadata.error is None else metadata.error.str())
    partitions = metadata.partitions.values()
    return Topic(
        is_there=True,
        problem="" if metadata.error is None else metadata.error.str(),
        partitions=len(partitions),
        without_leader=sum(partition.leader < 0 for partition in partitions),
        replicas=min(len(partition.replicas) for partition in partitions),
    )


class Administration:
    """A client for what producers cannot ask; to be closed soon, since it has connections of its own.

    Args:
        configuration: the producer's.
        logger: takes the library's lines.
    """

    def __init__(self, configuration: Mapping[str, str], logger: Any) -> None:
        own = {name: value for name, value in configuration.items() if name not in _OF_A_PRODUCER}
        self._client = admin.AdminClient(own, logger=logger)

    def settings(self, topic: str, goes_on: Callable[[], bool]) -> Mapping[str, str] | None:
        """Return a topic's configuration; None: this user may not see it, or the brokers do not tell.

        Raises:
            TimeoutError: nobody has answered.
        """
        resource = admin.ConfigResource(admin.ResourceType.TOPIC, topic)
        (future,) = self._client.describe_configs([resource], request_timeout=_ANSWER_SECONDS).values()
        try:
            return {name: str(entry.value) for name, entry in self._answer(future, goes_on).items()}
        except KafkaException as error:
            if error.args[0].code() < 0:  # the library's own: no broker has said it
                raise TimeoutError from None
        return None

    def make(self, topic: str, new: NewTopic, goes_on: Callable[[], bool]) -> str:
        """Make a topic; return why it could not be made, empty where it is there now."""
        wanted = admin.NewTopic(topic, new.partitions, new.replicas)
        (future,) = self._client.create_topics([wanted], request_timeout=_ANSWER_SECONDS).values()
        try:
            self._answer(future, goes_on)
        except KafkaException as error:
            return "" if error.args[0].code() == _ALREADY_THERE else str(error.args[0].str())
        except TimeoutError:
            return "nobody answered"
        return ""

    def _answer(self, future: Any, goes_on: Callable[[], bool]) -> Any:
        """Wait for an answer as long as anybody wants it.

        Raises:
            KafkaException: it is an error.
            TimeoutError: nobody waits any more, or none came.
        """
        deadline = time.monotonic() + 2 * _ANSWER_SECONDS
        while not future.done():
            self._client.poll(0.0)
            if not goes_on() or time.monotonic() >= deadline:
                raise TimeoutError
            with contextlib.suppress(TimeoutError):
                return future.result(_STEP_SECONDS)
        return future.result()
