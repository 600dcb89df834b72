"""Spans as messages of Kafka: one message a request, and an attempt that ends with its delivery report."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog

from drain.accounting.broker_state import BrokerState
from drain.exporters.kafka.partition import MOST_PARTITIONS, KafkaPartitioner
from drain.exporters.kafka.producer import ANY, Producer, Report
from drain.exporters.kafka.topic import Administration, Topic, look
from drain.exporters.kafka.verdicts import Meaning, meaning_of, result_of
from drain.exporters.protocol import Result, Verdict
from drain.log import RepeatedTrouble
from drain.otlp.transcode import in_encoding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drain.exporters.kafka.options import KafkaOptions
    from drain.exporters.kafka.producer import Failure
    from drain.otlp.request import Encoding, Request

_LOOK_SECONDS: Final = 60.0
_TELL_SECONDS: Final = 50.0
_FEW_SPANS: Final = 60  # with which messages take one and a half times the bytes
_LOOK_SOON_SECONDS: Final = 5.0  # while it is not there
_ENCODINGS: Final[dict[str, Encoding]] = {"otlp_proto": "protobuf", "otlp_json": "json"}
# What a broker takes whose limit nobody may see: its default, 1 MiB and a little.
_USUAL_MOST_BYTES: Final = 1_048_588
# Of a message beside its body: headers, and a batch of records around it (61 bytes, and 22 for the record).
_AROUND_BYTES: Final = 1024
_CLOSED: Final = Result(Verdict.RETRY, message="the exporter is closed")


class KafkaExporter:
    """Sends each request as one message of a topic.

    A thread looks at the topic at the start and every minute. What it finds is said in the log; the topic's limit is
    `most_bytes`.

    Args:
        options: brokers, topic, properties.

    Attributes:
        topic: what is known of the topic.

    Raises:
        ValueError: a property cannot be.
    """

    def __init__(self, options: KafkaOptions) -> None:
        self._options = options
        self._configuration = options.configuration()
        self._new_topic = options.new_topic()
        self.encoding: Encoding = _ENCODINGS[options.encoding]
        self.endpoint = f"topic {options.topic} of {self._configuration['bootstrap.servers']}"
        self._log = structlog.get_logger("drain.exporters.kafka").bind(topic=options.topic)
        self._trouble = RepeatedTrouble(self._log)
        self._lock = threading.Lock()
        self._is_closed = False
        self._messages = self._message_bytes = self._message_spans = self._producers = 0
        self.topic = Topic()
        self._told_messages = self._told_spans = 0
        self._told_at = time.monotonic()
        self._partitions = 0  # when it was seen last
        self._partitioner: KafkaPartitioner | None = None
        self._has_looked = threading.Event()
        self._look_now = threading.Event()
        self._asks_settings = True
        self._producer = self._made()
        self._watch = threading.Thread(target=self._keep_looking, name="kafka-topic", daemon=True)
        self._watch.start()

    @property
    def most_bytes(self) -> int:
        """The largest body that is taken: by the topic's limit, the producer's, and what was refused."""
        most = min(self.topic.most_bytes() or _USUAL_MOST_BYTES, int(self._configuration["message.max.bytes"]))
        return max(1, most - _AROUND_BYTES)

    @property
    def partitioner(self) -> KafkaPartitioner | None:
        """What sorts spans by partition; None: nothing does, or it is not known how many there are."""
        by, partitions = self._options.partition_by, self._partitions
        if by == "none" or not partitions:
            return None
        partitioner = self._partitioner
        if partitioner is None or len(partitioner.names) != partitions:
            partitioner = self._partitioner = KafkaPartitioner(by, self._options.partitioner, partitions)
        return partitioner

    @property
    def most_together(self) -> int:
        """How many requests one call may be given: one for each partition."""
        return max(1, self._partitions)

    def export(self, request: Request) -> Result:
        """Send one message and wait for its report; see `drain.exporters.protocol.Exporter`."""
        (result,) = self.export_together((request,))
        return result

    def export_together(self, requests: Sequence[Request]) -> Sequence[Result]:
        """Send a message for each and wait for all reports; see `drain.exporters.protocol.GroupExporter`."""
        producer = self._take()
        if producer is None:
            return [_CLOSED] * len(requests)
        try:
            sent = [self._send(producer, request) for request in requests]
            return [
                one if isinstance(one, Result) else self._told(request, one, producer)
                for request, one in zip(requests, sent, strict=True)
            ]
        finally:
            self._put_down(producer)

    def _send(self, producer: Producer, request: Request) -> Report | Result:
        """Send one message; return where its report is waited for, or why it was not sent."""
        try:
            body = in_encoding(request, self.encoding).body
        except ValueError as error:
            return Result(Verdict.REFUSED, message=str(error))
        is_there = request.destination.isdecimal() and int(request.destination) < (self._partitions or MOST_PARTITIONS)
        if not is_there and self._options.partition_by != "none":  # the delivery sorts it as soon as that is known
            return Result(Verdict.RETRY, message=f"it is not known yet which partitions {self.endpoint} has")
        body = body.rstrip(b"\n") if self.encoding == "json" else body
        partition = int(request.destination) if is_there else ANY
        return producer.send(self._options.topic, body, headers_of(request), partition)

    def _told(self, request: Request, report: Report, producer: Producer) -> Result:
        """Wait for the report of one message; return what it means."""
        failure = report.wait()
        if failure is None:
            with self._lock:
                self._messages += 1
                self._message_bytes += request.body_bytes
                self._message_spans += request.spans
            return Result(Verdict.DELIVERED)
        if self._is_closed:
            return replace(_CLOSED, message=failure.text)
        return self._judged(failure, producer)

    def findings(self) -> Sequence[str]:
        """Return what an operator should know of the topic, after the first look at it."""
        self._has_looked.wait()
        return tuple(self.topic.findings(self._options.topic, is_made=self._new_topic is not None))

    def is_reachable(self) -> bool:
        """Return whether the topic is there, after the first look at it."""
        self._has_looked.wait()
        return bool(self.topic.is_there) and not self.topic.problem

    def broker_state(self) -> BrokerState:
        """Return what is shown of brokers, topic and messages."""
        with self._lock:
            statistics = self._producer.statistics
            return BrokerState(
                queued_messages=statistics.queued_messages,
                queued_bytes=statistics.queued_bytes,
                brokers=statistics.brokers,
                partitions=self.topic.partitions,
                partitions_without_leader=self.topic.without_leader,
                messages=self._messages,
                message_bytes=self._message_bytes,
                message_spans=self._message_spans,
                producers=self._producers,
            )

    def renew(self) -> None:
        """Leave the producer for one with the secrets that are in their files now."""
        try:
            self._configuration = self._options.configuration()
        except ValueError as error:
            self._trouble.warn("the Kafka client cannot be renewed", reason=str(error))
        else:
            self._replace(self._producer)
        self._asks_settings = True
        self._look_now.set()

    def close(self) -> None:
        """Give up what is under way: it ends as not delivered, since nobody knows."""
        with self._lock:
            self._is_closed = True
            producer = self._producer
        self._look_now.set()
        producer.close()
        self._watch.join(_LOOK_SOON_SECONDS)

    def _judged(self, failure: Failure, producer: Producer) -> Result:
        if meaning_of(failure.code) is Meaning.NEW_PRODUCER:
            self._trouble.warn("a new Kafka producer is made", reason=failure.text)
            producer.give_up()
            self._replace(producer)
        missing = f"the topic {self._options.topic} does not exist" if self.topic.is_there is False else ""
        result = result_of(failure.code, failure.text, trouble=producer.trouble, hint=missing)
        if result.needs_operator:
            self._trouble.error("Kafka takes no spans until somebody mends this; they are held", reason=result.message)
            self._look_now.set()  # the client believes what it was told until it asks again, minutes later
        return result

    # ---- producers ----

    def _made(self) -> Producer:
        made = Producer(self._configuration)
        self._producers += 1
        return made

    def _take(self) -> Producer | None:
        with self._lock:
            if self._is_closed:
                return None
            self._producer.calls += 1
            return self._producer

    def _put_down(self, producer: Producer) -> None:
        """End a call; the last one of a producer that was left closes it."""
        with self._lock:
            producer.calls -= 1
            is_left = producer is not self._producer and not producer.calls
        if is_left:
            producer.close()

    def _replace(self, old: Producer) -> None:
        """Leave a producer for another, unless somebody else has; what is under way on it comes to its end there.

        Where none can be made, since a certificate is being replaced, the old one stays: its next failure tries again.
        """
        try:
            with self._lock:
                if self._is_closed or self._producer is not old:
                    return
                self._producer = self._made()
                is_unused = not old.calls
        except ValueError as error:
            self._trouble.warn("the Kafka client cannot be renewed", reason=str(error))
            return
        if is_unused:
            old.close()

    # ---- the topic ----

    def _keep_looking(self) -> None:
        said: tuple[str, ...] = ()
        while not self._is_closed:
            try:
                self._look()
            except Exception as error:  # noqa: BLE001 - no memory, a broker's nonsense: it is looked at again
                self._trouble.warn("the topic cannot be looked at", reason=repr(error))
            self._has_looked.set()
            findings = tuple(self.topic.findings(self._options.topic, is_made=self._new_topic is not None))
            if findings != said and not self._is_closed:
                said = findings
                for finding in findings:
                    self._log.warning("about the topic", finding=finding)
                if self.topic.is_there:
                    self._log.info("the topic is there", partitions=self.topic.partitions, most_bytes=self.most_bytes)
            self._look_now.wait(_LOOK_SECONDS if self.topic.is_there else _LOOK_SOON_SECONDS)
            self._look_now.clear()
            self._tell_messages()

    def _tell_messages(self) -> None:
        """Tell, each minute in which there were any, how many spans a message had: of few it takes more bytes."""
        with self._lock:
            messages, spans = self._messages - self._told_messages, self._message_spans - self._told_spans
            if messages and time.monotonic() - self._told_at >= _TELL_SECONDS:
                self._told_messages, self._told_spans = self._messages, self._message_spans
                self._told_at = time.monotonic()
            else:
                messages = 0
        if messages:
            is_cut_small = self._options.partition_by != "none" and spans < _FEW_SPANS * messages
            hint = "fewer partitions, or a longer --batch-delay, take fewer bytes" if is_cut_small else None
            self._log.info("messages were sent", messages=messages, spans_a_message=round(spans / messages), hint=hint)

    def _look(self) -> None:
        name, known = self._options.topic, self.topic
        found = look(self._producer, name, is_known=bool(known.is_there), goes_on=self._goes_on)
        if found.is_there is False and self._new_topic is not None:
            problem = Administration(self._configuration, self._producer).make(name, self._new_topic, self._goes_on)
            if problem:
                found = replace(found, problem=problem)
            else:
                self._log.info("the topic was made", partitions=self._new_topic.partitions)
                found = look(self._producer, name, is_known=True, goes_on=self._goes_on)
        self._partitions = found.partitions or self._partitions
        self.topic = replace(found, settings=known.settings)  # known now: its settings may be long in coming
        if found.is_there and self._asks_settings:  # seldom, since it takes connections of its own
            with suppress(TimeoutError):  # brokers that are coming up: they are asked again at the next look
                settings = Administration(self._configuration, self._producer).settings(name, self._goes_on)
                self._asks_settings = False
                self.topic = replace(found, settings=settings)

    def _goes_on(self) -> bool:
        return not self._is_closed


def headers_of(request: Request) -> list[tuple[str, bytes]]:
    """Return the headers by which a reader counts what arrived: which spans of which batch a message has.

    >>> from drain.otlp.batch_number import BatchNumber
    >>> from drain.otlp.request import Request
    >>> number = BatchNumber("00f1e2d3c4b5a697", 7, 200, 512)
    >>> [value.decode() for _, value in headers_of(Request(b"", 100, "protobuf", batch=number))]
    ['100', '00f1e2d3c4b5a697', '7', '200', '512']
    """
    headers = {"ringbuf.spans": str(request.spans)}
    if (batch := request.batch) is not None:
        headers |= {
            "ringbuf.drain": batch.drain,
            "ringbuf.batch": str(batch.number),
            "ringbuf.first": str(batch.first),
            "ringbuf.of": str(batch.spans),
        }
    return [(name, value.encode()) for name, value in headers.items()]
