"""Rules on whole traces in a running drain: what is kept, the two laws, kills, stops, and a start without rules."""

from __future__ import annotations

import random
import re
import shutil
import signal
import time
import urllib.request
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

import numpy as np
import pytest
import structlog

import ringbuf
from drain.rings.watch import Watch
from drain.sampling.hold.chunk import Fate, RingKey
from drain.sampling.hold.hold import Hold
from drain.sampling.rules import DEFAULT, Rule, Rules, of_ratio
from drain.service.sampling_plan import SamplingPlan
from ringbuf._ringbuf import lib
from tests.consumer import Consumer
from tests.service.draining import (
    LAYOUT,
    DrainProcess,
    MemoryBackend,
    SteppedDrain,
    number_of,
    records,
    run_once,
    spans_in_file,
    spans_so_far,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RULES = """
[sampling]
wait = "{wait}"
wait_after_root = "{wait}"
incoming = "all"
[[sampling.rule]]
name = "failures"
status = "error"
[[sampling.rule]]
name = "rest"
ratio = 0.25
"""
SPANS = 3  # of a trace
ERROR = 2


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(RULES.format(wait="200ms"))
    return path


@pytest.fixture
def emitter(ring_dir: Path) -> Iterator[ringbuf.Emitter]:
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=65536, lanes=1) as emitter:
        yield emitter


def emit_traces(emitter: ringbuf.Emitter, count: int, failing: int = 0) -> tuple[set[int], set[int]]:
    """Emit traces of three spans each, all mixed; return the numbers of all, and of those in a trace that failed."""
    made = records(emitter, range(count * SPANS))
    for trace in range(count):
        mine = made[trace * SPANS : (trace + 1) * SPANS]
        mine["trace_id"] = mine["trace_id"][0]
        mine["parent_span_id"][1:] = mine["span_id"][0]
        mine["flags"] = 0x103
        if trace < failing:
            mine["status"][1] = ERROR
    order = list(range(len(made)))
    random.Random(7).shuffle(order)  # noqa: S311 - the same each time
    assert emitter.emit_batch(made[order]) == len(made)
    return set(range(count * SPANS)), set(range(failing * SPANS))


def arguments(output: Path, *more: object) -> list[str]:
    return ["--exporter", "file", "--output", str(output), "--batch-delay", "0.01", *map(str, more)]


def check_whole(output: Path) -> set[int]:
    """Check that each trace is whole, and no span there twice; return the numbers."""
    spans = spans_in_file(output) if output.exists() else []
    by_trace = Counter(span.trace_id for span in spans)
    assert set(by_trace.values()) <= {SPANS}, "a trace is torn"
    numbers = [number_of(span) for span in spans]
    assert len(numbers) == len(set(numbers))
    return set(numbers)


def check_single(output: Path) -> set[int]:
    numbers = [number_of(span) for span in spans_in_file(output)]
    assert len(numbers) == len(set(numbers))
    return set(numbers)


def test_traces_are_kept_whole_and_both_laws_add_up(
    ring_dir: Path, tmp_path: Path, rules: Path, emitter: ringbuf.Emitter
) -> None:
    output, log = tmp_path / "spans.jsonl", tmp_path / "log"
    everything, failed = emit_traces(emitter, 400, failing=20)
    emitter.close()
    assert run_once(log, ring_dir, *arguments(output, "--sampling", rules)) == 0
    kept = check_whole(output)
    assert failed <= kept
    assert 400 * SPANS * 0.1 < len(kept) < 400 * SPANS * 0.5
    with_threshold = {span.trace_state for span in spans_in_file(output) if number_of(span) not in failed}
    assert with_threshold == {"ot=th:c"}
    assert {span.trace_state for span in spans_in_file(output) if number_of(span) in failed} == {"ot=th:0"}
    audit = DrainProcess.events
    with DrainProcess(log, ring_dir, "--once", *arguments(output, "--sampling", rules)) as drain:
        assert drain.wait() == 0
        event = audit(drain, "audit")[0]
    assert event["adds_up"], event
    assert event["services"]["shop"] == {"rings": 1, "published": len(everything), "spooled": len(everything)}
    assert event["hold"]["shop"] == {
        "held": len(everything),
        "delivered": len(kept),
        "sampled_out": len(everything) - len(kept),
    }


def test_what_waits_at_a_stop_is_for_the_next_drain(
    ring_dir: Path, tmp_path: Path, rules: Path, emitter: ringbuf.Emitter
) -> None:
    output, log = tmp_path / "spans.jsonl", tmp_path / "log"
    rules.write_text(RULES.format(wait="1h"))
    everything, failed = emit_traces(emitter, 100, failing=3)
    with DrainProcess(log, ring_dir, *arguments(output, "--sampling", rules)) as drain:
        until(lambda: emitter.stats().pending == 0)
        assert drain.stop() == 0
        (left,) = drain.events("spans wait in the hold, for the next drain")
        assert left["waiting"] == len(everything) - len(failed)
    assert run_once(log, ring_dir, *arguments(output, "--sampling", rules)) == 0
    assert failed <= check_whole(output)
    with DrainProcess(log, ring_dir, "--once", *arguments(output)) as drain:
        assert drain.wait() == 0
        first, second, _ = drain.events("audit")
    assert second["hold"]["shop"]["taken_up"] == left["waiting"]
    assert first["hold"]["shop"]["held"] == len(everything)
    assert not (ring_dir / "hold").exists()


def test_a_stop_decides_where_it_is_told_to(
    ring_dir: Path, tmp_path: Path, rules: Path, emitter: ringbuf.Emitter
) -> None:
    output, log = tmp_path / "spans.jsonl", tmp_path / "log"
    rules.write_text(RULES.format(wait="1h"))
    everything, failed = emit_traces(emitter, 100, failing=3)
    more = ("--sampling", rules, "--on-stop", "decide")
    with DrainProcess(log, ring_dir, *arguments(output, *more)) as drain:
        until(lambda: emitter.stats().pending == 0)
        assert drain.stop() == 0
        assert not drain.events("spans wait in the hold, for the next drain")
        (event,) = drain.events("audit")
    kept = check_whole(output)
    assert failed < kept < everything
    sampled_out = len(everything) - len(kept)
    assert event["hold"]["shop"] == {"held": len(everything), "delivered": len(kept), "sampled_out": sampled_out}


def test_a_start_without_rules_delivers_what_waits(
    ring_dir: Path, tmp_path: Path, rules: Path, emitter: ringbuf.Emitter
) -> None:
    output, log = tmp_path / "spans.jsonl", tmp_path / "log"
    rules.write_text(RULES.format(wait="1h"))
    everything, _ = emit_traces(emitter, 50)
    with DrainProcess(log, ring_dir, *arguments(output, "--sampling", rules)) as drain:
        until(lambda: emitter.stats().pending == 0)
        drain.kill()
    assert run_once(log, ring_dir, *arguments(output)) == 0
    assert check_whole(output) == everything


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.prove)])
def test_kills_while_traces_wait_tear_none_and_lose_none(
    seed: int, ring_dir: Path, tmp_path: Path, rules: Path, emitter: ringbuf.Emitter
) -> None:
    dice = random.Random(seed)  # noqa: S311 - a seed is what is wanted
    log = tmp_path / "log"
    # No more than one look takes: of two, the second might come when the wait is over, and its spans late.
    everything, failed = emit_traces(emitter, 1300, failing=200)
    outputs = []
    for life in range(6):
        outputs.append(tmp_path / f"spans-{life}.jsonl")
        with DrainProcess(log, ring_dir, *arguments(outputs[-1], "--sampling", rules)) as drain:
            drain.wait_for_event("serving")
            time.sleep(dice.uniform(0.0, 0.4))
            drain.kill()
    outputs.append(tmp_path / "spans-last.jsonl")
    emitter.close()
    assert run_once(log, ring_dir, *arguments(outputs[-1], "--sampling", rules)) == 0
    traces: dict[bytes, set[int]] = defaultdict(set)
    for output in outputs:
        for line in output.read_bytes().splitlines(keepends=True) if output.exists() else []:
            if line.endswith(b"\n"):  # what a kill cut short was not acknowledged
                part = tmp_path / "part"
                part.write_bytes(line)
                for span in spans_in_file(part):
                    traces[span.trace_id].add(number_of(span))
    torn = {trace.hex(): numbers for trace, numbers in traces.items() if len(numbers) != SPANS}
    assert not torn, f"traces are torn: {torn}, {len(failed)} failed"
    kept = set().union(*traces.values())
    assert failed <= kept < everything
    # R of a trace says whether it is kept by the ratio: a kill changes none of it.
    share = (len(kept) - len(failed)) / (len(everything) - len(failed))
    assert abs(share - 0.25) < 7 * (0.25 * 0.75 / 1100) ** 0.5


@pytest.mark.prove
def test_a_full_hold_decides_early_and_no_producer_drops_a_span(
    ring_dir: Path, tmp_path: Path, rules: Path, emitter: ringbuf.Emitter
) -> None:
    output, log = tmp_path / "spans.jsonl", tmp_path / "log"
    rules.write_text(RULES.format(wait="1h"))
    with DrainProcess(log, ring_dir, *arguments(output, "--sampling", rules, "--hold-bytes", "16MiB")) as drain:
        for turn in range(6):  # 23 MB of records
            made = records(emitter, range(turn * 30_000, (turn + 1) * 30_000))
            made["flags"] = 0x103
            assert emitter.emit_batch(made) == 30_000
            until(lambda: emitter.stats().pending == 0)
        assert drain.stop() == 0
        (event,) = drain.events("audit")
    assert event["adds_up"], event
    shop = event["hold"]["shop"]
    assert (shop["held"], event["services"]["shop"]["spooled"]) == (180_000, 180_000)
    assert shop["sampled_out"] > 30_000
    assert shop["delivered"] == len(check_single(output))
    assert shop["waiting"] * LAYOUT.slot_bytes < 16 << 20
    assert sum(path.stat().st_size for path in (ring_dir / "hold").glob("chunk-*")) <= 16 << 20


SPOOLED_AT: Final = 256 + 2 * 8  # in a lane


@pytest.mark.parametrize(
    ("is_counted", "is_there"),
    [(False, True), (True, True), (True, False)],
    ids=["killed before the words", "killed before head", "killed before head, and the hold is removed"],
)
def test_what_was_held_when_a_kill_came_before_its_release_is_released_and_not_held_again(
    is_counted: bool, is_there: bool, ring_dir: Path, tmp_path: Path, emitter: ringbuf.Emitter
) -> None:
    everything, _ = emit_traces(emitter, 20)
    emitter.close()
    (path,) = ring_dir.glob("*.ring")
    hold = Hold(ring_dir / "hold", 16 << 20, log=structlog.get_logger())
    with Consumer(path) as consumer:
        key = RingKey(path.stat().st_ino, consumer.header.created_unix_nano)
        origin = hold.origin(consumer.json("layout"), consumer.json("resource"), consumer.header.root_threshold)
        hold.append(origin, key, 0, 0, 40, consumer.copy(0, 40))
        if is_counted:
            with path.open("r+b") as file:
                file.seek(consumer.header.header_bytes + SPOOLED_AT)
                file.write((40).to_bytes(8, "little"))
    hold.close()  # as a drain that is killed between the two
    if not is_there:
        shutil.rmtree(ring_dir / "hold")
    output, log = tmp_path / "spans.jsonl", tmp_path / "log"
    with DrainProcess(log, ring_dir, "--once", *arguments(output)) as drain:
        assert drain.wait() == 0
        (event,) = drain.events("audit")
    assert check_whole(output) == everything
    assert event["adds_up"], event
    rings = {"rings": 1, "published": 60}
    if is_there:
        assert event["services"]["shop"] == rings | {"spooled": 60}
        assert event["hold"]["shop"] == {"taken_up": 40, "held": 20, "delivered": 60}
    else:
        assert event["services"]["shop"] == rings | {"spooled": 40, "repeated": 40, "delivered": 20}


def test_a_start_without_rules_first_releases_what_is_settled_and_not_released(
    ring_dir: Path, tmp_path: Path, emitter: ringbuf.Emitter
) -> None:
    everything, _ = emit_traces(emitter, 20)
    (path,) = ring_dir.glob("*.ring")
    hold = Hold(ring_dir / "hold", 16 << 20, log=structlog.get_logger())
    with Consumer(path) as consumer:
        key = RingKey(path.stat().st_ino, consumer.header.created_unix_nano)
        origin = hold.origin(consumer.json("layout"), consumer.json("resource"), consumer.header.root_threshold)
        first = hold.append(origin, key, 0, 0, 40, consumer.copy(0, 40))
    hold.settle(np.arange(first, first + 40, dtype=np.uint64), Fate.DELIVERED)
    hold.close()
    output, log = tmp_path / "spans.jsonl", tmp_path / "log"
    for _ in range(2):
        with DrainProcess(log, ring_dir, "--once", *arguments(output)) as drain:
            assert drain.wait() == 0
            event = drain.events("audit")[-1]
        assert event["adds_up"], event
    assert len(spans_in_file(output)) == len(everything) - 40, "the others were delivered before"
    assert not (ring_dir / "hold").exists()


def test_rules_that_are_wrong_are_told_with_their_place(ring_dir: Path, tmp_path: Path, rules: Path) -> None:
    rules.write_text("[sampling]\nwiat = '5s'\n")
    log = tmp_path / "log"
    state_dir = tmp_path / "state"
    more = ("--sampling", rules, "--state-dir", state_dir)
    assert run_once(log, ring_dir, *arguments(tmp_path / "out", *more)) == 2
    assert re.search(r"rules\.toml: .*wiat", log.read_text())
    rules.unlink()
    assert run_once(log, ring_dir, *arguments(tmp_path / "out", *more)) == 2
    assert "No such file" in log.read_text()
    assert not state_dir.exists(), "nothing was opened for them"
    assert run_once(log, ring_dir, *arguments(tmp_path / "out", "--hold-bytes", "64MiB")) == 2
    assert "--hold-bytes has no effect without --sampling" in log.read_text()
    assert run_once(log, ring_dir, *arguments(tmp_path / "out", "--on-stop", "leave")) == 2
    assert "on_stop (--on-stop): Input should be 'keep' or 'decide'" in log.read_text()
    assert "Value error" not in log.read_text()


def test_looks_at_rings_that_are_gone_keep_no_chunk_of_the_hold(
    ring_dir: Path, tmp_path: Path, rules: Path, emitter: ringbuf.Emitter
) -> None:
    hold = Hold(ring_dir / "hold", 16 << 20, log=structlog.get_logger())
    origin = hold.origin(LAYOUT.to_json(), b"{}", 0)
    many = np.zeros(4_000, LAYOUT.dtype)
    places = []
    for lane in range(64):  # of each lane that is the last look
        if not hold.has_room(LAYOUT.slot_bytes, len(many)):
            break
        first = hold.append(origin, RingKey(2**40, 1), lane, 0, len(many), many)
        places.append(np.arange(first, first + len(many), dtype=np.uint64))
    assert not hold.has_room(LAYOUT.slot_bytes, len(many))
    hold.settle(np.concatenate(places), Fate.DELIVERED)
    hold.close()
    emit_traces(emitter, 20)
    output, log = tmp_path / "spans.jsonl", tmp_path / "log"
    more = ("--sampling", rules, "--hold-bytes", 16 << 20, "--shutdown-timeout", 30)
    with DrainProcess(log, ring_dir, *arguments(output, *more)) as drain:
        until(lambda: emitter.stats().pending == 0)
        assert drain.stop() == 0


def test_a_lane_with_more_than_a_chunk_takes_is_held_bit_by_bit_and_then_decided(
    ring_dir: Path, tmp_path: Path, rules: Path, emitter: ringbuf.Emitter
) -> None:
    failures_alone = RULES.replace("ratio = 0.25", "ratio = 0")
    rules.write_text(failures_alone.format(wait="1h"))  # what ends it is that all was read
    everything, failing = emit_traces(emitter, 14_000, 200)
    output, log = tmp_path / "spans.jsonl", tmp_path / "log"
    more = ("--sampling", rules, "--batch-spans", 100_000)
    with DrainProcess(log, ring_dir, "--once", "--shutdown-timeout", "60", *arguments(output, *more)) as drain:
        assert drain.wait() == 0
        (event,) = drain.events("audit")
    assert check_whole(output) == failing
    sums = {"held": len(everything), "delivered": len(failing), "sampled_out": len(everything) - len(failing)}
    assert event["hold"]["shop"] == sums
    assert event["adds_up"], event


def test_rules_are_reloaded_and_a_wrong_file_changes_nothing(
    ring_dir: Path, log: Path, tmp_path: Path, emitter: ringbuf.Emitter, rules: Path
) -> None:
    output = tmp_path / "spans.jsonl"
    begin = '[sampling]\nwait_after_root = "10ms"\n[[sampling.rule]]\nname = "first"\nspan = "*"\n'
    listening = ("--sampling", rules, "--listen", "127.0.0.1:0")
    rules.write_text(begin + "ratio = 0\n")
    with DrainProcess(log, ring_dir, *arguments(output, *listening)) as drain:

        def emit_and_reload(text: str, event: str) -> dict[str, object]:
            emit_traces(emitter, 10)
            until(lambda: emitter.stats().pending == 0)
            count = len(drain.events(event))
            rules.write_text(text)
            drain.signal(signal.SIGHUP)
            return drain.wait_for_event(event, count + 1)

        assert f"{rules}:" in str(emit_and_reload(begin + "ratio = 2\n", "the rules are not taken up")["reason"])
        address = drain.wait_for_event("serving")["listen"]
        drain.wait_for_event("reloaded")  # what was not taken up is counted before this, and told before that
        with urllib.request.urlopen(f"http://{address}/metrics") as answer:
            assert b"\nringbuf_drain_failed_reloads_total 1.0\n" in answer.read()
        emit_and_reload(begin, "other rules decide on traces that begin from now on")  # `first` keeps all now
        emit_traces(emitter, 20)
        until(lambda: len(spans_so_far(output)) == 20 * SPANS)
        drain.wait_for_event("reloaded", 2)
        assert drain.stop() == 0
    assert not drain.events("the configuration is not taken up")
    assert len(drain.events("reloaded")) == 2
    assert check_whole(output) == set(range(60))


def test_a_dry_run_delivers_all_until_a_reload_lets_the_rules_decide(
    ring_dir: Path, log: Path, tmp_path: Path, emitter: ringbuf.Emitter, rules: Path
) -> None:
    output = tmp_path / "spans.jsonl"
    drop_all = '[sampling]\ndry_run = {}\nwait_after_root = "10ms"\n[[sampling.rule]]\nname = "all"\nratio = 0\n'
    rules.write_text(drop_all.format("true"))
    with DrainProcess(log, ring_dir, *arguments(output, "--sampling", rules, "--listen", "127.0.0.1:0")) as drain:
        address = drain.wait_for_event("serving")["listen"]

        def has_metrics(*lines: str) -> bool:
            with urllib.request.urlopen(f"http://{address}/metrics") as answer:
                return {f"ringbuf_drain_sampling_{line}.0" for line in lines} <= set(answer.read().decode().split("\n"))

        emit_traces(emitter, 10)
        until(lambda: len(spans_so_far(output)) == 10 * SPANS)
        until(lambda: has_metrics("dry_run 1", 'spans_total{decision="sampled_out",rule="all"} 30'))
        rules.write_text(drop_all.format("false"))
        drain.signal(signal.SIGHUP)
        assert not drain.wait_for_event("other rules decide on traces that begin from now on")["dry_run"]
        emit_traces(emitter, 20)
        until(lambda: has_metrics("dry_run 0", 'spans_total{decision="sampled_out",rule="all"} 60'))
        assert drain.stop() == 0
        (audit,) = drain.events("audit")
    assert audit["adds_up"], audit
    assert audit["hold"]["shop"] == {"held": 30, "delivered": 30}
    assert {len(span.attributes) for span in spans_in_file(output)} == {1}
    heads = {(bool(span.parent_span_id), span.trace_state) for span in spans_in_file(output)}
    assert heads == {(False, "ot=th:0"), (True, "")}, (
        "as without rules, which know of no child that its root went by this ring"
    )
    assert check_whole(output) == set(range(10 * SPANS))


def test_what_a_producer_does_to_its_ring_afterwards_changes_nothing_of_what_was_held(
    ring_dir: Path, emitter: ringbuf.Emitter
) -> None:
    """Rules decide on the drain's copy, and that copy is sent."""
    hold = Hold(ring_dir / "hold", 16 << 20, log=structlog.get_logger())
    errors = Rules((Rule("failures", statuses=frozenset({ERROR})), Rule(DEFAULT, ratio=0.0)))
    with SteppedDrain(ring_dir, MemoryBackend(), sampling=SamplingPlan(errors, hold)) as drain:
        everything, failed = emit_traces(emitter, 20, failing=5)
        drain.until(lambda: emitter.stats().pending == 0)
        (path,) = ring_dir.glob("*.ring")
        with Consumer(path, observe=True) as consumer:
            first = consumer.header.header_bytes + lib.RB_LANE_BYTES
        with path.open("r+b") as file:
            file.seek(first)
            assert np.frombuffer(file.read(60 * LAYOUT.slot_bytes), LAYOUT.dtype)["kind"].all(), "the records lie there"
            file.seek(first)
            file.write(b"\xff" * LAYOUT.slot_bytes * len(everything))
        assert drain.service._late is not None
        drain.service._late.decide_all(time.monotonic_ns())
        drain.until(lambda: len(drain.backend.numbers) >= len(failed))
        assert set(drain.backend.numbers) == failed
        assert drain.service.accounts.hold_lost() == 0


def test_a_drain_whose_hold_has_no_room_does_not_go_round_without_a_pause(
    ring_dir: Path, emitter: ringbuf.Emitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = Hold(ring_dir / "hold", 16 << 20, log=structlog.get_logger())
    monkeypatch.setattr(hold, "has_room", lambda *_: False)
    monkeypatch.setattr(Watch, "sleep", lambda *_: pytest.fail("what waits in the ring would end it at once"))
    emit_traces(emitter, 8_000)  # above the quarter of a lap at which a producer is asked to ring
    with SteppedDrain(ring_dir, MemoryBackend(), sampling=SamplingPlan(of_ratio(1.0), hold)) as drain:
        drain.step()
        assert emitter.stats().pending == 24_000
        drain.service._sleep()


def test_more_gather_after_a_look_that_found_many_and_left_none(
    ring_dir: Path, emitter: ringbuf.Emitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[str] = []
    monkeypatch.setattr(Watch, "gather", lambda *_: pauses.append("gathered"))
    monkeypatch.setattr(Watch, "sleep", lambda *_: pauses.append("slept"))
    hour = 3600 * 10**9
    rules = Rules((Rule("failures", statuses=frozenset({ERROR})), Rule(DEFAULT)), hour, hour, hour)
    hold = Hold(ring_dir / "hold", 16 << 20, log=structlog.get_logger())

    def paused() -> str:
        pauses.clear()
        drain.service._go_round()
        return " and ".join(pauses)

    with SteppedDrain(ring_dir, MemoryBackend(), sampling=SamplingPlan(rules, hold)) as drain:
        drain.until(lambda: drain.service._reader.rings)
        emit_traces(emitter, 100)
        assert paused() == "gathered"
        assert paused() == "slept"
        emit_traces(emitter, 10)
        assert paused() == "", "a program that writes a few may wait for them"
        emit_traces(emitter, 6_000)  # above what one look takes
        assert paused() == ""
        while emitter.stats().pending:
            pause = paused()
            assert pause == ("" if emitter.stats().pending else "gathered")
        drain.service.request_audit()
        emit_traces(emitter, 100)
        assert paused() == "gathered", "the audit was told in this round"
        emit_traces(emitter, 100)
        drain.service._round()
        drain.service.request_audit()
        drain.service._gather()
        assert pauses == ["gathered"], "who asks for an audit does not wait"


def test_a_look_takes_as_much_where_the_rules_are_in_no_file(ring_dir: Path, emitter: ringbuf.Emitter) -> None:
    hold = Hold(ring_dir / "hold", 16 << 20, log=structlog.get_logger())
    with SteppedDrain(ring_dir, MemoryBackend(), sampling=SamplingPlan(of_ratio(0.01), hold)) as drain:
        drain.until(lambda: drain.service._reader.rings)
        emit_traces(emitter, 2_000)  # 768,000 bytes
        drain.step()
        assert emitter.stats().pending == 0


def test_a_stop_waits_for_no_more_of_what_is_kept(ring_dir: Path, emitter: ringbuf.Emitter) -> None:
    hold = Hold(ring_dir / "hold", 16 << 20, log=structlog.get_logger())
    with SteppedDrain(ring_dir, MemoryBackend(), sampling=SamplingPlan(of_ratio(1.0), hold)) as drain:
        emit_traces(emitter, 10)
        drain.until(lambda: emitter.stats().pending == 0)
        drain.service._shutdown.is_finishing = True
        drain.service._round()
        late = drain.service._late
        assert late is not None
        assert late._batches.seconds_until_sent() is None, "there would be more to send"


def test_the_line_for_systemd_says_what_waits_in_the_hold(ring_dir: Path, emitter: ringbuf.Emitter) -> None:
    hour = 3600 * 10**9
    rules = Rules((Rule("failures", statuses=frozenset({ERROR})), Rule(DEFAULT)), hour, hour, hour)
    hold = Hold(ring_dir / "hold", 16 << 20, log=structlog.get_logger())
    with SteppedDrain(ring_dir, MemoryBackend(), sampling=SamplingPlan(rules, hold)) as drain:
        emit_traces(emitter, 10)
        drain.until(lambda: "30 spans in the hold" in drain.service.status())
        assert re.fullmatch(r"1 ring, 0 spans pending, 30 spans in the hold \(\d+% full\)", drain.service.status())
