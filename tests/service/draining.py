"""Drains under a test's control: a process, or a `Service` whose rounds the test makes one by one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import structlog
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from drain.delivery.retry import RetryPolicy
from drain.exporters.protocol import Result, Verdict
from drain.otlp.json_lines import from_json_line
from drain.rings.admission import Admission
from drain.rings.directory import RingDirectory
from drain.service.limits import Limits
from drain.service.service import Service
from ringbuf._ringbuf import lib
from ringbuf.layout.layout import Attribute, SpanLayout
from tests import waiting
from tests.fakes import keeps_faults, raise_fault
from tests.nursery import can_fork_here, shared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    import ringbuf
    from drain.accounting.sums import Sums
    from drain.delivery.stores import Stores
    from drain.otlp.request import Encoding, Request
    from drain.service.sampling_plan import SamplingPlan
    from drain.telemetry.telemetry import Telemetry
    from tests.nursery import Child

SECONDS = waiting.SECONDS
until = waiting.until
LAYOUT = SpanLayout(span_names=["work"], attributes=[Attribute("number", "u64")], scope_name="test")
ANY_RING = Admission(frozenset(), frozenset(), 1 << 30)
SMALL = Limits(batch_spans=8192, batch_bytes=4_000_000, batch_delay=0.0, concurrency=2, shutdown_timeout=SECONDS)


def records(emitter: ringbuf.Emitter, numbers: Iterable[int]) -> np.ndarray[Any, Any]:
    """Return one record for each number, which is its attribute and its start."""
    values = list(numbers)
    made = np.zeros(len(values), LAYOUT.dtype)
    made["number"] = values
    made["present"] = 1
    made["start_unix_nano"] = values
    made["kind"] = 1
    made["flags"] = 0x101
    emitter.fill_ids(made)
    return made


def emit(emitter: ringbuf.Emitter, numbers: Iterable[int]) -> int:
    """Emit one span for each number; return how many were written."""
    return emitter.emit_batch(records(emitter, numbers))


def spans_of(traces: TracesData) -> list[Span]:
    return [
        span
        for resource_spans in traces.resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]


def number_of(span: Span) -> int:
    return next(attribute.value.int_value for attribute in span.attributes if attribute.key == "number")


def spans_in_file(path: Path) -> list[Span]:
    """Return the spans of a file of OTLP JSON lines, each of which must be whole."""
    return [span for line in path.read_bytes().splitlines() for span in spans_of(from_json_line(line))]


def spans_so_far(path: Path) -> list[Span]:
    """Return the spans of a file that is being written, whose last line may not be whole yet, if it is there."""
    whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
    return [span for line in whole.splitlines() for span in spans_of(from_json_line(line))]


def numbers_in_file(path: Path) -> list[int]:
    return [number_of(span) for span in spans_in_file(path)]


class MemoryBackend:
    """Keeps what it gets; requests for which `holds` says so wait until `let_go`.

    A check in `answer` fails the test, also in a thread of the delivery.
    """

    encoding: Encoding = "protobuf"
    endpoint = "memory"

    def __init__(self, *verdicts: Verdict | Result) -> None:
        self.requests: list[Request] = []
        self.verdicts = list(verdicts)
        self.holds: Callable[[Request], bool] = lambda _request: False
        self.waiting = 0
        self._gate = threading.Event()
        self._lock = threading.Lock()

    @keeps_faults
    def export(self, request: Request) -> Result:
        return self.answer(request)

    def answer(self, request: Request) -> Result:
        if self.holds(request):
            with self._lock:
                self.waiting += 1
            assert self._gate.wait(2 * SECONDS), "nobody let it go"  # longer than what waits for the effects of this
        with self._lock:
            self.requests.append(request)
            verdict = self.verdicts.pop(0) if self.verdicts else Verdict.DELIVERED
        return verdict if isinstance(verdict, Result) else Result(verdict)

    def let_go(self) -> None:
        self._gate.set()

    def close(self) -> None:
        pass

    @property
    def numbers(self) -> list[int]:
        return [number_of(span) for r in self.requests for span in spans_of(TracesData.FromString(r.body))]


class SteppedDrain:
    """A `Service` in this process; `step` makes one round, and does not wait for anything."""

    def __init__(
        self,
        ring_dir: Path,
        backend: MemoryBackend,
        limits: Limits = SMALL,
        admission: Admission = ANY_RING,
        stores: Stores | None = None,
        telemetry: Telemetry | None = None,
        sampling: SamplingPlan | None = None,
    ) -> None:
        assert lib.rb_guard_install() == lib.RB_OK
        self.backend = backend
        self.service = Service(
            RingDirectory(ring_dir),
            admission,
            backend,
            RetryPolicy(initial=0.001, maximum=0.001),
            limits,
            log=structlog.get_logger(),
            stores=stores,
            audit_to=sys.stderr,
            observer=telemetry,
            sampling=sampling,
        )
        self.is_closed = False

    def step(self) -> bool:
        """Make a round; return whether there was anything to do."""
        raise_fault()
        self.service._reader._next_liveness = 0.0  # a round looks at everything, whatever the clock says
        self.service._upkeep._next_look = 0.0
        self.service._upkeep.directory._seen_mtime_nano = None
        worked = self.service._round()
        time.sleep(0.0005)  # lets the delivery's threads run
        return worked

    def until(self, condition: Callable[[], object]) -> None:
        """Make rounds until the condition holds."""
        until(condition, self._step_or_pause)

    def _step_or_pause(self) -> None:
        if not self.step():
            time.sleep(0.005)  # what is waited for has the processor

    def sums(self, service: str = "shop") -> Sums:
        return self.service.accounts.sums()[service]

    def close(self) -> None:
        """Stop without finishing, but in good order."""
        if not self.is_closed:
            self.is_closed = True
            self.backend.let_go()
            self.service._shutdown.threads_ended = self.service._delivery.stop(SECONDS)
            self.service._settle()
            self.service._shutdown._close_spool(SECONDS)  # the next drain of the test may have the same
            self.service.close()
            raise_fault()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class DrainProcess:
    """`python -m drain` with its log in a file; its end is in no hurry, unless the arguments say so.

    Args:
        log: what it says on standard error is added to it; other drains may have written to it.
        ring_dir: whose rings are drained.
        arguments: further ones of the command.
        is_forked: whether it may come from the zygote, which takes a twentieth of the processor time of a start;
            without this it is started as by a user.
        before: code that its process runs before the command.
    """

    def __init__(
        self,
        log: Path,
        ring_dir: Path,
        *arguments: object,
        is_forked: bool = True,
        before: str = "",
    ) -> None:
        self.log = log
        self.process: subprocess.Popen[bytes] | Child
        said = log.read_bytes() if log.exists() else b""
        with log.open("ab") as stderr:
            if said and not said.endswith(b"\n"):
                stderr.write(b"\n")
                stderr.flush()
            self._begins_at = stderr.tell()
            code = f"{before}\nfrom drain.__main__ import main\nmain()"
            flags = ["--ring-dir", str(ring_dir), *map(str, arguments)]
            if "--shutdown-timeout" not in flags:
                flags = ["--shutdown-timeout", str(SECONDS / 2), *flags]  # one that does not get on still says so
            if is_forked and can_fork_here():
                role = ("-c", code) if before else ("drain",)
                self.process = shared().popen(*role, *flags, log=log)
            else:
                start = ["-Ic", code] if before else ["-Im", "drain"]
                self.process = subprocess.Popen(
                    [sys.executable, *start, *flags],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                )

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log's lines of this name, of all drains that wrote to it; a kill may have cut the last of one.

        And the last of all may be being written.
        """
        return self._events(name, 0)

    def _events(self, name: str, begin: int) -> list[dict[str, Any]]:
        whole = self.log.read_bytes()[begin:].rpartition(b"\n")[0]
        lines = [line for line in whole.splitlines() if line.startswith(b"{") and line.endswith(b"}")]
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def wait_for_event(self, name: str, count: int = 1) -> dict[str, Any]:
        """Return the line of this name and number, of those that this drain wrote itself."""

        def are_there() -> bool:
            return len(self._events(name, self._begins_at)) >= count

        until(lambda: are_there() or self.process.poll() is not None)
        assert are_there(), f"drain ended with {self.process.poll()}: {self.log.read_text()}"
        return self._events(name, self._begins_at)[count - 1]

    def audit(self) -> dict[str, dict[str, int]]:
        """Return the services of the last audit, in which the law must hold."""
        event = self.events("audit")[-1]
        assert event["adds_up"], event
        services: dict[str, dict[str, int]] = event["services"]
        return services

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Return the exit code."""
        self.process.communicate(timeout=SECONDS)
        return self.process.wait(SECONDS)

    def stop(self) -> int:
        """Ask the drain to stop and return its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self.wait() == -signal.SIGKILL

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=SECONDS)


def port_of(serving: dict[str, Any]) -> int:
    """Return the port of /metrics that the line `serving` names."""
    return int(serving["listen"].rpartition(":")[2])


def ring_files(ring_dir: Path) -> list[Path]:
    return sorted(ring_dir.glob("*.ring"))


def quarantined(ring_dir: Path) -> dict[str, dict[str, Any]]:
    """Return the reasons in the quarantine by the name that the ring had."""
    reasons = [json.loads(path.read_text()) for path in (ring_dir / "quarantine").glob("*.reason")]
    return {reason["ring"]: reason for reason in reasons}


def run_once(log: Path, ring_dir: Path, *arguments: object, is_forked: bool = True) -> int:
    """Run `--once` and return its exit code."""
    with DrainProcess(log, ring_dir, "--once", *arguments, is_forked=is_forked) as drain:
        return drain.wait()


class ProducerProcess:
    """`producer.py` beside this file."""

    def __init__(self, ring_dir: Path, count: int, service: str = "shop") -> None:
        script = Path(__file__).with_name("producer.py")
        self.process: subprocess.Popen[str] | Child
        if can_fork_here():
            log = Path(os.devnull)
            self.process = shared().popen(script, ring_dir, service, count, log=log, has_input=True, text=True)
        else:
            self.process = subprocess.Popen(
                [sys.executable, "-I", str(script), str(ring_dir), service, str(count)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        self.expect(f"emitted {count}")

    def expect(self, line: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == line

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=SECONDS)
