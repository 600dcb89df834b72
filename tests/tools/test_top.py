from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING

import numpy as np
import pytest

import ringbuf
from drain.tools.looking.watched_rings import WatchedRings
from drain.tools.top.frames import Frame, Frames, Group, Kind, as_json
from drain.tools.top.screen import plain_screen
from tests.clocks import Clock
from tests.consumer import Consumer, rings_in
from tests.records import fresh_records
from tests.service.draining import LAYOUT, emit
from tests.tools.running import OnTerminal, Running, invoke, output_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def clock() -> Clock:
    return Clock(100.0)


@pytest.fixture
def frames(ring_dir: Path, shop: ringbuf.Emitter, clock: Clock) -> Iterator[Frames]:
    watched = WatchedRings(rings_in(ring_dir), ring_dir, clock=clock)
    yield Frames(watched, lambda ring: ring.service, clock)
    watched.close()


def next_frame(frames: Frames, clock: Clock, seconds: float = 2.0) -> Frame:
    frames.look()
    clock.now += seconds
    frames.look()
    return frames.take()


def test_rates_are_by_the_counters_and_fill_by_the_fullest_lane(
    frames: Frames, clock: Clock, shop: ringbuf.Emitter
) -> None:
    shop.emit_batch(fresh_records(shop, 100))  # 12 are there, 52 fit
    frame = next_frame(frames, clock)
    (group,) = frame.groups
    assert (group.name, group.rings, group.rate, group.drop_rate) == ("shop", 1, 26.0, 24.0)
    assert (group.fill, group.pending) == (1.0, 64)
    assert (frame.published, frame.seen) == (52, 64)
    (group,) = next_frame(frames, clock).groups
    assert (group.rate, group.drop_rate, group.pending) == (0.0, 0.0, 64)


def test_latencies_are_by_name_and_operation(frames: Frames, clock: Clock) -> None:
    kinds = {(kind.name, kind.operation): kind for kind in next_frame(frames, clock).kinds}
    read = kinds["grafos.dataplane.fbmu", "fbmu_read"]
    assert (read.seen, read.p50_nano, read.p99_nano) == (10, 5000, 10_000)
    write = kinds["grafos.dataplane.fbbu", "fbbu_write"]
    assert (write.seen, write.p50_nano, write.p99_nano) == (2, 2_000_000, 5_000_000)


def test_latencies_are_of_the_last_ten_pictures(frames: Frames, clock: Clock) -> None:
    for _ in range(10):
        assert next_frame(frames, clock).kinds
    assert not next_frame(frames, clock).kinds


def test_the_lag_is_the_age_of_the_oldest_that_is_not_released(
    frames: Frames, clock: Clock, ring_dir: Path, shop: ringbuf.Emitter
) -> None:
    (group,) = next_frame(frames, clock).groups
    assert 0 < group.lag_nano < 3600 * 10**9  # the fixture's spans are years old, their ring is not
    with Consumer(rings_in(ring_dir)[0]) as consumer:
        consumer.take()
    (group,) = next_frame(frames, clock).groups
    assert (group.lag_nano, group.pending) == (0, 0)


def test_of_a_busy_lane_the_newest_are_looked_at(ring_dir: Path, clock: Clock) -> None:
    with ringbuf.Emitter("busy", ring_dir=ring_dir, layout=LAYOUT, capacity=8192, lanes=1) as emitter:
        watched = WatchedRings(rings_in(ring_dir), None, clock=clock)
        frames = Frames(watched, lambda ring: ring.service, clock)
        assert emit(emitter, range(5000)) == 5000
        clock.now += 1
        frames.look()
        frame = frames.take()
        assert (frame.published, frame.seen, frame.kinds[0].seen) == (5000, 2048, 2048)
        assert frame.kinds[0].p99_nano < -(5000 - 2048)  # a span's number is its start, and its end is 0
        watched.close()


def test_rings_come_and_go(frames: Frames, clock: Clock, ring_dir: Path, shop: ringbuf.Emitter) -> None:
    with ringbuf.Emitter("late", ring_dir=ring_dir, layout=LAYOUT, capacity=64) as late:
        emit(late, range(10))
        rates = {group.name: group.rate for group in next_frame(frames, clock).groups}
        assert rates == {"shop": 0.0, "late": 5.0}
        next(path for path in rings_in(ring_dir) if path.name.startswith("late")).unlink()
        next_frame(frames, clock)  # a ring without a name is looked at to its end
        assert {group.name for group in next_frame(frames, clock).groups} == {"shop"}


def test_names_out_of_bounds_are_left_out(frames: Frames, clock: Clock, ring_dir: Path, shop: ringbuf.Emitter) -> None:
    next_frame(frames, clock)
    made = fresh_records(shop, 3)
    shop.emit_batch(made)
    path = rings_in(ring_dir)[0]
    data = np.memmap(path, np.uint8, "r+")
    slots = int.from_bytes(bytes(data[12:16]), "little") + 384
    data[slots + 12 * 128 + 52] = 200  # name
    data[slots + 13 * 128 + 48] = 0xFF  # present, so that the operation counts
    data[slots + 13 * 128 + shop.layout.offsets["grafos.operation"]] = 200
    del data
    for recent in frames._kinds.values():
        recent.frames.clear()
        recent.frames.append([])
    kinds = next_frame(frames, clock).kinds
    assert [(kind.operation, kind.seen) for kind in kinds] == [("", 1)]


def test_the_picture_as_text_and_as_json() -> None:
    frame = Frame(
        0, 1.0, [Group("shop", 3, 1234.4, 0.5, 700, 2.0, 1_500_000_000)], [Kind("a.b", "get", 9, 10, 2000)], 9, 12
    )
    text = plain_screen(frame, "service", "/rings", 42)
    for words in ("1,234 spans/s, 3 rings, drain pid 42, /rings", "50%", "1.50s", "2.00µs"):
        assert words in text
    found = json.loads(json.dumps(as_json(frame, None)))
    assert found["groups"][0]["lag_seconds"] == 1.5
    assert found["spans"] == [{"name": "a.b", "operation": "get", "seen": 9, "p50_nano": 10, "p99_nano": 2000}]


def test_one_picture_for_a_program(shop: ringbuf.Emitter, ring_dir: Path) -> None:
    found = json.loads(output_of("top", "--ring-dir", ring_dir, "--once", "--json", "--interval", "0.1"))
    assert found["groups"][0]["name"] == "shop"
    text = output_of("top", "--ring-dir", ring_dir, "--once", "--by", "ring", "--interval", "0.1")
    assert rings_in(ring_dir)[0].stem in text


def test_a_service_that_no_ring_is_of_is_told_beside_the_picture(shop: ringbuf.Emitter, ring_dir: Path) -> None:
    result = invoke("top", "--ring-dir", ring_dir, "--once", "--interval", "0.1", "--service", "shpo")
    assert (result.exit_code, "did you mean 'shop'?" in result.stderr) == (0, True)


def test_in_a_pipe_one_picture_follows_the_other_until_ctrl_c(shop: ringbuf.Emitter, ring_dir: Path) -> None:
    with Running("top", "--ring-dir", ring_dir, "--json", "--interval", "0.1") as top:
        assert {json.loads(line)["groups"][0]["pending"] for line in top.read_until(3)} == {12}
        assert top.interrupt() == (130, "")


@pytest.mark.parametrize(("columns", "number", "code"), [(40, signal.SIGINT, 130), (80, signal.SIGTERM, 143)])
def test_on_a_terminal_with_200_services(ring_dir: Path, columns: int, number: int, code: int) -> None:
    emitters = [
        ringbuf.Emitter(f"service-with-a-long-name-{n}", ring_dir=ring_dir, layout=LAYOUT, capacity=16, lanes=1)
        for n in range(200)
    ]
    for emitter in emitters:
        emit(emitter, range(3))
    with OnTerminal("top", "--ring-dir", ring_dir, "--interval", "0.2", columns=columns) as terminal:
        terminal.read_until(b"more services", 2)
        assert terminal.interrupt(number) == code
    assert terminal.output.count(b"\x1b[?1049h") == 1  # into the other screen
    assert terminal.output.rstrip().endswith(b"\x1b[?1049l")  # and out of it
    assert b"Traceback" not in terminal.output
    last = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", terminal.output.split(b"\x1b[H")[-2]).decode()  # the signal cuts one
    screen = last.split("\r\n")
    assert len(screen) <= 24
    assert max(len(line.rstrip()) for line in screen) <= columns
    assert "200 rings" in last or columns == 40
    assert sum(bool(re.match(r"\S*-name-\d+ ", line)) for line in screen) >= 10, "the ends tell them apart"
    for emitter in emitters:
        emitter.close()


def test_a_terminal_without_a_cursor_gets_one_picture_after_the_other(shop: ringbuf.Emitter, ring_dir: Path) -> None:
    arguments = ("top", "--ring-dir", ring_dir, "--interval", "0.1")
    with OnTerminal(*arguments, columns=80, environment={"TERM": "dumb"}) as terminal:
        terminal.read_until(b"spans/s", 4)  # of two pictures: in the title, and over its column
        terminal.type("q")
        assert terminal.end() == 0
    assert b"\x1b" not in terminal.output
    assert b"shop" in terminal.output


@pytest.mark.parametrize("key", ["q", "xQ", "\x04"])
def test_a_key_ends_it_at_once_and_the_terminal_is_as_it_was(shop: ringbuf.Emitter, ring_dir: Path, key: str) -> None:
    # An hour between pictures: what ends it is the key, and not the next picture.
    with OnTerminal("top", "--ring-dir", ring_dir, "--interval", "3600", columns=80) as terminal:
        terminal.read_until(b"looking")
        assert terminal.mode() != terminal.mode_at_first
        terminal.type(key)
        assert terminal.end() == 0
        assert terminal.mode() == terminal.mode_at_first
    assert terminal.output.rstrip().endswith(b"\x1b[?1049l")  # out of the other screen


def test_a_key_that_is_pressed_before_the_first_picture_counts(ring_dir: Path) -> None:
    with OnTerminal("top", "--ring-dir", ring_dir, columns=80) as terminal:
        terminal.type("q")  # while it still imports
        assert terminal.end() == 0


def test_a_signal_leaves_the_terminal_as_it_was(shop: ringbuf.Emitter, ring_dir: Path) -> None:
    with OnTerminal("top", "--ring-dir", ring_dir, "--interval", "3600", columns=80) as terminal:
        terminal.read_until(b"looking")
        assert terminal.mode() != terminal.mode_at_first
        assert terminal.interrupt(signal.SIGTERM) == 143
        assert terminal.mode() == terminal.mode_at_first
