"""One producer of librdkafka, and the thread that hears what it says: reports, errors, log lines, statistics."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import confluent_kafka
import structlog

from drain.accounting.broker_state import Broker
from drain.exporters.kafka.verdicts import PURGED, QUEUE_FULL, says_more
from drain.log import RepeatedTrouble

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ANY: Final = -1  # partition
_POLL_SECONDS: Final = 0.1
_FLUSH_SECONDS: Final = 2.0
_OLD_SECONDS: Final = 60.0  # what was met before says nothing of now
_PAUSE_SECONDS: Final = 0.05  # after an error, which may be want of memory
_WARNING: Final = 30  # of the logging module, which confluent-kafka speaks
_INFO: Final = 20
_BROKEN: Final = "the producer is closed"


class Failure(NamedTuple):
    """Why a message was not delivered.

    Attributes:
        code: of Kafka, or negative, of the library.
        text: its words.
    """

    code: int
    text: str


class Statistics(NamedTuple):
    """What the library tells every `statistics.interval.ms`."""

    queued_messages: int = 0
    queued_bytes: int = 0
    brokers: tuple[Broker, ...] = ()


class Report:
    """Where the report of one message is waited for.

    Args:
        failure: it was not even taken; None: it is under way.
    """

    __slots__ = ("_done", "_failure", "_producer")

    def __init__(self, producer: Producer, failure: Failure | None = None) -> None:
        self._producer = producer
        self._done = threading.Event()
        self._failure = failure
        if failure is not None:
            self._done.set()

    def __call__(self, error: Any, _message: Any) -> None:
        """Take note of the report; called by the thread that hears it."""
        self._failure = None if error is None else Failure(error.code(), error.str())
        self._done.set()

    def wait(self) -> Failure | None:
        """Return why the message was not delivered, or None.

        The report comes within `message.timeout.ms`: nobody may give up before, since the message would be sent twice.
        """
        while not self._done.wait(_FLUSH_SECONDS):
            if self._producer.has_ended:
                return Failure(PURGED, _BROKEN)
        if self._failure is None:
            self._producer.trouble = None
        return self._failure


class Producer:
    """Sends messages, each of which is waited for.

    Args:
        configuration: librdkafka's properties.

    Attributes:
        trouble: what it met since the last message that was delivered: the reason where one timed out.
        statistics: the last.
        calls: attempts that run on it; counted by who uses it.
        has_ended: no report comes any more.

    Raises:
        ValueError: librdkafka refuses a property.
    """

    def __init__(self, configuration: Mapping[str, str]) -> None:
        self._log = structlog.get_logger("drain.exporters.kafka")
        self._repeated = RepeatedTrouble(self._log)
        self.trouble: Failure | None = None
        self._trouble_at = 0.0
        self.statistics = Statistics()
        self.calls = 0
        self._lock = threading.Lock()
        self._asking = threading.Lock()  # some releases of the library crash where a client is closed that asks
        self._is_closed = False
        self.has_ended = False
        hooks: dict[str, Any] = {"error_cb": self._error, "stats_cb": self._note_statistics, "logger": self}
        try:
            self._client: Any = confluent_kafka.Producer({**configuration, **hooks})
        except confluent_kafka.KafkaException as error:
            raise ValueError(f"kafka: {error.args[0].str()}") from None
        self._thread = threading.Thread(target=self._listen, name="kafka-reports", daemon=True)
        self._thread.start()

    def send(self, topic: str, value: bytes, headers: Sequence[tuple[str, bytes]], partition: int = ANY) -> Report:
        """Send one message; return where its report is waited for.

        Args:
            topic: of it.
            value: of it.
            headers: of it.
            partition: of the topic; `ANY`: the library chooses one.
        """
        report = Report(self)
        if self._is_closed:
            return Report(self, Failure(PURGED, _BROKEN))
        try:
            self._client.produce(topic, value, headers=list(headers), partition=partition, on_delivery=report)
        except confluent_kafka.KafkaException as error:
            return Report(self, Failure(error.args[0].code(), error.args[0].str()))
        except BufferError:
            return Report(self, Failure(QUEUE_FULL, "too much waits in the client"))
        except RuntimeError:  # it was closed in this moment
            return Report(self, Failure(PURGED, _BROKEN))
        return report

    def topics(self, seconds: float, topic: str | None = None) -> Mapping[str, Any]:
        """Return what the brokers say of one topic, or of all that this user may see.

        A broker that makes topics by itself makes the one that is asked for; nobody makes those that are listed.

        Raises:
            KafkaException: they do not answer.
            RuntimeError: the producer is closed.
        """
        asked = () if topic is None else (topic,)
        with self._asking:
            if self.has_ended:
                raise RuntimeError(_BROKEN)
            topics: Mapping[str, Any] = self._client.list_topics(*asked, timeout=seconds).topics
        return topics

    def give_up(self) -> None:
        """Let what is under way end now, as not delivered: this producer is done for."""
        with contextlib.suppress(RuntimeError):  # it is closed
            self._client.purge()

    def close(self) -> None:
        """End what is under way, as not delivered, and wait for the reports; bounded, whatever the brokers do."""
        with self._lock:
            if self.has_ended:
                return
            self._is_closed = True
            self._thread.join()
            # Without the purge it would wait for brokers that are not there, without the flush nobody would be told.
            self._client.purge()
            self._client.flush(_FLUSH_SECONDS)
            self._client.purge()  # of who was in `send` when it was closed
            self.has_ended = True
            with self._asking:
                self._client.close()

    def log(self, level: int, form: str, *words: object, **_more: object) -> None:
        """Take a line of the library's log; called with a level of the logging module."""
        text = form % words
        if level >= _WARNING:
            self._repeated.warn("the Kafka client warns", text=text)
        elif level >= _INFO:
            self._log.info("the Kafka client says", text=text)
        else:
            self._log.debug("the Kafka client says", text=text)

    def _listen(self) -> None:
        while not self._is_closed:
            try:
                self._client.poll(_POLL_SECONDS)
            except confluent_kafka.KafkaException as error:  # a fatal one is raised, and the reports say it, too
                self._error(error.args[0])
            except Exception as error:  # noqa: BLE001 - no memory: reports that nobody hears would be waited for
                self._repeated.warn("the Kafka client's reports are late", reason=repr(error))
                time.sleep(_PAUSE_SECONDS)

    def _error(self, error: Any) -> None:
        code, text = error.code(), error.str()
        now = time.monotonic()
        if now - self._trouble_at >= _OLD_SECONDS or self.trouble is None or says_more(code, self.trouble.code):
            self.trouble, self._trouble_at = Failure(code, text), now
        self._repeated.warn("the Kafka client is in trouble", reason=text)

    def _note_statistics(self, text: str) -> None:
        self.statistics = statistics_of(text)


def statistics_of(text: str) -> Statistics:
    """Return what is shown of the library's statistics.

    Source: librdkafka STATISTICS.md: times of round trips in microseconds, of throttling in milliseconds.
    """
    found = json.loads(text)
    brokers = tuple(
        Broker(
            broker["name"],
            broker["rtt"]["avg"] / 1e6 if broker["rtt"]["cnt"] else None,
            broker["throttle"]["avg"] / 1e3 if broker["throttle"]["cnt"] else None,
            broker["txerrs"] + broker["rxerrs"] + broker["req_timeouts"],
        )
        for broker in found["brokers"].values()
        if broker["nodeid"] >= 0
    )
    return Statistics(found["msg_cnt"], found["msg_size"], brokers)
