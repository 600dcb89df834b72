"""The time of day is set while producer and drain run: nothing is lost, expired or repeated, and nobody waits for it.

Nobody may set the machine's clock for a test. A small library that is loaded before libc's moves it for the processes
under test, by what a file says at the moment.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from tests.python import command
from tests.service.draining import SECONDS, DrainProcess, ring_files, until
from tests.service.otlp_server import OtlpHttpServer, reply

YEAR = 365 * 86_400
REFUSED = 3  # requests
PRODUCER = """
import sys, time
import ringbuf
from tests.service.draining import LAYOUT

with ringbuf.Emitter("shop", ring_dir=sys.argv[1], layout=LAYOUT, capacity=64) as emitter:
    work = emitter.site("work", varying=["number"])
    number = 0
    for line in sys.stdin:
        with work.span() as span:
            span["number"] = number
            print(time.time_ns(), flush=True)  # which says that the span has begun
            sys.stdin.readline()
        number += 1
        print(number, flush=True)
"""


class Clock:
    """The step, as a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(8))

    def set(self, seconds: int) -> None:
        with self.path.open("r+b") as file:  # it is mapped
            file.write(struct.pack("<q", seconds))


@pytest.fixture
def clock(c_compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    shim = tmp_path / "clock_shim.so"
    source = Path(__file__).with_name("clock_shim.c")
    subprocess.run([c_compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", source, "-o", shim, "-ldl"], check=True)
    made = Clock(tmp_path / "step")
    monkeypatch.setenv("LD_PRELOAD", str(shim))
    monkeypatch.setenv("CLOCK_STEP", str(made.path))
    return made


@pytest.mark.parametrize("step", [YEAR, -YEAR], ids=["forward", "back"])
def test_spans_before_amid_and_after_a_step_arrive_once(
    step: int, clock: Clock, ring_dir: Path, tmp_path: Path
) -> None:
    with OtlpHttpServer() as server:
        server.play(*[reply(503)] * REFUSED)
        producer = subprocess.Popen(
            command(PRODUCER, ring_dir), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert producer.stdin is not None
        assert producer.stdout is not None

        def say() -> int:
            assert producer.stdin is not None
            assert producer.stdout is not None
            producer.stdin.write("\n")
            producer.stdin.flush()
            return int(producer.stdout.readline())

        flags = ("--exporter", "otlp-http", "--endpoint", server.url, "--state-dir", tmp_path / "state")
        waits = ("--spool-after", 0, "--retry-initial", 1, "--retry-maximum", 1, "--retry-elapsed", 3600)
        with DrainProcess(tmp_path / "log", ring_dir, *flags, *waits) as drain:
            say()
            assert say() == 1  # published; the backend is away, so that it is spooled
            drain.wait_for_event("backend is unavailable, spans wait")
            before = say()
            clock.set(step)
            assert say() == 2
            after = say()
            assert abs(after - before - step * 10**9) < 600 * 10**9  # the shim works
            assert say() == 3
            until(lambda: len({span.span_id for request in server.requests[REFUSED:] for span in request.spans}) == 3)
            producer.communicate(timeout=SECONDS)
            until(lambda: not ring_files(ring_dir))
            assert drain.stop() == 0
            sums = drain.audit()["shop"]
            spooled = drain.events("audit")[-1]["spool"]["shop"]
        delivered = {span.attributes[0].value.int_value: span for request in server.requests for span in request.spans}
    assert sorted(delivered) == [0, 1, 2]
    amid = delivered[1]  # durations come from a clock that nobody sets
    assert 0 < amid.end_time_unix_nano - amid.start_time_unix_nano < 600 * 10**9
    assert abs(delivered[2].start_time_unix_nano - delivered[0].start_time_unix_nano - step * 10**9) < 600 * 10**9
    assert (sums["published"], spooled["spooled"]) == (3, 3)
    assert spooled["delivered"] == 3, "none expired, none was given up"
