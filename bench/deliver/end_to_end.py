"""From a Python producer to a receiver in another process: the highest rate at which nothing is lost.

A trial emits evenly at a rate for some seconds. It holds when no span was dropped, the receiver decodes every span id
once, and the last span was accepted soon after it was emitted, so that no queue has hidden a lag. The rate is raised
until a trial does not hold, then narrowed down; then both run at their highest rates in turns. The figure of a trial is
spans over the time from the first emit until the last was accepted.
"""

from __future__ import annotations

import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from bench.measure import Figure, clean_environment
from bench.results import Result

if TYPE_CHECKING:
    from collections.abc import Iterator

_LAG_SHARE: Final = 0.1
_LAG_SECONDS: Final = 0.3  # a last batch's delay and its journey
_TIMEOUT_SECONDS: Final = 300.0
_SPAN_ID: Final = re.compile(rb'"spanId":"([0-9a-f]{16})"')
_STEPS: Final = 4
_RETREAT: Final = 0.93
_LIGHT_RATE: Final = 1000.0
_LIGHT_DELAY: Final = 0.05
_FIRST_RATE: Final = {"ring": 250_000.0, "sdk": 4_000.0}


@dataclass(frozen=True, slots=True)
class Trial:
    """What one trial found.

    Attributes:
        rate: spans per second, over the whole time.
        holds: nothing was lost, and nothing lagged behind.
        why: the reason when it does not hold.
        processor_micros: the producer's processor time per span, µs, with the start of its process.
        bytes_per_span: on the wire.
        age_p99: 99 of 100 spans were younger when the receiver had them, ms.
        waiting: spans in the ring, the mean over the first half of the trial and over the second.
    """

    rate: float
    holds: bool
    why: str
    processor_micros: float
    bytes_per_span: float
    age_p99: float
    waiting: tuple[float, float] = (0.0, 0.0)


class Sink:
    """The receiver's process.

    Args:
        protocol: "http" or "grpc".
        keeps: whether it keeps what comes, to `count` it.
    """

    def __init__(self, protocol: str, *, keeps: bool = True) -> None:
        command = [sys.executable, "-m", "bench.deliver.sink", protocol, "keep" if keeps else "forget"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.endpoint = self._line()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.communicate(timeout=_TIMEOUT_SECONDS)

    def count(self) -> dict[str, float]:
        """Return what came since the last look, decoded."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        counts: dict[str, float] = json.loads(self._line())
        return counts

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


class LinesSink:
    """A file of OTLP JSON lines that a drain appends to.

    Args:
        path: of the file; each count takes it away, and the drain begins another.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def count(self) -> dict[str, float]:
        """Return what came since the last look: spans, distinct span ids, bytes."""
        taken = self.path.rename(self.path.with_suffix(".taken"))
        spans = 0
        ids: set[bytes] = set()
        with taken.open("rb") as lines:
            for line in lines:
                found = _SPAN_ID.findall(line)
                spans += len(found)
                ids.update(found)
        size = taken.stat().st_size
        taken.unlink()
        return {"spans": spans, "ids": len(ids), "bytes": size, "p99": 0.0}


@contextmanager
def drain(ring_dir: str, exporter: str, *settings: str) -> Iterator[int]:
    """Run a drain beside the block, with its default settings but for those given; yield its pid."""
    environment = {**clean_environment(), "RINGBUF_DRAIN_LISTEN": "off"}
    options = ["--ring-dir", ring_dir, "--exporter", exporter, "--log-level", "warning", *settings]
    process = subprocess.Popen([sys.executable, "-m", "drain", *options], stdout=subprocess.DEVNULL, env=environment)
    try:
        end = time.monotonic() + _TIMEOUT_SECONDS
        while not (Path(ring_dir) / "doorbell").exists():
            if process.poll() is not None or time.monotonic() >= end:
                raise RuntimeError("the drain does not start")
            time.sleep(0.01)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_TIMEOUT_SECONDS)


def trial(how: str, where: str, sink: Sink | LinesSink, rate: float, seconds: float, *, delay: float = 5.0) -> Trial:
    """Run one trial.

    Args:
        how: "ring", "sdk-http" or "sdk-grpc".
        where: the ring directory, or the endpoint.
        sink: the receiver.
        rate: spans per second.
        seconds: for so long.
        delay: seconds that the SDK lets a batch wait that is not full; 5 is its default, and serves it best when the
            rate is high. The drain has its own setting.
    """
    command = [sys.executable, "-m", "bench.deliver.sender", how, where, str(rate), str(seconds), str(delay)]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=True, env=clean_environment()
    )
    sent: dict[str, Any] = json.loads(result.stdout)
    came = sink.count()
    lag = sent["seconds"] - seconds
    why = ""
    if sent["lost"] or came["spans"] != sent["spans"] or came["ids"] != sent["spans"]:
        why = (
            f"{sent['spans']:,} emitted, {sent['lost']:,} dropped, {came['spans']:,} arrived, {came['ids']:,} distinct"
        )
    elif lag > _LAG_SHARE * seconds + _LAG_SECONDS:
        why = f"{lag:.1f} s behind after {seconds:g} s"
    return Trial(
        rate=sent["spans"] / sent["seconds"],
        holds=not why,
        why=why,
        processor_micros=1e6 * sent["processor_seconds"] / sent["spans"],
        bytes_per_span=came["bytes"] / max(1, came["spans"]),
        age_p99=came["p99"],
        waiting=halves(sent.get("waiting", [])),
    )


def halves(waiting: list[int]) -> tuple[float, float]:
    """Return the mean of the first and of the second half of what was seen to wait; zeros when nothing was seen."""
    middle = len(waiting) // 2
    if middle == 0:
        return 0.0, 0.0
    return statistics.fmean(waiting[:middle]), statistics.fmean(waiting[middle:])


def highest_rate(how: str, where: str, sink: Sink | LinesSink, seconds: float) -> float:
    """Return the highest rate found at which a trial holds."""
    rate = good = _FIRST_RATE[how.partition("-")[0]]
    bad = None
    for _ in range(2 * _STEPS + 8):
        found = trial(how, where, sink, rate, seconds)
        _progress(f"  {how} {rate:,.0f}/s: {'holds' if found.holds else found.why}")
        if found.holds:
            good = rate
        else:
            bad = rate
        if bad is None:
            rate *= 2
        elif good >= bad:  # not even the first one held
            rate = good = bad / 2
            bad = rate * 2
        elif bad / good < 1.06:
            break
        else:
            rate = (good * bad) ** 0.5
    return good


@dataclass(slots=True)
class Held:
    """The trials of one sender, and the rate at which they all held.

    Attributes:
        rate: spans per second that were asked for.
        trials: those that held.
        retreats: how often the rate was lowered because one did not.
    """

    rate: float
    trials: list[Trial]
    retreats: int = 0

    @property
    def figure(self) -> Figure:
        """Spans per second."""
        return Figure.of(each.rate for each in self.trials)

    def details(self) -> dict[str, Any]:
        """Return the other figures."""
        return {
            "rate": self.rate,
            "retreats": self.retreats,
            "producer_processor_micros": Figure.of(each.processor_micros for each in self.trials),
            "bytes_per_span": self.trials[0].bytes_per_span,
        }


def in_turns(senders: dict[str, tuple[str, str, Sink | LinesSink]], rounds: int, seconds: float) -> dict[str, Held]:
    """Find the highest rate of each sender, then let all run at theirs in turns until each has held in every round.

    Args:
        senders: by name what `trial` takes: how, where, and the receiver.
        rounds: how many trials of each are to hold.
        seconds: of a trial.
    """
    held = {name: Held(highest_rate(*sender, seconds), []) for name, sender in senders.items()}
    while any(len(each.trials) < rounds for each in held.values()):
        for name, sender in senders.items():
            each = held[name]
            if len(each.trials) == rounds:
                continue
            found = trial(*sender, each.rate, seconds)
            _progress(f"  {name} {each.rate:,.0f}/s: {'holds' if found.holds else found.why}")
            if found.holds:
                each.trials.append(found)
            else:  # the search was lucky there: all rounds are made again, a little slower
                each.rate *= _RETREAT
                each.retreats += 1
                each.trials.clear()
    return held


def measure(protocol: str, rounds: int, seconds: float) -> list[Result]:
    """Measure one protocol, ours and the SDK's, in turns; and whether what waits in our ring grows meanwhile."""
    with ExitStack() as cleanup:
        directory = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-bench-", dir="/dev/shm"))
        sink = cleanup.enter_context(Sink(protocol))
        cleanup.enter_context(drain(directory, f"otlp-{protocol}", "--endpoint", sink.endpoint))
        found = in_turns(
            {"ring": ("ring", directory, sink), f"sdk-{protocol}": (f"sdk-{protocol}", sink.endpoint, sink)},
            rounds,
            seconds,
        )
    ours, peer = (each.figure for each in found.values())
    first, second = (Figure.of(max(1.0, each.waiting[half]) for each in found["ring"].trials) for half in (0, 1))
    return [
        Result(
            group=f"end-to-end-{protocol}",
            title=f"site.emit to OTLP/{protocol} receiver, nothing lost",
            peer_title=f"SDK, BatchSpanProcessor, OTLP/{protocol}",
            unit="spans/s",
            aim=">= 100" if protocol == "http" else ">= 80",
            ours=ours,
            peer=peer,
            ratio=ours.over(peer),
            details={name: each.details() for name, each in found.items()},
        ),
        Result(
            group=f"end-to-end-{protocol}",
            title=f"at that rate over {protocol}, spans that wait in the ring, second half of the trial",
            peer_title="first half",
            unit="spans",
            aim="no growth: about 1",
            ours=second,
            peer=first,
            ratio=second.over(first),
        ),
    ]


def measure_file(rounds: int, seconds: float) -> list[Result]:
    """Measure the way to OTLP JSON lines: on tmpfs, on the disk of the present folder, and the SDK over gRPC beside."""
    with ExitStack() as cleanup:
        receiver = cleanup.enter_context(Sink("grpc"))
        senders: dict[str, tuple[str, str, Sink | LinesSink]] = {}
        for name in ("tmpfs", "disk"):
            directory = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-bench-", dir="/dev/shm"))
            folder = directory if name == "tmpfs" else Path.cwd()
            output = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-bench-", dir=folder)))
            lines = LinesSink(output / "spans.jsonl")
            cleanup.enter_context(drain(directory, "file", "--output", str(lines.path)))
            senders[name] = ("ring", directory, lines)
        senders["sdk"] = ("sdk-grpc", receiver.endpoint, receiver)
        found = in_turns(senders, rounds, seconds)
    tmpfs, disk, sdk = (each.figure for each in found.values())
    title = "site.emit to OTLP JSON lines on {}, nothing lost"
    details = {name: each.details() for name, each in found.items()}
    return [
        Result(
            "file",
            title.format("tmpfs"),
            "SDK, BatchSpanProcessor, OTLP/grpc",
            "spans/s",
            ">= 80",
            tmpfs,
            sdk,
            tmpfs.over(sdk),
            details=details,
        ),
        Result("file", title.format("disk"), "the same on tmpfs", "spans/s", "", disk, tmpfs, disk.over(tmpfs)),
    ]


def measure_age(rounds: int, seconds: float) -> Result:
    """Measure how old spans are when the receiver has them: at a light load, with a batch delay of 50 ms for both."""
    with ExitStack() as cleanup:
        directory = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-bench-", dir="/dev/shm"))
        sink = cleanup.enter_context(Sink("http"))
        delay = ("--batch-delay", str(_LIGHT_DELAY))
        cleanup.enter_context(drain(directory, "otlp-http", "--endpoint", sink.endpoint, *delay))
        found: dict[str, list[float]] = {"ring": [], "sdk-http": []}
        for _ in range(rounds):
            for how, where in (("ring", directory), ("sdk-http", sink.endpoint)):
                found[how].append(trial(how, where, sink, _LIGHT_RATE, seconds, delay=_LIGHT_DELAY).age_p99)
    ours, peer = (Figure.of(values) for values in found.values())
    return Result(
        group="age",
        title=f"from emit to receiver, {_LIGHT_RATE:,.0f} spans/s, p99",
        peer_title="SDK, BatchSpanProcessor, OTLP/http",
        unit="ms",
        aim="<= 100 ms",
        ours=ours,
        peer=peer,
        ratio=peer.over(ours),
    )


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
