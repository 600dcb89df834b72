"""A record of which the drain dies kills it once: the next drain reads the rings in another process first."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import structlog

import ringbuf
from drain.otlp.direct_gzip import DirectGzip
from drain.rings import examination, held_examination
from drain.sampling.hold.chunk import RingKey
from drain.sampling.hold.hold import Hold
from tests.sampled import every
from tests.service.draining import (
    LAYOUT,
    DrainProcess,
    MemoryBackend,
    SteppedDrain,
    emit,
    numbers_in_file,
    quarantined,
    spans_so_far,
)
from tests.service.rings.fatal_records import plant
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PLANT = Path(__file__).with_name("fatal_records.py")
NOTE = "crashed by signal 6"
CAPACITY = 256
WRITES_GZIP = pytest.mark.skipif(not DirectGzip.is_supported(), reason="this processor has no carry-less product")
# Before a drain begins: it and its examiners die of what FATAL names.
PLANTED = f"""
import drain.rings.examination, drain.rings.held_examination
planted = "exec(open({str(PLANT)!r}).read()); import drain"
for examination in (drain.rings.examination, drain.rings.held_examination):
    examination._START = examination._START.replace("import drain", planted, 1)
exec(open({str(PLANT)!r}).read())
"""


# An examiner that begins to look for what kills when it may: it is slower than the delivery, however slow that is.
SLOWER = """
import os, time
from drain.rings.examiner import Examiner
def verdict(examiner, suspect, verdict=Examiner._verdict):
    while not os.path.exists({begin!r}):
        time.sleep(0.01)
    return verdict(examiner, suspect)
Examiner._verdict = verdict
"""


@pytest.fixture
def shop(ring_dir: Path) -> Iterator[ringbuf.Emitter]:
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=CAPACITY, lanes=1) as emitter:
        emit(emitter, range(100))
        yield emitter


@pytest.fixture
def sound(ring_dir: Path) -> Iterator[ringbuf.Emitter]:
    with ringbuf.Emitter("sound", ring_dir=ring_dir, layout=LAYOUT, capacity=CAPACITY, lanes=1) as emitter:
        emit(emitter, range(1000, 1010))
        yield emitter


@pytest.fixture
def fatal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what plants a fault in the examiner alone: this process would not survive it."""

    def plant_it(numbers: list[int], how: str = "abort", *, before: str = "", together: bool = False) -> None:
        monkeypatch.setenv("FATAL", json.dumps({"numbers": numbers, "how": how, "together": together}))
        start = examination._START
        planted = start.replace("import drain", f"exec(open({str(PLANT)!r}).read()); {before}import drain", 1)
        monkeypatch.setattr(examination, "_START", planted)

    return plant_it


@pytest.fixture
def drain(ring_dir: Path) -> Iterator[SteppedDrain]:
    """Return a drain that finds the note of one that died."""
    note(ring_dir)
    with SteppedDrain(ring_dir, MemoryBackend()) as drain:
        yield drain


def note(ring_dir: Path) -> None:
    (ring_dir / "drain.lock").touch(0o600)
    (ring_dir / "drain.lock").write_text(f"1\n{NOTE}\n")


def is_noted(ring_dir: Path) -> bool:
    return NOTE in (ring_dir / "drain.lock").read_text()


def test_a_record_kills_the_drain_once(
    ring_dir: Path, tmp_path: Path, shop: ringbuf.Emitter, sound: ringbuf.Emitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, output = tmp_path / "drain.log", tmp_path / "spans.jsonl"
    monkeypatch.setenv("FATAL", json.dumps({"numbers": [5, 70], "how": "abort"}))
    arguments = ("--output", output, "--batch-delay", 0)

    def planted_drain() -> DrainProcess:
        return DrainProcess(log, ring_dir, *arguments, before=PLANTED)

    with planted_drain() as first:
        assert first.wait() == -signal.SIGABRT
    assert is_noted(ring_dir)
    with planted_drain() as second:
        second.wait_for_event("records killed a drain: they are invalid")
        assert second.stop() == 1, "two records are lost"
        services = second.audit()
    assert services["sound"] == {"rings": 1, "published": 10, "delivered": 10}
    assert services["shop"] == {"rings": 1, "published": 100, "delivered": 98, "invalid": 2}
    delivered = numbers_in_file(output)
    assert sorted(set(delivered)) == sorted({*range(100), *range(1000, 1010)} - {5, 70})
    assert not is_noted(ring_dir)
    with DrainProcess(log, ring_dir, *arguments) as third:
        third.wait_for_event("ring attached", 2)
        third.kill()
    with DrainProcess(log, ring_dir, *arguments) as fourth:
        fourth.wait_for_event("ring attached", 2)
        assert fourth.stop() == 0
    assert len(fourth.events("the last drain died of a fault: its rings are examined first")) == 1, "a kill is no fault"


RULES = """
[sampling]
wait = "{0}"
wait_after_root = "{0}"
[[sampling.rule]]
name = "failures"
status = "error"
[[sampling.rule]]
name = "rest"
ratio = 1.0
"""


@pytest.mark.parametrize(
    ("how", "is_file"), [("abort", True), ("look", False), pytest.param("look", True, marks=pytest.mark.prove)]
)
def test_with_rules_a_record_kills_the_drain_once_too(
    ring_dir: Path, tmp_path: Path, shop: ringbuf.Emitter, how: str, is_file: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it leaves the hold, for the encoder; or as the rules look at it, before it is held."""
    log, output, rules = tmp_path / "drain.log", tmp_path / "spans.jsonl", tmp_path / "rules.toml"
    rules.write_text(RULES.format("300ms"))
    monkeypatch.setenv("FATAL", json.dumps({"numbers": [5, 70], "how": how}))
    deciding = ("--sampling", rules) if is_file else ("--keep-ratio", 1)
    arguments = ("--output", output, "--batch-delay", 0, *deciding)

    def planted_drain() -> DrainProcess:
        return DrainProcess(log, ring_dir, *arguments, before=PLANTED)

    with planted_drain() as first:
        assert first.wait() == -signal.SIGABRT
    assert (shop.stats().pending == 0) is (how == "abort"), "in the hold, or in the ring"
    with planted_drain() as second:
        second.wait_for_event("held records killed a drain: they are invalid" if how == "abort" else "ring attached")
        until(lambda: len(spans_so_far(output)) >= 98)
        assert second.stop() == 1, "two records are lost"
        audit = second.events("audit")[-1]
    assert audit["adds_up"], audit
    if how == "abort":
        assert audit["hold"]["shop"] == {"taken_up": 100, "held": 0, "delivered": 98, "invalid": 2}
    else:
        assert audit["services"]["shop"] == {"rings": 1, "published": 100, "spooled": 98, "invalid": 2}
        assert audit["hold"]["shop"] == {"held": 98, "delivered": 98}
    assert sorted(numbers_in_file(output)) == sorted({*range(100)} - {5, 70})
    assert not is_noted(ring_dir)


@pytest.mark.prove
@pytest.mark.parametrize(
    ("numbers", "how", "together", "reason"),
    [
        ([5], "abort", False, ""),
        ([1, 50, 99], "abort", False, ""),
        ([5], "look", False, ""),
        ([7], "kill", False, ""),
        (list(range(20, 40)), "abort", False, "of more than 16 records"),
        ([3, 60], "abort", True, "of no record by itself"),
        ([], "attach", False, ""),
    ],
)
def test_what_kills_is_found_in_the_hold_and_changes_nothing_there(
    ring_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    numbers: list[int],
    how: str,
    together: bool,
    reason: str,
) -> None:
    hold = Hold(ring_dir / "hold", 16 << 20, log=structlog.get_logger())
    origin = hold.origin(LAYOUT.to_json(), b'{"service.name": "shop"}', 0)
    records = np.zeros(100, LAYOUT.dtype)
    records["number"] = np.arange(100)
    records["kind"], records["flags"], records["end_unix_nano"] = 1, 0x101, 1
    records["trace_id"], records["span_id"] = 1, 1
    for start in (0, 50):
        hold.append(origin, RingKey(1, 1), 0, start, start + 50, records[start : start + 50])
    hold.close()
    (chunk,) = (ring_dir / "hold").glob("chunk-*")
    before = chunk.read_bytes()
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES.format("5s"))
    monkeypatch.setenv("FATAL", json.dumps({"numbers": numbers, "how": how, "together": together}))
    planted = held_examination._START.replace("import drain", f"exec(open({str(PLANT)!r}).read()); import drain", 1)
    monkeypatch.setattr(held_examination, "_START", planted)
    unsafe = held_examination.examine_held(
        ring_dir / "hold", encoding="json", batch_spans=100, rules=rules, log=structlog.get_logger()
    )
    if how == "attach":
        assert set(unsafe) == {chunk.name}
    else:
        found = unsafe[chunk.name]
        assert reason in found.reason
        assert found.slots == (set() if reason else set(numbers))
    assert chunk.read_bytes() == before
    again = Hold(ring_dir / "hold", 16 << 20, log=structlog.get_logger(), unsafe=unsafe)
    sums = again.sums()["shop"]
    left = 100 if not reason and how != "attach" else 0
    assert (sums.waiting, sums.unaccounted) == (left - len(numbers) if left else 0, 0)
    assert (sums.invalid if left else sums.lost + sums.invalid) == (len(numbers) if left else 100)
    again.close()


@pytest.mark.prove
@pytest.mark.parametrize(
    ("numbers", "how", "together", "reason"),
    [
        ([5], "abort", False, ""),
        ([1, 50, 99], "abort", False, ""),
        pytest.param([5, 70], "gzip", False, "", marks=WRITES_GZIP),
        pytest.param([5, 70], "measure", False, "", marks=WRITES_GZIP),
        ([7], "kill", False, ""),
        (list(range(20, 40)), "abort", False, "of more than 16 records"),
        ([3, 60], "abort", True, "of no record by itself"),
        ([], "attach", False, "attaches it dies (SIGABRT)"),
    ],
)
def test_what_kills_is_passed_over_and_counted(
    ring_dir: Path,
    shop: ringbuf.Emitter,
    sound: ringbuf.Emitter,
    fatal: Callable[..., None],
    drain: SteppedDrain,
    numbers: list[int],
    how: str,
    together: bool,
    reason: str,
) -> None:
    (path,) = ring_dir.glob("shop-*.ring")
    fatal(numbers, how, together=together)
    drain.until(lambda: sound.stats().pending == 0 and not drain.service._reader.in_examination)
    if reason:
        assert reason in quarantined(ring_dir)[path.name]["reason"]
        assert drain.backend.numbers == [*range(1000, 1010)]
        if how != "attach":
            assert (drain.sums().quarantined, drain.sums().unaccounted) == (100, 0)
            assert shop.recover(), "the producer has been told to make another ring"
    else:
        drain.until(lambda: shop.stats().pending == 0)
        assert sorted(drain.backend.numbers) == sorted({*range(100), *range(1000, 1010)} - {*numbers})
        sums = drain.sums()
        assert (sums.delivered, sums.invalid, sums.unaccounted) == (100 - len(numbers), len(numbers), 0)
    drain.until(lambda: not is_noted(ring_dir))


def test_the_other_rings_come_first_and_a_loop_without_end_dies(
    shop: ringbuf.Emitter, sound: ringbuf.Emitter, fatal: Callable[..., None], drain: SteppedDrain, tmp_path: Path
) -> None:
    begin = tmp_path / "begin"
    code = SLOWER.format(begin=str(begin))
    fatal([50], "spin", before=f"exec({code!r}); import drain.rings.trials as e; e._CPU_SECONDS = 0.1; ")
    drain.until(lambda: sound.stats().pending == 0)
    assert drain.service._reader.in_examination == 1
    assert shop.stats().pending == 100
    begin.touch()
    drain.until(lambda: shop.stats().pending == 0)
    assert (drain.sums().delivered, drain.sums().invalid) == (99, 1)


@pytest.mark.prove
def test_the_note_stays_until_the_record_is_released(
    ring_dir: Path, shop: ringbuf.Emitter, fatal: Callable[..., None], drain: SteppedDrain
) -> None:
    fatal([5])
    drain.backend.holds = lambda _request: True
    drain.until(lambda: drain.backend.waiting)
    drain.step()
    assert is_noted(ring_dir), "a drain that is killed now leaves the record to the next"
    drain.backend.let_go()
    drain.until(lambda: not is_noted(ring_dir))
    assert drain.sums().invalid == 1


@pytest.mark.prove
def test_a_drain_that_stops_before_the_verdict_leaves_the_note(
    ring_dir: Path, shop: ringbuf.Emitter, drain: SteppedDrain
) -> None:
    drain.step()
    assert drain.service._reader.in_examination == 1
    drain.close()
    assert is_noted(ring_dir)
    with SteppedDrain(ring_dir, drain.backend) as second:
        second.until(lambda: shop.stats().pending == 0)
        second.step()
    assert not is_noted(ring_dir)


@pytest.mark.prove
def test_once_waits_for_the_verdict(shop: ringbuf.Emitter, fatal: Callable[..., None], drain: SteppedDrain) -> None:
    fatal([5])
    assert drain.service.drain_once() == 1
    assert sorted(drain.backend.numbers) == sorted({*range(100)} - {5})


@pytest.mark.prove
def test_rings_are_read_where_nothing_can_examine_them(
    monkeypatch: pytest.MonkeyPatch, shop: ringbuf.Emitter, drain: SteppedDrain
) -> None:
    monkeypatch.setattr(examination, "_START", "raise SystemExit(3)")
    drain.until(lambda: shop.stats().pending == 0)
    assert drain.sums().delivered == 100


@pytest.mark.prove
@pytest.mark.parametrize("change", ["unlink", "replace"])
def test_a_ring_that_goes_meanwhile_is_not_waited_for(
    ring_dir: Path, shop: ringbuf.Emitter, drain: SteppedDrain, change: str
) -> None:
    drain.step()
    (path,) = ring_dir.glob("shop-*.ring")
    data = path.read_bytes()
    path.unlink()
    if change == "replace":
        path.write_bytes(data)
        path.chmod(0o600)
    drain.until(lambda: not is_noted(ring_dir))


@pytest.mark.parametrize("want", every(2, ["descriptor", "memory"]))
def test_a_ring_that_cannot_be_taken_in_just_then_keeps_its_verdict(
    monkeypatch: pytest.MonkeyPatch,
    ring_dir: Path,
    shop: ringbuf.Emitter,
    fatal: Callable[..., None],
    drain: SteppedDrain,
    want: str,
) -> None:
    """It would be read whole at the next look: the record kills the drain again, and the note is gone."""
    fatal([5])
    reader = drain.service._reader
    take_in, descriptors = reader._take_in, reader._intake._ring_descriptors

    def fail(name: str, fd: int) -> bool:
        os.close(fd)
        reader._intake.try_again_later(name, MemoryError())
        return False

    drain.until(lambda: reader.in_examination)
    if want == "memory":
        monkeypatch.setattr(reader, "_take_in", fail)
    else:
        monkeypatch.setattr(reader._intake, "_ring_descriptors", 0)
    drain.until(lambda: reader._verdicts)
    drain.step()
    assert reader.in_examination == 1
    assert is_noted(ring_dir)
    assert reader.rings == []
    monkeypatch.setattr(reader, "_take_in", take_in)
    monkeypatch.setattr(reader._intake, "_ring_descriptors", descriptors)
    drain.until(lambda: shop.stats().pending == 0)
    assert sorted(drain.backend.numbers) == sorted({*range(100)} - {5})
    drain.until(lambda: not is_noted(ring_dir))


def test_an_exception_of_the_encoder_costs_its_record_alone(
    monkeypatch: pytest.MonkeyPatch, ring_dir: Path, shop: ringbuf.Emitter
) -> None:
    from drain.otlp.encoder import Encoder  # noqa: PLC0415 - what is patched

    for name in ("encode", "encode_json", "__init__"):
        monkeypatch.setattr(Encoder, name, getattr(Encoder, name))
    plant({"numbers": [5, 6, 99], "how": "raise"})
    with SteppedDrain(ring_dir, MemoryBackend()) as drain:
        drain.until(lambda: shop.stats().pending == 0)
        assert sorted(drain.backend.numbers) == sorted({*range(100)} - {5, 6, 99})
        assert (drain.sums().delivered, drain.sums().invalid, drain.sums().unaccounted) == (97, 3, 0)


def test_an_exception_at_the_attach_sets_the_ring_aside(
    monkeypatch: pytest.MonkeyPatch, ring_dir: Path, shop: ringbuf.Emitter
) -> None:
    def broken(*_arguments: Any) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr("drain.rings.ring.Encoder", broken)
    with SteppedDrain(ring_dir, MemoryBackend()) as drain:
        drain.until(lambda: quarantined(ring_dir))
        (reason,) = quarantined(ring_dir).values()
    assert "ZeroDivisionError('planted')" in reason["reason"]
