"""What a client of Kafka knows of its brokers and its topic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Broker:
    """One broker, as the client sees it.

    Attributes:
        name: HOST:PORT/ID.
        round_trip_seconds: mean of the last interval; None: there was none.
        throttle_seconds: for how long it made the client wait, mean of the last interval; None: there was none.
        errors: failed and timed-out requests and broken replies, since the producer was made.
    """

    name: str
    round_trip_seconds: float | None
    throttle_seconds: float | None
    errors: int


@dataclass(frozen=True, slots=True)
class BrokerState:
    """What an exporter to Kafka shows.

    Attributes:
        queued_messages: that the client has, unsent or without an answer.
        queued_bytes: of these.
        brokers: those that it has spoken to.
        partitions: of the topic; 0: not known.
        partitions_without_leader: of these, which nobody can write to.
        messages: that were delivered.
        message_bytes: of these, before compression.
        message_spans: in these.
        producers: that were made since the start; more than one: a fatal error, or a reload.
    """

    queued_messages: int = 0
    queued_bytes: int = 0
    brokers: tuple[Broker, ...] = ()
    partitions: int = 0
    partitions_without_leader: int = 0
    messages: int = 0
    message_bytes: int = 0
    message_spans: int = 0
    producers: int = 0
