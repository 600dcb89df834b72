"""The time of day is set while producer and drain run: nothing is lost, expired or repeated, and nobody waits for it.

Nobody may set the machine's clock for a test. A small library that is loaded before libc's moves it for the processes
under test, by what a file says at the moment.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from typing import Self

import pytest

from tests.otlp_server import OtlpHttpServer, reply
from tests.python import command
from tests.sampled import every
from tests.service.draining import SECONDS, DrainProcess, ring_files, until

YEAR = 365 * 86_400
REFUSED = 2  # requests
CODE = """
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


class Producer:
    """A process that begins a span, then ends it, and so on."""

    def __init__(self, ring_dir: Path) -> None:
        self.process = subprocess.Popen(
            command(CODE, ring_dir), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def go_on(self) -> int:
        """Return its time in nanoseconds when it has begun a span, the number of spans when it has ended one."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> None:
        self.process.communicate(timeout=SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.end()


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


@pytest.mark.parametrize("step", every(2, [-YEAR, YEAR], lambda step: "back" if step < 0 else "forward"))
def test_spans_before_amid_and_after_a_step_arrive_once(
    step: int, clock: Clock, ring_dir: Path, tmp_path: Path
) -> None:
    with OtlpHttpServer() as server:
        server.play(*[reply(503)] * REFUSED)
        flags = ("--exporter", "otlp-http", "--endpoint", server.url, "--state-dir", tmp_path / "state")
        waits = ("--spool-after", 0, "--retry-initial", 1, "--retry-maximum", 1, "--retry-elapsed", 3600)
        with DrainProcess(tmp_path / "log", ring_dir, *flags, *waits) as drain, Producer(ring_dir) as producer:
            producer.go_on()
            assert producer.go_on() == 1  # published; the backend is away, so that it is spooled
            drain.wait_for_event("backend did not take a batch, it is sent again")
            before = producer.go_on()
            clock.set(step)
            assert producer.go_on() == 2
            after = producer.go_on()
            assert abs(after - before - step * 10**9) < 600 * 10**9  # the shim works
            assert producer.go_on() == 3
            until(lambda: len({span.span_id for request in server.requests[REFUSED:] for span in request.spans}) == 3)
            producer.end()
            until(lambda: not ring_files(ring_dir))
            assert drain.stop() == 0
            sums = drain.audit()["shop"]
            spooled = drain.events("audit")[-1]["spool"]["shop"]
        delivered = {span.attributes[0].value.int_value: span for request in server.requests for span in request.spans}
    assert sorted(delivered) == [0, 1, 2]
    amid = delivered[1]  # durations come from a clock that nobody sets
    assert 0 < amid.end_time_unix_nano - amid.start_time_unix_nano < 600 * 10**9
    assert abs(delivered[2].start_time_unix_nano - delivered[0].start_time_unix_nano - step * 10**9) < 600 * 10**9
    assert sums["published"] == 3
    assert spooled["delivered"] == spooled["spooled"] > 0, "none expired, none was given up"
