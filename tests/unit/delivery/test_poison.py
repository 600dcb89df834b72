"""What the backend would take gets to it at full speed, beside any number of batches that it never takes."""

from __future__ import annotations

import functools
import itertools
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import structlog
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from drain.accounting.outcome import Outcome
from drain.delivery.batch import Batch
from drain.delivery.dead_letters import DeadLetters
from drain.delivery.retry import RetryPolicy
from drain.exporters.judge import Judge
from drain.exporters.protocol import Result, Verdict
from drain.otlp.request import Request
from drain.rings.segment import Segment
from drain.settings.otlp_environment import OtlpSettings
from tests.unit.delivery import world as world_module
from tests.unit.delivery.world import LANE, RING, World, batch_of

if TYPE_CHECKING:
    from pathlib import Path

SEED = int(os.environ.get("RINGBUF_TEST_SEED") or 1)
DELIVERED = Result(Verdict.DELIVERED)
FAILED = Result(Verdict.RETRY, message="HTTP 503")
GOOD_A_SECOND = 20  # of 40 attempts that four workers can make
SECONDS = 10.0
RECOVERED_AFTER = 60.0

# In `make test` each two of these values meet once at least, but for 4 and 20 (one mix), which are between the others,
# and 1000, of which each mix takes seconds.
PAIRS = {(0.0, "first", False), (0.0, "spread", True), (0.1, "first", True), (0.1, "spread", False),
         (0.5, "first", False), (0.5, "spread", True)}  # fmt: skip
QUICK = {(1, *mix) for mix in PAIRS} | {(20, 0.5, "first", False)}
MIXES = [
    pytest.param(poison, *mix, marks=[] if (poison, *mix) in QUICK else [pytest.mark.prove])
    for poison in (1, 4, 20, 1000)
    for mix in itertools.product((0.0, 0.1, 0.5), ("first", "spread"), (False, True))
]

with_and_without_spool = pytest.mark.parametrize("has_spool", [False, True], ids=["no spool", "spool"])


def world(*, poison: int, has_spool: bool, failing: float, poison_is: str = "first") -> World:
    """Return a backend that never takes poison, and that fails a share of all other attempts until it recovers."""
    print(f"RINGBUF_TEST_SEED={SEED}")  # noqa: T201 - pytest shows it when a test fails
    start = 1000.0

    def judge(body: bytes, now: float) -> Result:
        if body.startswith(b"poison"):
            return FAILED
        fails = now < start + SECONDS and made.random.random() < failing
        return FAILED if fails else DELIVERED

    made = World(judge, has_spool=has_spool, seed=SEED)
    for number in range(poison):
        at = 0.0 if poison_is == "first" else SECONDS * number / poison
        made.come(at, b"poison %d" % number)
    for number in range(int(GOOD_A_SECOND * SECONDS)):
        made.come(number / GOOD_A_SECOND, b"good %d" % number)
    return made


def good_after(made: World, seconds: float) -> int:
    return sum(at <= 1000.0 + seconds and body.startswith(b"good") for body, at in made.delivered.items())


@functools.cache
def good_without_poison(*, has_spool: bool, failing: float) -> int:
    made = world(poison=0, has_spool=has_spool, failing=failing)
    made.run(SECONDS)
    return good_after(made, SECONDS)


@pytest.mark.parametrize(("poison", "failing", "poison_is", "has_spool"), MIXES)
def test_poison_takes_at_most_a_part_of_the_speed(
    poison: int, failing: float, poison_is: str, *, has_spool: bool
) -> None:
    made = world(poison=poison, has_spool=has_spool, failing=failing, poison_is=poison_is)
    made.run(SECONDS)
    good, without = good_after(made, SECONDS), good_without_poison(has_spool=has_spool, failing=failing)
    least = 0.9 if poison < 1000 else 0.5
    assert good >= least * without, (good, without)
    if poison == 1000:
        return  # in a second of computing
    made.run(RECOVERED_AFTER)
    assert good_after(made, 1000.0) == GOOD_A_SECOND * SECONDS
    assert made.outcomes.delivered == GOOD_A_SECOND * SECONDS
    if has_spool:
        assert made.outcomes.spooled == poison, "they wait where they are in nobody's way"


@with_and_without_spool
@pytest.mark.parametrize("poison", [0, 20])
def test_a_backend_that_takes_nothing_is_not_hammered_and_gets_all_when_it_is_back(
    poison: int, *, has_spool: bool
) -> None:
    made = world(poison=poison, has_spool=has_spool, failing=1.0)
    made.run(SECONDS)
    assert made.delivered == {}
    assert len(made.attempts) < 60, "about twenty until it is sure, then one every two seconds"
    made.run(RECOVERED_AFTER)
    assert made.outcomes.delivered == GOOD_A_SECOND * SECONDS


@with_and_without_spool
def test_a_backend_that_fails_half_of_the_time_loses_nothing(*, has_spool: bool) -> None:
    made = world(poison=0, has_spool=has_spool, failing=0.5)
    made.run(SECONDS)
    # Half of 80 attempts a second is all that comes: what fails is tried again beside the new.
    assert good_after(made, SECONDS) >= 0.6 * GOOD_A_SECOND * SECONDS
    made.run(RECOVERED_AFTER)
    assert made.outcomes.delivered == GOOD_A_SECOND * SECONDS
    assert made.outcomes.rejected == 0


@with_and_without_spool
@pytest.mark.parametrize("has_letters", [False, True])
def test_poison_is_given_up_at_last_and_counted(tmp_path: Path, *, has_spool: bool, has_letters: bool) -> None:
    letters = (
        DeadLetters(tmp_path / "letters", max_files=10, max_bytes=1 << 20, log=structlog.get_logger())
        if has_letters
        else None
    )
    with structlog.testing.capture_logs() as lines:
        made = World(
            lambda body, _now: FAILED if body == b"poison" else DELIVERED,
            has_spool=has_spool,
            seed=SEED,
            policy=RetryPolicy(initial=0.1, maximum=0.1, attempts_limit=8),
            dead_letters=letters,
        )
        made.come(0, b"poison")
        for number in range(200):
            made.come(number / 20, b"good %d" % number)
        made.run(20.0)
    assert made.outcomes.delivered == 200
    assert (made.outcomes.dead_lettered, made.outcomes.rejected) == ((1, 0) if has_letters else (0, 1))
    assert made.outcomes.spooled == 0
    attempts = [body for _, body in made.attempts].count(b"poison")
    assert 8 <= attempts <= 10, "the first may have failed before others got through"
    assert "backend did not take spans in time, or while it took others" in [line["event"] for line in lines]


def test_poison_that_holds_up_half_a_lane_without_a_spool_goes_sooner_than_what_comes_behind_it() -> None:
    made = World(lambda body, _now: FAILED if body == b"poison" else DELIVERED, has_spool=False, seed=SEED)
    for number in range(700):
        made.come(number, b"good %d" % number)
    made.run(1.0)
    lane = SimpleNamespace(unreleased=4)
    batch = batch_of(b"poison", SimpleNamespace(service="shop", capacity_slots=10), lane)
    made.dispatch.send(batch)
    made.run(600.0)
    assert not made.outcomes.rejected, "it is in nobody's way"
    lane.unreleased = 5
    made.run(40.0)
    assert batch.segments[0].outcome == Outcome(rejected=1)


def test_while_a_backend_is_away_a_batch_is_not_given_up_by_attempts() -> None:
    policy = RetryPolicy(0.1, 0.1, attempts_limit=20)
    made = World(lambda _body, _now: FAILED, has_spool=False, seed=SEED, policy=policy)
    made.come(0, b"good")
    made.run(120.0)
    assert len(made.attempts) > 20
    assert not any(made.outcomes)


def test_a_batch_that_cannot_be_kept_as_a_dead_letter_waits_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = DeadLetters(tmp_path / "letters", max_files=10, max_bytes=1 << 20, log=structlog.get_logger())
    keep = letters.keep
    monkeypatch.setattr(letters, "keep", lambda *_arguments: False)
    made = World(
        lambda body, _now: FAILED if body == b"poison" else DELIVERED,
        has_spool=False,
        seed=SEED,
        policy=RetryPolicy(initial=0.1, maximum=0.1, attempts_limit=2),
        dead_letters=letters,
    )
    made.come(0, b"poison")
    for number in range(400):
        made.come(number / 20, b"good %d" % number)
    made.run(10.0)
    assert made.outcomes == Outcome(delivered=made.outcomes.delivered)
    monkeypatch.setattr(letters, "keep", keep)
    made.run(10.0)
    assert made.outcomes == Outcome(delivered=400, dead_lettered=1)


def test_what_the_backend_takes_slowly_is_made_smaller_and_larger_again() -> None:
    """Nothing comes back of more than a hundred spans in time, until the backend is quick again."""
    spans = 5000
    made = World(lambda _body, _now: DELIVERED, has_spool=False, seed=SEED)
    largest, sizes = 100, []

    def export(request: Request) -> Result:
        sizes.append(request.spans)
        if request.spans > largest:
            return Result(Verdict.RETRY, message="no answer within 10 s", is_timeout=True)
        return DELIVERED

    made.export = export  # type: ignore[method-assign]
    batches = [spans_of(spans) for _ in range(4)]
    made.dispatch.send(batches[0])
    made.run(300.0)
    assert batches[0].segments[0].outcome == Outcome(delivered=spans)
    assert 50 <= made.dispatch.most_spans <= 200
    tried_in_vain = sum(size > largest for size in sizes)
    assert tried_in_vain <= 10, "it is not found out again and again"
    largest = spans
    for batch in batches[1:]:
        sizes.clear()
        made.dispatch.send(batch)
        made.run(300.0)
        assert batch.segments[0].outcome == Outcome(delivered=spans)
    assert sizes == [spans], "in one piece"


def spans_of(count: int) -> Batch:
    traces = TracesData()
    scope_spans = traces.resource_spans.add().scope_spans.add()
    scope_spans.spans.extend(Span(name=str(number)) for number in range(count))
    return Batch(
        [Request(traces.SerializeToString(), count, "protobuf", services={"shop": count})],
        [Segment(RING, LANE, count, 0)],
    )


@with_and_without_spool
def test_one_service_that_is_told_to_wait_for_long_keeps_nobody_else_waiting(*, has_spool: bool) -> None:
    wait = Result(Verdict.RETRY, message="HTTP 429", retry_after=3600.0)
    made = World(lambda body, _now: wait if body == b"poison" else DELIVERED, has_spool=has_spool, seed=SEED)
    made.come(0.0, b"poison")
    for number in range(400):
        made.come(number, b"good %d" % number)
    made.run(401.0)
    assert made.outcomes.delivered == 400
    assert all(made.delivered[b"good %d" % number] - 1000.0 - number < 1.0 for number in range(400))
    first, second = [at for at, body in made.attempts if body == b"poison"]
    assert 300.0 <= second - first < 302.0, "as long as it was told, but not longer than --retry-after-maximum"


@with_and_without_spool
def test_how_long_one_waits_is_told_when_there_is_no_other(*, has_spool: bool) -> None:
    wait = Result(Verdict.RETRY, message="HTTP 429", retry_after=200.0)
    made = World(lambda _body, _now: wait, has_spool=has_spool, seed=SEED)
    assert made.dispatch.seconds_until_attempt() == 0
    made.come(0, b"good")
    made.run(50.0)
    assert 149 <= made.dispatch.seconds_until_attempt() <= 151


def test_how_long_all_wait_is_told() -> None:
    wait = Result(Verdict.RETRY, message="HTTP 503", retry_after=200.0)
    with structlog.testing.capture_logs() as lines:
        made = World(lambda _body, _now: wait, has_spool=False, seed=SEED)
        for number in range(10):
            made.come(0, b"good %d" % number)
        assert made.dispatch.seconds_until_attempt() == 0
        made.run(50.0)
    assert 140 <= made.dispatch.seconds_until_attempt() <= 160
    (line,) = [line for line in lines if line["event"] == "backend is unavailable, spans wait"]
    assert line["next_attempt_seconds"] == 200


@with_and_without_spool
@pytest.mark.parametrize("code", ["429", "RESOURCE_EXHAUSTED"])
def test_a_backend_that_throttles_in_the_same_words_again_and_again_is_left_alone(
    code: str, *, has_spool: bool
) -> None:
    judge = Judge(OtlpSettings(), "none")
    made = World(lambda _body, _now: DELIVERED, has_spool=has_spool, seed=SEED)
    attempts: list[tuple[float, int]] = []
    throttles_until = 1300.0

    def export(request: Request) -> Result:
        attempts.append((made.now, request.spans))
        if made.now < throttles_until:
            return judge.refused(code, "rate limit", f"{code}: rate limit", request)
        return judge.took(DELIVERED)

    made.export = export  # type: ignore[method-assign]
    batches = [spans_of(8) for _ in range(6)]
    for batch in batches:
        made.dispatch.send(batch)
    made.run(300.0)
    late = [at for at, _ in attempts if at >= 1010.0]
    # One at a time, up to 30 s apart, or 1 s where it is a batch's first: halves are no burst of new ones.
    assert len(late) < 60, "it is asked as seldom as any other that takes nothing"
    assert min(spans for _, spans in attempts) < 8, "halves are tried"
    made.run(100.0)
    assert sum(sum(batch.segments[0].outcome or ()) for batch in batches) == 48
    assert made.outcomes.rejected == 0


@with_and_without_spool
def test_a_batch_that_is_too_large_in_words_that_nobody_knows_arrives_in_halves(*, has_spool: bool) -> None:
    judge = Judge(OtlpSettings(), "none")
    made = World(lambda _body, _now: DELIVERED, has_spool=has_spool, seed=SEED)
    taken: list[int] = []

    def export(request: Request) -> Result:
        if request.spans > 10:
            return judge.refused("429", "no", "HTTP 429: no", request)
        taken.append(request.spans)
        return judge.took(DELIVERED)

    made.export = export  # type: ignore[method-assign]
    batch = spans_of(100)
    made.dispatch.send(batch)
    for _ in range(600):
        made.dispatch.send(spans_of(1))
        made.run(1.0)
    assert sum(taken) == 700
    assert sum(batch.segments[0].outcome or ()) == 100
    assert made.outcomes.rejected == 0


@pytest.mark.prove
@with_and_without_spool
def test_poison_in_any_number_does_not_have_a_backend_left_alone_that_takes_others(
    monkeypatch: pytest.MonkeyPatch, *, has_spool: bool
) -> None:
    monkeypatch.setattr(world_module, "ATTEMPT_SECONDS", 0.003)  # a hundred failures in a moment
    made = world(poison=500, has_spool=has_spool, failing=0.5)
    # Before it has taken anything nobody can know that it is not the backend.
    with structlog.testing.capture_logs() as lines:
        made.run(SECONDS)
    opened = [line for line in lines if line["event"] == "backend is unavailable, spans wait"]
    assert len(opened) == 1
