"""What an error code of Kafka means for a batch: one table, since the library's own `retriable()` knows no such thing.

It says false of quotas and of reassigned partitions, which pass, as of a missing right, which somebody has to mend. No
code is a refusal of spans: a broker does not look into a message.

Source: Kafka protocol guide, "Error codes"; librdkafka `rdkafka.h`, `rd_kafka_resp_err_t` (negative: its own).
"""

from __future__ import annotations

import enum
from typing import Final

from drain.exporters.otlp_reply import LONGEST_MESSAGE, one_line
from drain.exporters.protocol import Result, Verdict

MSG_TIMED_OUT: Final = -192
AUTHENTICATION: Final = -169
SSL: Final = -181
RESOLVE: Final = -193
ALL_BROKERS_DOWN: Final = -187
UNKNOWN_TOPIC: Final = -188
QUEUE_FULL: Final = -184
PURGED: Final = -152


class Meaning(enum.Enum):
    """What is to be done about an error."""

    PASSES = "passes"
    """It is sent again: brokers, leaders, replicas, quotas come back."""
    OPERATORS = "operator's"
    """Any batch would be answered so: they are held, and the log says what to mend."""
    TOO_LARGE = "too large"
    """The size is the new bound."""
    NEW_PRODUCER = "new producer"
    """This producer is done for; another sends the batch again."""


_RIGHTS: Final = "the drain's user needs the right to write to the topic (ACL Write, Describe)"

# By code: the name in Kafka's documents, what it means, what an operator can do.
CODES: Final[dict[int, tuple[str, Meaning, str]]] = {
    -195: ("_TRANSPORT", Meaning.PASSES, ""),
    RESOLVE: ("_RESOLVE", Meaning.PASSES, ""),
    MSG_TIMED_OUT: ("_MSG_TIMED_OUT", Meaning.PASSES, ""),
    -190: ("_UNKNOWN_PARTITION", Meaning.PASSES, ""),
    UNKNOWN_TOPIC: ("_UNKNOWN_TOPIC", Meaning.OPERATORS, "make the topic, or let the drain (--kafka-create-topic)"),
    ALL_BROKERS_DOWN: ("_ALL_BROKERS_DOWN", Meaning.PASSES, ""),
    -185: ("_TIMED_OUT", Meaning.PASSES, ""),
    QUEUE_FULL: ("_QUEUE_FULL", Meaning.PASSES, ""),
    SSL: ("_SSL", Meaning.OPERATORS, "see ssl.ca.location and the names in the broker's certificate"),
    -172: ("_STATE", Meaning.NEW_PRODUCER, ""),
    AUTHENTICATION: ("_AUTHENTICATION", Meaning.OPERATORS, "see sasl.username, sasl.password and sasl.mechanisms"),
    PURGED: ("_PURGE_QUEUE", Meaning.PASSES, ""),
    -151: ("_PURGE_INFLIGHT", Meaning.PASSES, ""),
    -150: ("_FATAL", Meaning.NEW_PRODUCER, ""),
    -149: ("_INCONSISTENT", Meaning.NEW_PRODUCER, ""),
    -144: ("_FENCED", Meaning.NEW_PRODUCER, ""),
    2: ("CORRUPT_MESSAGE", Meaning.PASSES, ""),
    3: ("UNKNOWN_TOPIC_OR_PARTITION", Meaning.OPERATORS, "make the topic, or let the drain (--kafka-create-topic)"),
    5: ("LEADER_NOT_AVAILABLE", Meaning.PASSES, ""),
    6: ("NOT_LEADER_OR_FOLLOWER", Meaning.PASSES, ""),
    7: ("REQUEST_TIMED_OUT", Meaning.PASSES, ""),
    8: ("BROKER_NOT_AVAILABLE", Meaning.PASSES, ""),
    9: ("REPLICA_NOT_AVAILABLE", Meaning.PASSES, ""),
    10: ("MESSAGE_TOO_LARGE", Meaning.TOO_LARGE, ""),
    13: ("NETWORK_EXCEPTION", Meaning.PASSES, ""),
    17: ("INVALID_TOPIC_EXCEPTION", Meaning.OPERATORS, "choose another --kafka-topic"),
    18: ("RECORD_LIST_TOO_LARGE", Meaning.TOO_LARGE, ""),
    19: ("NOT_ENOUGH_REPLICAS", Meaning.PASSES, ""),
    20: ("NOT_ENOUGH_REPLICAS_AFTER_APPEND", Meaning.PASSES, ""),
    21: ("INVALID_REQUIRED_ACKS", Meaning.OPERATORS, "set acks to all"),
    29: ("TOPIC_AUTHORIZATION_FAILED", Meaning.OPERATORS, _RIGHTS),
    31: ("CLUSTER_AUTHORIZATION_FAILED", Meaning.OPERATORS, "before Kafka 2.8 idempotence needs IdempotentWrite"),
    32: ("INVALID_TIMESTAMP", Meaning.OPERATORS, "see message.timestamp.before.max.ms and this machine's clock"),
    33: ("UNSUPPORTED_SASL_MECHANISM", Meaning.OPERATORS, "set sasl.mechanisms to one that the brokers have"),
    34: ("ILLEGAL_SASL_STATE", Meaning.OPERATORS, "see security.protocol"),
    35: ("UNSUPPORTED_VERSION", Meaning.OPERATORS, "the brokers are too old for a property"),
    42: ("INVALID_REQUEST", Meaning.OPERATORS, "see the brokers' log"),
    43: ("UNSUPPORTED_FOR_MESSAGE_FORMAT", Meaning.OPERATORS, "message.format.version must be 0.11 or later"),
    44: ("POLICY_VIOLATION", Meaning.OPERATORS, "see the brokers' policies"),
    45: ("OUT_OF_ORDER_SEQUENCE_NUMBER", Meaning.NEW_PRODUCER, ""),
    46: ("DUPLICATE_SEQUENCE_NUMBER", Meaning.NEW_PRODUCER, ""),
    47: ("INVALID_PRODUCER_EPOCH", Meaning.NEW_PRODUCER, ""),
    49: ("INVALID_PRODUCER_ID_MAPPING", Meaning.NEW_PRODUCER, ""),
    53: ("TRANSACTIONAL_ID_AUTHORIZATION_FAILED", Meaning.OPERATORS, _RIGHTS),
    54: ("SECURITY_DISABLED", Meaning.OPERATORS, "see security.protocol"),
    56: ("KAFKA_STORAGE_ERROR", Meaning.PASSES, ""),
    57: ("LOG_DIR_NOT_FOUND", Meaning.PASSES, ""),
    58: ("SASL_AUTHENTICATION_FAILED", Meaning.OPERATORS, "see sasl.username and sasl.password"),
    59: ("UNKNOWN_PRODUCER_ID", Meaning.NEW_PRODUCER, ""),
    60: ("REASSIGNMENT_IN_PROGRESS", Meaning.PASSES, ""),
    74: ("FENCED_LEADER_EPOCH", Meaning.PASSES, ""),
    75: ("UNKNOWN_LEADER_EPOCH", Meaning.PASSES, ""),
    76: ("UNSUPPORTED_COMPRESSION_TYPE", Meaning.OPERATORS, "set compression.codec to one that the brokers know"),
    87: ("INVALID_RECORD", Meaning.OPERATORS, "is the topic compacted? Our messages have no key"),
    89: ("THROTTLING_QUOTA_EXCEEDED", Meaning.PASSES, ""),
    90: ("PRODUCER_FENCED", Meaning.NEW_PRODUCER, ""),
}
"""Codes that are not here pass: what nobody knows is no reason to hold all batches, and none to lose one."""

# Of what a client meets: where messages time out for it, it is the reason, and what it meets beside it is not.
_SAYS_WHY: Final = frozenset({AUTHENTICATION, SSL, 29, 31, 33, 34, 58})


def meaning_of(code: int) -> Meaning:
    """Return what is to be done about an error."""
    return CODES[code][1] if code in CODES else Meaning.PASSES


def says_more(code: int, before: int) -> bool:
    """Return whether what a client meets is to be told in the place of what it met before.

    A connection that is refused for its certificate is reset, too, and in the end all brokers are down.
    """
    return code in _SAYS_WHY or (code != ALL_BROKERS_DOWN and before not in _SAYS_WHY)


def result_of(code: int, text: str, *, trouble: tuple[int, str] | None = None, hint: str = "") -> Result:
    """Return what an error means for the batch that met it.

    Args:
        code: of the delivery report, or of what refused to take the message.
        text: the library's words.
        trouble: code and words of what the client met lately; of a message that timed out it is the reason.
        hint: what an operator can do, where the caller knows it better.
    """
    name, meaning, known_hint = CODES.get(code, (str(code), Meaning.PASSES, ""))
    message = f"Kafka {name}: {text}"
    if code == MSG_TIMED_OUT and trouble is not None:
        why, words = trouble
        message = f"{message}; {words}"
        if why in _SAYS_WHY:
            meaning, known_hint = Meaning.OPERATORS, CODES[why][2]
    if code == MSG_TIMED_OUT and hint:
        meaning = Meaning.OPERATORS
    hint = (hint or known_hint) if meaning is Meaning.OPERATORS else ""
    message = one_line(message, LONGEST_MESSAGE - len(hint) - 2) + (f"; {hint}" if hint else "")
    if meaning is Meaning.TOO_LARGE:
        return Result(Verdict.TOO_LARGE, message=message, is_about_size=True)
    return Result(Verdict.RETRY, message=message, needs_operator=meaning is Meaning.OPERATORS)
