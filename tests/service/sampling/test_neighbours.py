"""A running drain whose hold is short of room, whose rules change all the time, or whose hold is taken from it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest
import structlog

import ringbuf
from drain.sampling.hold.chunk import RingKey
from drain.sampling.hold.hold import Hold
from drain.sampling.rules import DEFAULT, Rule, Rules
from drain.service.sampling_plan import SamplingPlan
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
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOUR: Final = 3600 * 10**9
WAITING: Final = Rules((Rule("failures", statuses=frozenset({2})), Rule(DEFAULT)), HOUR, HOUR, HOUR)
HOLD_BYTES: Final = 16 << 20
SPANS: Final = 3  # of a trace
FAILURES: Final = '[[sampling.rule]]\nname = "failures"\nstatus = "error"\n'


def emitter(ring_dir: Path, service: str) -> ringbuf.Emitter:
    return ringbuf.Emitter(service, ring_dir=ring_dir, layout=LAYOUT, capacity=65536, lanes=1)


def emit_traces(emitter: ringbuf.Emitter, first: int, count: int) -> None:
    """Emit traces of three spans each, whose numbers begin at `first`."""
    made = records(emitter, range(first, first + count * SPANS))
    made["trace_id"] = made["trace_id"][::SPANS].repeat(SPANS, axis=0)
    made["parent_span_id"].reshape(count, SPANS, 8)[:, 1:] = 1
    made["flags"] = 0x103
    assert emitter.emit_batch(made) == len(made)


def key_of(path: Path) -> RingKey:
    with Consumer(path, observe=True) as consumer:
        return RingKey(path.stat().st_ino, consumer.header.created_unix_nano)


def test_a_ring_that_floods_the_hold_takes_nothing_from_the_one_beside_it(ring_dir: Path) -> None:
    with emitter(ring_dir, "good") as good, emitter(ring_dir, "flood") as flood:
        hold = Hold(ring_dir / "hold", HOLD_BYTES, log=structlog.get_logger())
        backend = MemoryBackend()
        with SteppedDrain(ring_dir, backend, sampling=SamplingPlan(WAITING, hold)) as drain:
            emit_traces(good, 0, 100)
            drain.until(lambda: good.stats().pending == 0)
            for turn in range(8):  # 30 MB of records
                emit_traces(flood, 10_000 + turn * 30_000, 10_000)
                drain.until(lambda: flood.stats().pending == 0)
                emit_traces(good, 300 + turn * 30, 10)
                drain.until(lambda: good.stats().pending == 0)
            (path,) = ring_dir.glob("good-*.ring")
            assert hold.waiting_bytes(key_of(path)) == (300 + 8 * 30) * LAYOUT.slot_bytes, "decided early"
            sums = hold.sums()
            assert {one.unaccounted for one in sums.values()} == {0}
            assert (sums["good"].held, sums["good"].waiting) == (540, 540)
            assert sums["flood"].held == 240_000
            assert sums["flood"].waiting < 200_000, "nothing was short"
            assert good.stats().full == flood.stats().full == 0
        assert min(backend.numbers) >= 10_000


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    return tmp_path / "rules.toml"


def text_of(version: int) -> str:
    """Return rules that keep all in one of two ways: which it was is in each span."""
    begin = '[sampling]\nwait = "30ms"\nwait_after_root = "10ms"\n'
    return (
        begin
        + f'[[sampling.rule]]\nname = "rule-{version}"\ntrace_spans_at_least = {version + 5}\n[[sampling.rule]]\n'
        + (f'name = "all-{version}"\nspan = "*"\n')
    )


@pytest.mark.prove
def test_hundreds_of_reloads_a_second_tear_no_trace_and_lose_none(ring_dir: Path, tmp_path: Path, rules: Path) -> None:
    output, log = tmp_path / "spans.jsonl", tmp_path / "log"
    rules.write_text(text_of(0))
    versions = [rules.with_suffix(f".{number}") for number in range(3)]
    for number, path in enumerate(versions):
        path.write_text("no rules" if number == 2 else text_of(number))
    arguments = ("--exporter", "file", "--output", output, "--batch-delay", "0.01", "--sampling", rules)
    with emitter(ring_dir, "shop") as shop, DrainProcess(log, ring_dir, *arguments) as drain:
        drain.wait_for_event("serving")
        traces = 0
        for reload in range(500):
            shutil.copyfile(versions[reload % 3], rules.with_suffix(".new"))
            rules.with_suffix(".new").rename(rules)
            drain.signal(signal.SIGHUP)
            if reload % 5 == 0:
                emit_traces(shop, traces * SPANS, 10)
                traces += 10
            time.sleep(0.001)
        until(lambda: shop.stats().pending == 0)
        # Signals that come while it is held up are one.
        until(lambda: len(drain.events("reloaded")) > 10, lambda: drain.signal(signal.SIGHUP))
        assert drain.stop() == 0
    assert run_once(log, ring_dir, "--exporter", "file", "--output", output, "--sampling", versions[0]) == 0
    spans = spans_in_file(output)
    assert sorted(map(number_of, spans)) == list(range(traces * SPANS))
    names: dict[bytes, set[str]] = {}
    for span in spans:
        said = {one.value.string_value for one in span.attributes if one.key == "ringbuf.sampling.rule"}
        names.setdefault(span.trace_id, set()).update(said)
    torn = {trace.hex(): said for trace, said in names.items() if len(said) != 1}
    assert not torn, "rules of two files decided on one trace"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a ring directory on a tmpfs of 32 MB."""
    folder = tmp_path / "small"
    folder.mkdir(mode=0o700)
    mount, umount = shutil.which("mount"), shutil.which("umount")
    options = ["-t", "tmpfs", "-o", "mode=700,size=32m", "none", str(folder)]
    if os.geteuid() or not mount or not umount or subprocess.run([mount, *options], check=False).returncode:
        pytest.skip("SKIPPED: no tmpfs can be mounted here: that takes root")
    try:
        yield folder
    finally:
        subprocess.run([umount, "-l", folder], check=True)


@pytest.mark.prove
def test_a_full_tmpfs_is_pressure_and_no_span_is_dropped(small_disk: Path, tmp_path: Path) -> None:
    output, log = tmp_path / "spans.jsonl", tmp_path / "log"
    rules = tmp_path / "rules.toml"
    rules.write_text('[sampling]\nwait = "1h"\nwait_after_root = "1h"\ndefault = "keep"\n' + FAILURES)
    arguments = ("--exporter", "file", "--output", output, "--sampling", rules, "--hold-bytes", "32MiB")
    with emitter(small_disk, "shop") as shop:
        with DrainProcess(log, small_disk, *arguments) as drain:
            emit_traces(shop, 0, 10)
            until(lambda: shop.stats().pending == 0)
            with (small_disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:  # until nothing is left
                    file.write(bytes(65536))
            emit_traces(shop, 30, 15_000)  # more than the one chunk takes that is there
            drain.wait_for_event("the hold cannot grow")
            until(lambda: shop.stats().pending == 0)
            assert drain.stop() == 0
        assert shop.stats().full == 0
    assert drain.events("audit")[-1]["adds_up"]
    assert run_once(log, small_disk, "--exporter", "file", "--output", output) == 0  # without rules: all that waits
    assert Counter(map(number_of, spans_in_file(output))) == Counter(range(45_030))


@pytest.mark.prove
def test_a_hold_that_is_taken_away_is_made_anew_and_the_drain_goes_on(ring_dir: Path, tmp_path: Path) -> None:
    output, log = tmp_path / "spans.jsonl", tmp_path / "log"
    rules = tmp_path / "rules.toml"
    rules.write_text('[sampling]\nwait = "1h"\nwait_after_root = "1h"\n' + FAILURES)
    arguments = ("--exporter", "file", "--output", output, "--sampling", rules)
    with emitter(ring_dir, "shop") as shop, DrainProcess(log, ring_dir, *arguments) as drain:
        emit_traces(shop, 0, 100)
        until(lambda: shop.stats().pending == 0)
        shutil.rmtree(ring_dir / "hold")
        until(lambda: list((ring_dir / "hold").glob("chunk-*")))
        emit_traces(shop, 300, 100)
        until(lambda: shop.stats().pending == 0)
        assert drain.stop() == 0
        audit = drain.events("audit")[-1]
    assert audit["hold"]["shop"]["held"] == audit["hold"]["shop"]["waiting"] == 600
    assert run_once(log, ring_dir, "--exporter", "file", "--output", output) == 0
    assert Counter(map(number_of, spans_in_file(output))) == Counter(range(600))


@pytest.mark.prove
def test_a_hold_that_is_cut_loses_what_was_in_it_and_says_how_much(ring_dir: Path, tmp_path: Path) -> None:
    output, log = tmp_path / "spans.jsonl", tmp_path / "log"
    rules = tmp_path / "rules.toml"
    rules.write_text('[sampling]\nwait = "1h"\nwait_after_root = "1h"\n' + FAILURES)
    arguments = ("--exporter", "file", "--output", output, "--sampling", rules)
    with emitter(ring_dir, "shop") as shop, DrainProcess(log, ring_dir, *arguments) as drain:
        emit_traces(shop, 0, 100)
        until(lambda: shop.stats().pending == 0)
        (chunk,) = (ring_dir / "hold").glob("chunk-*")
        os.truncate(chunk, 4096)
        drain.wait_for_event("a file of the hold was cut: what is asked for of it is lost")
        emit_traces(shop, 300, 100)
        until(lambda: shop.stats().pending == 0)
        assert drain.stop() == 0
        assert drain.events("audit")[-1]["adds_up"]
    last = tmp_path / "last.log"
    with DrainProcess(last, ring_dir, "--once", "--exporter", "file", "--output", output) as drain:
        drain.wait()
        audit = drain.events("audit")[-1]
    assert audit["adds_up"]
    assert audit["hold"]["shop"] == {"taken_up": 600, "held": 0, "delivered": 300, "lost": 300}
    assert Counter(map(number_of, spans_in_file(output))) == Counter(range(300, 600))
