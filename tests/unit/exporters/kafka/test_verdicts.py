"""What each error code of Kafka means for a batch: nothing that Kafka says loses a span."""

from __future__ import annotations

import functools

import pytest

from drain.exporters.kafka.verdicts import CODES, MSG_TIMED_OUT, Meaning, meaning_of, result_of, says_more
from drain.exporters.protocol import Verdict

PASSES, OPERATORS, TOO_LARGE, NEW_PRODUCER = Meaning


@pytest.mark.parametrize(
    ("meaning", "codes"),
    [
        # Brokers, leaders, replicas, a quota and a reassignment come back, whatever `retriable()` says of them.
        (PASSES, (2, 5, 6, 7, 8, 9, 13, 19, 20, 56, 60, 74, 89)),
        # The client's own: not delivered in time, purged, a full queue, brokers away.
        (PASSES, (-192, -152, -151, -184, -195, -187, -185)),
        # Rights, policy, compaction, codec, a topic that is not there: somebody mends them, and the spans wait.
        (OPERATORS, (3, 17, 29, 31, 33, 34, 43, 44, 58, 76, 87, -188, -169, -181)),
        (TOO_LARGE, (10, 18)),
        (NEW_PRODUCER, (45, 47, 49, 59, 90, -150)),
        (PASSES, (1, 4711, -9999)),  # nobody knows what these are
    ],
)
def test_a_code_means_what_it_is_about(meaning: Meaning, codes: tuple[int, ...]) -> None:
    assert {code: meaning_of(code) for code in codes} == dict.fromkeys(codes, meaning)


@pytest.mark.parametrize("code", [*CODES, 0, 1, 4711])
def test_no_code_loses_a_span(code: int) -> None:
    result = result_of(code, "words")
    assert result.verdict in {Verdict.RETRY, Verdict.TOO_LARGE}
    assert result.needs_operator == (meaning_of(code) is OPERATORS)
    assert result.retry_after is None
    assert not result.is_timeout  # a local time-out says nothing of the size


@pytest.mark.parametrize("code", [code for code, (_, meaning, _) in CODES.items() if meaning is OPERATORS])
def test_what_an_operator_has_to_mend_is_told_with_what_to_do(code: int) -> None:
    assert result_of(code, "x" * 1000).message.endswith(f"; {CODES[code][2]}")
    assert len(result_of(code, "x" * 1000).message) <= 256


def test_a_message_that_timed_out_tells_the_reason_that_the_client_met() -> None:
    refused = result_of(MSG_TIMED_OUT, "Local: Message timed out", trouble=(-195, "h:1: Connection refused"))
    assert not refused.needs_operator
    assert refused.message == "Kafka _MSG_TIMED_OUT: Local: Message timed out; h:1: Connection refused"
    password = result_of(MSG_TIMED_OUT, "Local: Message timed out", trouble=(-169, "h:1: SASL: bad password"))
    assert password.needs_operator
    assert "SASL: bad password; see sasl.username" in password.message
    missing = result_of(MSG_TIMED_OUT, "Local: Message timed out", hint="the topic t does not exist")
    assert missing.needs_operator
    assert missing.message.endswith("; the topic t does not exist")


def test_a_brokers_words_forge_no_line_of_the_log() -> None:
    assert "\n" not in result_of(44, "no\n{}", trouble=(-169, "a\nb")).message


ALL_DOWN, REFUSED, UNTRUSTED, PASSWORD = -187, -195, -181, -169


@pytest.mark.parametrize(
    ("met", "told"),
    [
        ((REFUSED,), REFUSED),
        ((REFUSED, ALL_DOWN), REFUSED),
        ((ALL_DOWN, REFUSED), REFUSED),
        ((UNTRUSTED, REFUSED, ALL_DOWN), UNTRUSTED),
        ((REFUSED, PASSWORD, REFUSED), PASSWORD),
        ((PASSWORD, UNTRUSTED), UNTRUSTED),
    ],
)
def test_what_says_why_is_not_forgotten_for_what_it_brings_about(met: tuple[int, ...], told: int) -> None:
    assert functools.reduce(lambda before, code: code if says_more(code, before) else before, met) == told
