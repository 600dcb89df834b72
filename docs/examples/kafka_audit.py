"""Adds up what arrived in a topic of Kafka: which spans of which batch of which drain, and which came twice.

    python docs/examples/kafka_audit.py --brokers localhost:9092 --topic otlp_spans

Reads the topic from its beginning to its end, and commits nothing. Each message says in its headers which spans of
which batch it has (docs/kafka.md). What a drain sent twice is counted once; what is absent between batches is told.
What a killed drain had not released comes again from the next one, under a number of that one: it counts as others.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_PATIENCE_SECONDS: Final = 10.0
_AT_ONCE: Final = 500
_STEP_SECONDS: Final = 0.2


@dataclass(slots=True)
class Batch:
    """What arrived of one batch.

    Attributes:
        spans: that it had when it was made.
        ranges: first span and end of each message.
    """

    spans: int
    ranges: list[tuple[int, int]] = field(default_factory=list)

    def distinct(self) -> int:
        """Return how many of its spans arrived, each counted once."""
        count = reached = 0
        for first, end in sorted(self.ranges):
            count += max(0, end - max(first, reached))
            reached = max(reached, end)
        return count

    def arrived(self) -> int:
        """Return how many spans arrived, those that came twice counted twice."""
        return sum(end - first for first, end in self.ranges)


@dataclass(slots=True)
class Sums:
    """What arrived of one run of one drain.

    Attributes:
        batches: of which something arrived.
        absent_batches: numbers between the first and the last that nothing arrived of: dead letters, what waits in a
            spool, what the topic's retention has deleted.
        spans: that arrived, each counted once.
        repeated: that arrived once more.
        missing: of batches of which something arrived.
    """

    batches: int = 0
    absent_batches: int = 0
    spans: int = 0
    repeated: int = 0
    missing: int = 0


def add_up(headers: Iterable[Mapping[str, str]]) -> dict[str, Sums]:
    """Return the sums of each run of a drain.

    Args:
        headers: of each message. Those without a number, of whoever else writes there, are under the empty name.
    """
    drains: defaultdict[str, dict[int, Batch]] = defaultdict(dict)
    unnumbered = Sums()
    for message in headers:
        spans = int(message.get("ringbuf.spans", "0"))
        if "ringbuf.batch" not in message:
            unnumbered.batches += 1
            unnumbered.spans += spans
            continue
        number, first = int(message["ringbuf.batch"]), int(message["ringbuf.first"])
        batch = drains[message["ringbuf.drain"]].setdefault(number, Batch(int(message["ringbuf.of"])))
        batch.ranges.append((first, first + spans))
    sums = {drain: _sums_of(batches) for drain, batches in sorted(drains.items())}
    return sums if not unnumbered.batches else {"": unnumbered} | sums


def _sums_of(batches: Mapping[int, Batch]) -> Sums:
    spans = sum(batch.distinct() for batch in batches.values())
    return Sums(
        batches=len(batches),
        absent_batches=max(batches) - min(batches) + 1 - len(batches),
        spans=spans,
        repeated=sum(batch.arrived() for batch in batches.values()) - spans,
        missing=sum(batch.spans for batch in batches.values()) - spans,
    )


def headers_in(configuration: Mapping[str, Any], topic: str) -> Iterator[dict[str, str]]:
    """Yield the headers of each message that a topic has now.

    Raises:
        KafkaException: the brokers do not answer.
    """
    own = {"group.id": "ringbuf-kafka-audit", "enable.auto.commit": False, "enable.partition.eof": True}
    consumer = Consumer({**own, **configuration})
    try:
        left = _ends(consumer, topic)
        consumer.assign([TopicPartition(topic, number, low) for number, (low, _) in left.items()])
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while left:
            messages = consumer.consume(_AT_ONCE, _STEP_SECONDS)
            if messages:
                deadline = time.monotonic() + _PATIENCE_SECONDS
            elif time.monotonic() >= deadline:
                raise TimeoutError(f"nothing more of partitions {sorted(left)} within {_PATIENCE_SECONDS} s")
            for message in messages:
                partition: Any = message.partition()
                error, offset = message.error(), message.offset()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its name in the library's documents
                    left.pop(partition, None)
                    continue
                if error is not None:
                    raise KafkaException(error)
                pairs: Any = message.headers() or ()
                yield {name: (value or b"").decode() for name, value in pairs}
                if partition in left and offset is not None and offset + 1 >= left[partition][1]:
                    del left[partition]  # what comes while it is read is not waited for
    finally:
        consumer.close()


def _ends(consumer: Consumer, topic: str) -> dict[int, tuple[int, int]]:
    """Return the first and the next offset of each partition that has anything."""
    known = consumer.list_topics(topic, timeout=_PATIENCE_SECONDS).topics[topic]
    if known.error is not None:
        raise KafkaException(known.error)
    ends = {
        number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=_PATIENCE_SECONDS)
        for number in known.partitions
    }
    return {number: (low, high) for number, (low, high) in ends.items() if low < high}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the sums; return 1 where a batch did not arrive whole."""
    parser = argparse.ArgumentParser(description="Add up what drains have sent to a topic.")
    parser.add_argument("--brokers", required=True, help="HOST:PORT, with commas")
    parser.add_argument("--topic", default="otlp_spans")
    parser.add_argument("--property", action="append", default=[], metavar="NAME=VALUE", help="of librdkafka")
    options = parser.parse_args(arguments)
    configuration = dict(text.split("=", 1) for text in options.property)
    sums = add_up(headers_in({"bootstrap.servers": options.brokers, **configuration}, options.topic))
    print(f"{'drain':16} {'batches':>9} {'absent':>8} {'spans':>11} {'repeated':>9} {'missing':>8}")
    for drain, one in sums.items():
        counts = f"{one.batches:9} {one.absent_batches:8} {one.spans:11} {one.repeated:9} {one.missing:8}"
        print(f"{drain or '(no number)':16} {counts}")
    print(f"{'all':16} {'':9} {'':8} {sum(one.spans for one in sums.values()):11}")
    return int(any(one.missing for one in sums.values()))


if __name__ == "__main__":
    sys.exit(main())
