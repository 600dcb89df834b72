"""The life of a ring as the drain sees it: found, read, ended, removed; and never another's file."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

import pytest

import ringbuf
from drain.accounting.sums import Sums
from drain.rings.directory import RingDirectory
from drain.rings.watch import Watch
from drain.service.limits import Limits
from ringbuf._ringbuf import lib
from tests.service.c_producer import CProducer
from tests.service.draining import (
    LAYOUT,
    SECONDS,
    MemoryBackend,
    ProducerProcess,
    SteppedDrain,
    emit,
    ring_files,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from drain.rings.doorbell import Doorbell


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def drain(ring_dir: Path, backend: MemoryBackend) -> Iterator[SteppedDrain]:
    with SteppedDrain(ring_dir, backend) as drain:
        yield drain


def an_emitter(ring_dir: Path, service: str = "shop") -> ringbuf.Emitter:
    return ringbuf.Emitter(service, ring_dir=ring_dir, layout=LAYOUT, capacity=64, lanes=1)


def state_word(path: Path) -> int:
    """Return `consumer_state` of the first lane."""
    data = path.read_bytes()
    header_bytes = int.from_bytes(data[12:16], "little")
    return int.from_bytes(data[header_bytes + 304 : header_bytes + 308], "little")


def test_a_ring_made_after_the_look_at_the_directory_is_not_slept_over(
    ring_dir: Path, drain: SteppedDrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain.step()
    reader = drain.service._reader
    look = reader.look
    slept_over: list[bool] = []
    with contextlib.ExitStack() as late:

        def look_too_early() -> bool:
            is_changed = look()
            late.enter_context(an_emitter(ring_dir))  # it rings
            return is_changed

        def sleep(_watch: Watch, doorbell: Doorbell, value: int, _nap: float, _seconds: float) -> bool:
            slept_over.append(doorbell.value() == value)
            return True

        monkeypatch.setattr(reader, "look", look_too_early)
        monkeypatch.setattr(Watch, "sleep", sleep)
        assert not drain.service._round()
        drain.service._sleep()
    assert slept_over == [False]


def test_a_ring_that_appears_later_is_found(ring_dir: Path, backend: MemoryBackend, drain: SteppedDrain) -> None:
    drain.step()
    with an_emitter(ring_dir) as emitter:
        emit(emitter, range(5))
        drain.until(lambda: emitter.stats().pending == 0)
    assert backend.numbers == list(range(5))


def test_a_closed_ring_is_drained_removed_and_remembered(
    ring_dir: Path, backend: MemoryBackend, drain: SteppedDrain
) -> None:
    with an_emitter(ring_dir) as emitter:
        emit(emitter, range(5))
        drain.step()
    drain.until(lambda: not ring_files(ring_dir))
    assert sorted(backend.numbers) == list(range(5))
    assert drain.service._reader.rings == []
    assert drain.sums() == Sums(rings=1, published=5, delivered=5)


def test_the_ring_of_a_killed_producer_is_drained_and_removed(
    ring_dir: Path, backend: MemoryBackend, drain: SteppedDrain
) -> None:
    with ProducerProcess(ring_dir, 100) as producer:
        drain.step()
        assert len(ring_files(ring_dir)) == 1
        producer.kill()
    drain.until(lambda: not ring_files(ring_dir))
    assert sorted(backend.numbers) == list(range(100))
    assert drain.sums() == Sums(rings=1, published=100, delivered=100)


def test_spans_published_between_the_last_look_and_the_death_are_delivered(
    ring_dir: Path, backend: MemoryBackend, drain: SteppedDrain
) -> None:
    with ProducerProcess(ring_dir, 10) as producer:
        drain.until(lambda: len(backend.numbers) == 10)
        producer.tell("emit 10 20")
        producer.expect("emitted 10")
        producer.kill()
    # The lock is found free in a round whose poll has seen the new tail or has not: the final look must.
    drain.until(lambda: not ring_files(ring_dir))
    assert sorted(backend.numbers) == list(range(20))


def test_the_ring_of_a_living_producer_stays(ring_dir: Path, drain: SteppedDrain) -> None:
    with an_emitter(ring_dir) as emitter:
        emit(emitter, range(5))
        drain.until(lambda: emitter.stats().pending == 0)
        for _ in range(20):
            drain.step()
        assert len(ring_files(ring_dir)) == 1


def test_a_ring_is_not_removed_while_a_span_of_it_is_on_its_way(
    ring_dir: Path, backend: MemoryBackend, drain: SteppedDrain
) -> None:
    backend.holds = lambda _request: True
    with an_emitter(ring_dir) as emitter:
        emit(emitter, range(5))
    drain.until(lambda: backend.waiting)
    for _ in range(20):
        drain.step()
    assert len(ring_files(ring_dir)) == 1
    backend.let_go()
    drain.until(lambda: not ring_files(ring_dir))


def test_a_file_that_took_the_rings_name_is_not_removed(
    ring_dir: Path, backend: MemoryBackend, drain: SteppedDrain
) -> None:
    backend.holds = lambda _request: True
    with an_emitter(ring_dir) as emitter:
        emit(emitter, range(5))
    drain.until(lambda: backend.waiting)
    (path,) = ring_files(ring_dir)
    path.unlink()
    path.mkdir()  # whatever it is, it is not the drain's to remove
    backend.let_go()
    drain.until(lambda: not drain.service._reader.rings)
    assert ring_files(ring_dir) == [path]
    assert drain.sums() == Sums(rings=1, published=5, delivered=5)


def test_a_ring_replaced_at_the_last_moment_is_not_removed(ring_dir: Path, drain: SteppedDrain) -> None:
    """The drain compares the file once more when it removes it, not only when it looks at the directory."""
    with an_emitter(ring_dir):
        drain.step()
    (path,) = ring_files(ring_dir)
    (ring,) = drain.service._reader.rings
    path.rename(ring_dir / "old")
    path.write_text("new")
    assert ring.is_named
    drain.service._reader.retire(ring)
    assert path.read_text() == "new"


def test_a_renamed_ring_is_read_on_and_removed_under_its_new_name(
    ring_dir: Path, backend: MemoryBackend, drain: SteppedDrain
) -> None:
    emitter = an_emitter(ring_dir)
    emit(emitter, range(5))
    drain.until(lambda: emitter.stats().pending == 0)
    ring_files(ring_dir)[0].rename(ring_dir / "renamed.ring")
    emit(emitter, range(5, 10))
    drain.until(lambda: len(backend.numbers) == 10)
    assert len(drain.service._reader.rings) == 1, "the same file under two names would be read twice"
    emitter.close()
    drain.until(lambda: not ring_files(ring_dir))
    assert sorted(backend.numbers) == list(range(10))
    assert drain.sums() == Sums(rings=1, published=10, delivered=10)


def test_a_producer_whose_ring_was_removed_makes_another_and_nothing_is_lost(
    ring_dir: Path, backend: MemoryBackend, drain: SteppedDrain, capsys: pytest.CaptureFixture[str]
) -> None:
    emitter = an_emitter(ring_dir)
    emit(emitter, range(5))
    drain.step()
    ring_files(ring_dir)[0].unlink()
    drain.step()
    emit(emitter, range(5, 10))
    until(lambda: ring_files(ring_dir), lambda: emit(emitter, [99]))
    emit(emitter, range(10, 15))
    emitter.close()
    drain.until(lambda: not drain.service._reader.rings and not ring_files(ring_dir))
    assert set(backend.numbers) - {99} == set(range(15))
    assert capsys.readouterr().out.count("ring file was removed") == 1
    sums = drain.sums()
    assert sums.rings == 2
    assert sums.published == sums.delivered == len(backend.numbers)


def test_a_new_ring_directory_is_taken_up(ring_dir: Path, backend: MemoryBackend) -> None:
    path = ring_dir / "rings"
    path.mkdir(mode=0o700)
    with SteppedDrain(path, backend) as drain, an_emitter(path) as emitter:
        emit(emitter, range(5))
        drain.step()
        shutil.rmtree(path)
        drain.step()
        with an_emitter(path) as other:
            emit(other, range(5, 10))
            drain.until(lambda: other.stats().pending == 0)
        drain.until(lambda: emitter.stats().pending == 0)
        assert (path / "drain.lock").exists()
        assert (path / "doorbell").exists()
    assert sorted(backend.numbers) == list(range(10))


def test_the_consumer_state_says_attached_while_a_drain_reads_and_none_after_it(ring_dir: Path) -> None:
    with an_emitter(ring_dir) as emitter:
        path = ring_files(ring_dir)[0]
        with SteppedDrain(ring_dir, MemoryBackend()) as drain:
            drain.step()
            assert state_word(path) == lib.RB_CONSUMER_ATTACHED
            assert emitter.stats().drain_attached
        assert state_word(path) == lib.RB_CONSUMER_NONE
        assert not emitter.stats().drain_attached


def test_the_next_drain_goes_on_where_the_last_one_ended(ring_dir: Path, backend: MemoryBackend) -> None:
    with an_emitter(ring_dir) as emitter:
        for first in range(0, 100, 10):
            emit(emitter, range(first, first + 10))
            with SteppedDrain(ring_dir, backend) as drain:
                drain.until(lambda: emitter.stats().pending == 0)
    assert backend.numbers == list(range(100))


def test_what_a_killed_drain_had_counted_but_not_released_is_sent_again_and_counted_as_repeated(
    ring_dir: Path, backend: MemoryBackend, drain: SteppedDrain
) -> None:
    with an_emitter(ring_dir) as emitter:
        emit(emitter, range(5))
        path = ring_files(ring_dir)[0]
        # As after a kill between the store to `delivered` and the one to `head`.
        with path.open("r+b") as file:
            header_bytes = int.from_bytes(file.read(16)[12:], "little")
            file.seek(header_bytes + 256 + 8)
            file.write((3).to_bytes(8, "little"))
        drain.service._reader.scan()
        assert drain.sums() == Sums(rings=1, published=5, delivered=3, pending=2)
        drain.until(lambda: emitter.stats().pending == 0)
        assert drain.sums() == Sums(rings=1, published=5, delivered=5, repeated=3)
    assert sorted(backend.numbers) == list(range(5))


def test_positions_may_pass_the_end_of_their_numbers(
    ring_dir: Path, backend: MemoryBackend, drain: SteppedDrain
) -> None:
    with CProducer(ring_dir, first_position=2**64 - 6) as producer:
        assert producer.emit(range(10)) == 10
        drain.until(lambda: len(backend.numbers) == 10)
        drain.until(lambda: drain.sums().pending == 0)
        assert drain.sums() == Sums(rings=1, published=10, delivered=10)
    assert sorted(backend.numbers) == list(range(10))


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "second name", "newer version"])
def test_what_is_not_ours_to_read_is_left_alone_and_said_once(
    kind: str, ring_dir: Path, backend: MemoryBackend, drain: SteppedDrain, capsys: pytest.CaptureFixture[str]
) -> None:
    strange = ring_dir / "strange.ring"
    with an_emitter(ring_dir) as emitter:
        emit(emitter, range(5))
    (sound,) = ring_files(ring_dir)
    match kind:
        case "link":
            shutil.copy(sound, ring_dir / "target")
            strange.symlink_to(ring_dir / "target")
        case "fifo":
            os.mkfifo(strange)
        case "folder":
            strange.mkdir()
        case "second name":
            shutil.copy(sound, strange)
            os.link(strange, ring_dir / "other name")
        case _:
            assert kind == "newer version"
            data = bytearray(sound.read_bytes())
            data[8] += 1
            strange.write_bytes(data)
    drain.until(lambda: ring_files(ring_dir) == [strange])
    for _ in range(20):
        drain.step()
    assert backend.numbers == list(range(5))
    assert drain.service._reader.left_alone == 1
    assert capsys.readouterr().out.count("file left alone") == 1
    with contextlib.suppress(IsADirectoryError, PermissionError):
        strange.unlink()
    if kind == "folder":
        strange.rmdir()
    drain.step()
    assert drain.service._reader.left_alone == 0


def test_the_ring_of_another_user_is_left_alone(
    ring_dir: Path, monkeypatch: pytest.MonkeyPatch, backend: MemoryBackend, drain: SteppedDrain
) -> None:
    with an_emitter(ring_dir) as emitter:
        emit(emitter, range(5))
    real = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: real + 1)
    drain.service._reader.scan()
    assert drain.service._reader.rings == []
    assert drain.service._reader.left_alone == 1


def test_stopping_drains_what_is_there_and_ends_beside_a_producer_that_never_stops(
    ring_dir: Path, backend: MemoryBackend
) -> None:
    limits = Limits(batch_spans=8, batch_bytes=4_000_000, batch_delay=0.0, concurrency=1, shutdown_timeout=SECONDS)
    with an_emitter(ring_dir) as emitter, SteppedDrain(ring_dir, backend, limits) as drain:
        drain.step()
        emit(emitter, range(20))
        number = 20

        def export_and_emit(request: object) -> bool:
            nonlocal number
            emit(emitter, range(number, number + 20))
            number += 20
            return False

        backend.holds = export_and_emit
        assert drain.service._finish() == 0
        assert sorted(backend.numbers)[:20] == list(range(20))
        assert emitter.stats().pending > 0
        drain.is_closed = True
        drain.service.close()


def test_what_a_producer_publishes_and_closes_during_a_stop_is_not_removed_unread(
    ring_dir: Path, backend: MemoryBackend, drain: SteppedDrain
) -> None:
    emitter = an_emitter(ring_dir)
    emit(emitter, range(5))
    drain.step()
    drain.service._reader.rings[0].stop_at_tails()
    drain.service._shutdown.is_finishing = True
    emit(emitter, range(5, 10))
    emitter.close()
    drain.until(lambda: not drain.service._reader.rings)
    assert sorted(backend.numbers) == list(range(10))
    assert ring_files(ring_dir) == []


def test_each_ring_is_the_first_to_be_served_in_its_turn(ring_dir: Path, drain: SteppedDrain) -> None:
    with contextlib.ExitStack() as emitters:
        made = {name: emitters.enter_context(an_emitter(ring_dir, name)) for name in ("a", "b", "c", "idle")}
        drain.step()
        for name in ("a", "b", "c"):
            emit(made[name], [1])
        turns = [[ring.service for ring in drain.service._reader.watch.with_news()] for _ in range(30)]
        firsts = [turn[0] for turn in turns]
        assert {name: firsts.count(name) for name in "abc"} == {"a": 10, "b": 10, "c": 10}
        assert all(set(turn) == {"a", "b", "c"} for turn in turns)


def test_the_directory_may_be_served_again_after_close(ring_dir: Path) -> None:
    with SteppedDrain(ring_dir, MemoryBackend()):
        pass
    RingDirectory(ring_dir).close()
