from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.consumer import rings_in
from tests.service.draining import (
    DrainProcess,
    MemoryBackend,
    ProducerProcess,
    SteppedDrain,
    number_of,
    spans_in_file,
    until,
)
from tests.tools.running import Running, invoke, run

READERS = (
    ("list",),
    ("list", "--json"),
    ("stat", "shop"),
    ("tail", "--no-follow", "-n", "100"),
    ("top", "--once", "--interval", "0.1"),
    ("dump", "--format", "csv"),
)


def state_of(path: Path) -> tuple[Any, ...]:
    status = path.stat()
    return hashlib.sha256(path.read_bytes()).digest(), status.st_mtime_ns, status.st_ctime_ns, status.st_blocks


def test_no_byte_of_a_ring_or_its_directory_changes(ring_dir: Path) -> None:
    backend = MemoryBackend()
    with ProducerProcess(ring_dir, 50) as producer, SteppedDrain(ring_dir, backend) as drain:
        drain.until(lambda: len(backend.numbers) == 50 and drain.sums().pending == 0)
        producer.tell("emit 50 80")
        producer.expect("emitted 30")
        (path,) = rings_in(ring_dir)
        before, names = state_of(path), sorted(ring_dir.iterdir())
        folder = ring_dir.stat().st_mtime_ns
        for arguments in READERS:
            result = invoke(arguments[0], "--ring-dir", ring_dir, *arguments[1:])
            assert result.exit_code == 0, result.output
            assert state_of(path) == before, arguments
        assert (sorted(ring_dir.iterdir()), ring_dir.stat().st_mtime_ns) == (names, folder)
        drain.until(lambda: len(backend.numbers) == 80)
        assert sorted(backend.numbers) == list(range(80))


def test_an_observer_that_hangs_holds_nobody_up(ring_dir: Path) -> None:
    # It has the file open and mapped; yet the producer's end is seen, and the ring drained and removed.
    backend = MemoryBackend()
    with Running("tail", "--ring-dir", ring_dir) as tail:
        with ProducerProcess(ring_dir, 5) as producer:
            tail.read_until(5)
            tail.process.send_signal(signal.SIGSTOP)
            producer.kill()
        with SteppedDrain(ring_dir, backend) as drain:
            drain.until(lambda: not rings_in(ring_dir))
        assert sorted(backend.numbers) == list(range(5))
        tail.process.send_signal(signal.SIGCONT)
        assert tail.interrupt()[0] == 130


def test_beside_readers_the_drain_delivers_everything_once(ring_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "spans.jsonl"
    total, step = 10_000, 500
    with (
        DrainProcess(tmp_path / "log", ring_dir, "--exporter", "file", "--output", output) as drain,
        ProducerProcess(ring_dir, 0) as producer,
        Running("tail", "--ring-dir", ring_dir, "--json") as tail,
    ):
        drain.wait_for_event("ring attached")
        (ring,) = rings_in(ring_dir)
        maps = Path(f"/proc/{tail.process.pid}/maps")
        until(lambda: str(ring) in maps.read_text())
        # What nobody reads would fill the pipes: the readers are to look, not to wait.
        with (
            (tmp_path / "seen").open("wb") as seen_file,
            Running("top", "--ring-dir", ring_dir, "--json", "--interval", "0.2") as top,
            subprocess.Popen(["/bin/cat"], stdin=tail.process.stdout, stdout=seen_file) as sink,
            contextlib.ExitStack() as at_the_end,
        ):
            at_the_end.callback(sink.kill)  # a failure would wait for it, and it for the tail, which ends after it
            tail.close_output()  # else its end would be read here, past a sink that is held up
            for first in range(0, total, step):
                producer.tell(f"emit {first} {first + step}")
                producer.expect(f"emitted {step}")
                if first % 2500 == 0:
                    done = run("dump", "--ring-dir", ring_dir, "-o", tmp_path / "dumped")
                    assert done.returncode == 0, done.stderr
            producer.tell("close")
            producer.expect("closed")
            until(lambda: not rings_in(ring_dir))
            until(lambda: str(ring) not in maps.read_text())  # the tail has come to its end
            pictures = [json.loads(line) for line in top.read_until(2)]
            assert top.interrupt() == (130, "")
            code, errors = tail.interrupt()
            assert sink.wait(timeout=120) == 0
        assert code == 130
        assert "Traceback" not in errors
        assert all(picture["drain_pid"] == drain.process.pid for picture in pictures)
        assert drain.stop() == 0
        assert drain.audit()["shop"]["delivered"] == total
    assert sorted(number_of(span) for span in spans_in_file(output)) == list(range(total))
    seen = [json.loads(line)["attributes"]["number"] for line in (tmp_path / "seen").read_text().splitlines()]
    assert len(seen) == len(set(seen))  # what is seen is seen once
    missed = [int(line.split()[2].replace(",", "")) for line in errors.splitlines() if "missed" in line]
    assert len(seen) + (missed[-1] if missed else 0) == total
