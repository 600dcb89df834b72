from __future__ import annotations

import json
import os
import select
import signal
from typing import TYPE_CHECKING, Any

import pytest

import ringbuf
from tests.consumer import Consumer, rings_in, span_ids
from tests.records import fresh_records
from tests.service.draining import LAYOUT, SECONDS, ProducerProcess, emit
from tests.tools.running import Running, invoke, output_of

if TYPE_CHECKING:
    from pathlib import Path


def seen(ring_dir: Path, *arguments: object) -> list[dict[str, Any]]:
    """Return what `tail --no-follow` shows."""
    text = output_of("tail", "--ring-dir", ring_dir, "--no-follow", "--json", *arguments)
    return [json.loads(line) for line in text.splitlines()]


def test_the_last_ten_in_the_order_of_their_ends(shop: ringbuf.Emitter, ring_dir: Path) -> None:
    spans = seen(ring_dir)
    assert [span["duration_nano"] for span in spans] == [*range(3000, 11_000, 1000), 2_000_000, 5_000_000]
    assert [span["end_unix_nano"] for span in spans] == sorted(span["end_unix_nano"] for span in spans)


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["-n", "3"], 3),
        (["--lines", "0"], 0),
        (["-n", "100"], 12),
        (["-n", "100", "--name", "*.fbmu"], 10),
        (["-n", "2", "--name", "*.fbmu"], 2),
        (["--outcome", "timeout"], 1),
        (["--min-duration", "1ms"], 2),
        (["--attribute", "grafos.bytes>=600", "--attribute", "grafos.operation=fbmu_read"], 5),
        (["--attribute", f"grafos.lease.id={77:032x}"], 1),
        (["--service", "sh*"], 10),
        (["--trace", "f" * 32], 0),
        (["--status", "error"], 1),
        (["--status", "error", "--kind", "server"], 0),
        (["-n", "100", "--kind", "internal"], 12),
        (["--attribute", "bytes>=600", "--attribute", "operation=fbmu_read"], 5),
    ],
)
def test_what_is_shown(shop: ringbuf.Emitter, ring_dir: Path, options: list[str], count: int) -> None:
    assert len(seen(ring_dir, *options)) == count


def test_a_filter_that_nothing_can_match_is_told_of(shop: ringbuf.Emitter, ring_dir: Path) -> None:
    result = invoke("tail", "--ring-dir", ring_dir, "--no-follow", "--outcome", "timout")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "grafos.outcome has no label 'timout'; did you mean 'timeout'?" in result.stderr
    result = invoke("dump", "--ring-dir", ring_dir, "--attribute", "grafos.byts>=1")
    assert (result.exit_code, result.stdout, "'grafos.bytes'?" in result.stderr) == (1, "", True)


@pytest.mark.parametrize("command", [["list"], ["dump"], ["tail", "--no-follow"]])
def test_a_service_that_no_ring_is_of_is_told_with_the_nearest(
    shop: ringbuf.Emitter, ring_dir: Path, command: list[str]
) -> None:
    result = invoke(*command, "--ring-dir", ring_dir, "--service", "shpo")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no ring of a service 'shpo'; did you mean 'shop'?" in result.stderr
    assert invoke(*command, "--ring-dir", ring_dir, "--service", "sh*").exit_code == 0


def test_without_any_ring_no_service_is_missed(ring_dir: Path) -> None:
    assert output_of("list", "--ring-dir", ring_dir, "--service", "shop") == f"no rings in {ring_dir}; no drain\n"


def test_that_there_are_no_rings_is_told(ring_dir: Path) -> None:
    """Silence would look like a service that has no spans."""
    ran = invoke("tail", "--ring-dir", ring_dir, "--no-follow")
    assert (ran.exit_code, ran.stdout, ran.stderr) == (0, "", f"ringbuf: no rings in {ring_dir}\n")


def test_whoever_follows_is_told_and_waits_for_rings_that_may_come(shop: ringbuf.Emitter, ring_dir: Path) -> None:
    with Running("tail", "--ring-dir", ring_dir, "--json", "--attribute", "number>=7") as tail:
        assert tail.process.stderr is not None
        ready, _, _ = select.select([tail.process.stderr], [], [], SECONDS)
        assert ready, "nothing was said"
        assert b"no span of these rings has an attribute 'number'" in os.read(tail.process.stderr.fileno(), 4096)
        with ringbuf.Emitter("late", ring_dir=ring_dir, layout=LAYOUT, capacity=64) as late:
            emit(late, range(9))
            numbers = [json.loads(line)["attributes"]["number"] for line in tail.read_until(2)]
        assert tail.interrupt() == (130, "")
    assert numbers == [7, 8]


def test_a_trace_by_its_id(shop: ringbuf.Emitter, ring_dir: Path) -> None:
    span = seen(ring_dir, "-n", "1")[0]
    assert seen(ring_dir, "--trace", span["trace_id"]) == [span]


def test_lines_of_several_rings_are_in_one_order(ring_dir: Path) -> None:
    emitters = [ringbuf.Emitter(name, ring_dir=ring_dir, layout=LAYOUT, capacity=64, lanes=1) for name in "ab"]
    for number in range(20):
        made = fresh_records(emitters[number % 2], 1)
        made["end_unix_nano"] = 1000 + number
        emitters[number % 2].emit_batch(made)
    spans = seen(ring_dir, "-n", "7")
    assert [span["end_unix_nano"] for span in spans] == list(range(1013, 1020))
    for emitter in emitters:
        emitter.close()


def test_a_ring_of_more_than_a_look_is_read_to_its_end(ring_dir: Path) -> None:
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=32_768, lanes=1) as emitter:
        assert emit(emitter, range(30_000)) == 30_000
        numbers = [span["attributes"]["number"] for span in seen(ring_dir, "-n", "20000")]
        assert sorted(numbers) == list(range(10_000, 30_000))


def test_an_option_that_says_nothing_is_a_matter_of_usage(ring_dir: Path) -> None:
    result = invoke("tail", "--ring-dir", ring_dir, "--min-duration", "soon")
    assert (result.exit_code, "--min-duration" in result.stderr) == (2, True)


def test_spans_are_followed_rings_that_come_too_and_ctrl_c_ends_it(ring_dir: Path) -> None:
    with ProducerProcess(ring_dir, 2, "first") as first, Running("tail", "--ring-dir", ring_dir, "--json") as tail:
        tail.read_until(2)
        first.tell("emit 2 4")
        first.expect("emitted 2")
        tail.read_until(4)
        with ProducerProcess(ring_dir, 3, "second"):
            tail.read_until(7)
            spans = [json.loads(line) for line in tail.lines]
            numbers = [(span["service"], span["attributes"]["number"]) for span in spans]
            assert numbers[:2] == [("first", 0), ("first", 1)]
            assert sorted(numbers) == [("first", number) for number in range(4)] + [
                ("second", number) for number in range(3)
            ]
            code, errors = tail.interrupt()
            assert (code, errors) == (130, "")


def test_what_the_drain_was_done_with_before_is_told_as_missed(ring_dir: Path) -> None:
    with (
        ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=64, lanes=1) as emitter,
        Consumer(rings_in(ring_dir)[0]) as consumer,
        Running("tail", "--ring-dir", ring_dir, "--json", "--lines", "1") as tail,
    ):
        emit(emitter, range(1))
        tail.read_until(1)
        tail.stand_still()  # it looks at nothing, and the drain goes on
        consumer.take()
        emit(emitter, range(1, 41))
        consumer.copy(count=30)
        consumer.release(30)
        tail.process.send_signal(signal.SIGCONT)
        tail.read_until(11)
        assert [json.loads(line)["attributes"]["number"] for line in tail.lines] == [0, *range(31, 41)]
        code, errors = tail.interrupt()
        # Twice, where Ctrl-C comes between the words and the note that they were said.
        said = {"ringbuf: missed 30 spans, released before they were looked at"}
        assert (code, set(errors.splitlines())) == (130, said)
        assert len(span_ids(consumer.copy())) == 10


def test_a_ring_that_is_cut_is_told_and_the_others_go_on(ring_dir: Path) -> None:
    with ProducerProcess(ring_dir, 2, "sound") as sound, ProducerProcess(ring_dir, 2, "cut") as cut:
        with Running("tail", "--ring-dir", ring_dir, "--json") as tail:
            tail.read_until(4)
            cut.kill()
            next(path for path in rings_in(ring_dir) if path.name.startswith("cut")).write_bytes(b"")
            sound.tell("emit 2 5")
            sound.expect("emitted 3")
            tail.read_until(7)
            code, errors = tail.interrupt()
        assert code == 130
        assert "cut-" in errors
        assert "Traceback" not in errors


def test_a_pipe_whose_reader_is_gone_ends_it_quietly(ring_dir: Path) -> None:
    with ProducerProcess(ring_dir, 5) as producer, Running("tail", "--ring-dir", ring_dir) as tail:
        tail.read_until(2)
        tail.close_output()
        producer.tell("emit 5 10")
        producer.expect("emitted 5")
        code, errors = tail.end()
        assert (code, errors) == (-signal.SIGPIPE, "")  # as `tail -f` itself
