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
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from bench.build import HERE, Build
from bench.deliver.search import Search
from bench.measure import Figure, clean_environment, processor_seconds
from bench.results import Result

if TYPE_CHECKING:
    from collections.abc import Iterator

_LAG_SHARE: Final = 0.1
_LAG_SECONDS: Final = 0.3  # a last batch's delay and its journey
_TIMEOUT_SECONDS: Final = 300.0
_SPAN_ID: Final = re.compile(rb'"spanId":"([0-9a-f]{16})"')
_RETREAT: Final = 0.93
_LIGHT_RATE: Final = 1000.0
_LIGHT_DELAY: Final = 0.05
_FIRST_RATE: Final = {"ring": 500_000.0, "sdk": 4_000.0}


@dataclass(frozen=True, slots=True)
class Trial:
    """What one trial found.

    Attributes:
        rate: spans per second, over the whole time.
        holds: nothing was lost, and nothing lagged behind.
        why: the reason when it does not hold.
        processor_micros: the producer's processor time per span, µs, with the start of its process.
        drain_micros: the drain's, from before the producer's start until the receiver had the last span; 0: no drain.
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
    drain_micros: float = 0.0

    @property
    def figures(self) -> str:
        """What it found, for one line: of a run that is cut off they are all there is."""
        drain = f", drain {1000 * self.drain_micros:,.0f} ns a span" if self.drain_micros else ""
        return f"holds, {self.rate:,.0f} spans/s{drain}"


class Sink:
    """The receiver's process.

    Args:
        protocol: "http" or "grpc".
        keeps: whether it keeps what comes, to `count` it.
    """

    def __init__(self, protocol: str, *, keeps: bool = True) -> None:
        command = [sys.executable, "-m", "bench.deliver.sink", protocol, "keep" if keeps else "forget"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid
        self.endpoint = self._line()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.communicate(timeout=_TIMEOUT_SECONDS)

    def count(self) -> dict[str, float]:
        """Return what came since the last look, decoded."""
        return self._asked("\n")

    def forget(self) -> None:
        """Let go of what came since the last look, not decoded."""
        self._asked("forget\n")

    def _asked(self, question: str) -> dict[str, float]:
        assert self._process.stdin is not None
        self._process.stdin.write(question)
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

    def forget(self) -> None:
        """Let go of what came since the last look."""
        self.path.unlink(missing_ok=True)


class Sender(NamedTuple):
    """Who sends in a trial.

    Attributes:
        how: "ring", "sdk-http" or "sdk-grpc".
        where: the ring directory, or the endpoint.
        sink: the receiver.
        build: whose ringbuf the producer is.
        drain_pid: of the drain that serves the ring directory; 0: there is none.
    """

    how: str
    where: str
    sink: Sink | LinesSink
    build: Build = HERE
    drain_pid: int = 0


@contextmanager
def drain(ring_dir: str, exporter: str, *settings: str, build: Build = HERE) -> Iterator[int]:
    """Run a drain beside the block, with its default settings but for those given; yield its pid."""
    environment = {**clean_environment(), "RINGBUF_DRAIN_LISTEN": "off"}
    options = ["--ring-dir", ring_dir, "--exporter", exporter, "--log-level", "warning", *settings]
    process = subprocess.Popen(
        build.command("drain", *options), stdout=subprocess.DEVNULL, cwd=build.folder, env=environment
    )
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


def trial(sender: Sender, rate: float, seconds: float, *, delay: float = 5.0, is_counted: bool = True) -> Trial:
    """Run one trial.

    Args:
        sender: who sends, and to whom.
        rate: spans per second.
        seconds: for so long.
        delay: seconds that the SDK lets a batch wait that is not full; 5 is its default, and serves it best when the
            rate is high. The drain has its own setting.
        is_counted: what came is decoded and counted; else what the sender knows to be lost is all that is known.
    """
    numbers = (str(rate), str(seconds), str(delay))
    before = processor_seconds(sender.drain_pid) if sender.drain_pid else 0.0
    result = subprocess.run(
        sender.build.command("bench.deliver.sender", sender.how, sender.where, *numbers),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=True,
        cwd=sender.build.folder,
        env=clean_environment(),
    )
    drain_seconds = processor_seconds(sender.drain_pid) - before if sender.drain_pid else 0.0
    sent: dict[str, Any] = json.loads(result.stdout)
    lag = sent["seconds"] - seconds
    came = {"spans": sent["spans"] - sent["lost"], "ids": sent["spans"], "bytes": 0.0, "p99": 0.0}
    if is_counted:
        came = sender.sink.count()
    else:
        sender.sink.forget()
    why = ""
    if sent["lost"] or came["spans"] != sent["spans"] or came["ids"] != sent["spans"]:
        why = f"{sent['spans']:,} emitted, {sent['lost']:,} dropped"
        why += f", {came['spans']:,} arrived, {came['ids']:,} distinct" if is_counted else ""
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
        drain_micros=1e6 * drain_seconds / sent["spans"],
    )


def halves(waiting: list[int]) -> tuple[float, float]:
    """Return the mean of the first and of the second half of what was seen to wait; zeros when nothing was seen."""
    middle = len(waiting) // 2
    if middle == 0:
        return 0.0, 0.0
    return statistics.fmean(waiting[:middle]), statistics.fmean(waiting[middle:])


def highest_rates(senders: dict[str, Sender], seconds: float) -> dict[str, float]:
    """Return the highest rate found for each sender; all are tried in turns.

    What came is not counted, but where it is the only way to learn of losses: counting takes longer than the trial.

    Args:
        senders: by name.
        seconds: of a trial.

    Raises:
        RuntimeError: no trial of one of them holds.
    """
    searches = {name: Search(_FIRST_RATE[sender.how.partition("-")[0]]) for name, sender in senders.items()}
    while not all(search.is_over for search in searches.values()):
        for name, search in searches.items():
            if not search.is_over:
                sender = senders[name]
                found = trial(sender, search.rate, seconds, is_counted=sender.how != "ring")
                _progress(f"  {name} {search.rate:,.0f}/s: {'holds' if found.holds else found.why}")
                search.note(holds=found.holds)
    for name, search in searches.items():
        if not search.good:
            raise RuntimeError(f"no trial of {name} holds, not even at {search.rate:,.0f} spans/s")
    return {name: search.good for name, search in searches.items()}


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
            "drain_processor_micros": Figure.of(each.drain_micros for each in self.trials),
            "bytes_per_span": self.trials[0].bytes_per_span,
        }


def in_turns(senders: dict[str, Sender], rounds: int, seconds: float) -> dict[str, Held]:
    """Find the highest rate of each sender, then let all run at theirs in turns until each has held in every round.

    Args:
        senders: by name.
        rounds: how many trials of each are to hold.
        seconds: of a trial.
    """
    held = {name: Held(rate, []) for name, rate in highest_rates(senders, seconds).items()}
    while any(len(each.trials) < rounds for each in held.values()):
        for name, sender in senders.items():
            each = held[name]
            if len(each.trials) == rounds:
                continue
            found = trial(sender, each.rate, seconds)
            _progress(f"  {name} {each.rate:,.0f}/s: {found.figures if found.holds else found.why}")
            if found.holds:
                each.trials.append(found)
            else:  # the search was lucky there: all rounds are made again, a little slower
                each.rate *= _RETREAT
                each.retreats += 1
                each.trials.clear()
    return held


def measure(protocol: str, rounds: int, seconds: float, beside: Build | None = None) -> list[Result]:
    """Measure the way to an OTLP receiver, in turns with the SDK's, and whether what waits in our ring grows meanwhile.

    Args:
        protocol: "http" or "grpc".
        rounds: how many trials of each are to hold.
        seconds: of a trial.
        beside: the build that stands in the SDK's place; then the processor time of both drains is a result, too.
    """
    group = f"end-to-end-{protocol}"
    with ExitStack() as cleanup:
        sink = cleanup.enter_context(Sink(protocol))
        options = (f"otlp-{protocol}", "--endpoint", sink.endpoint)
        senders = {"ring": _through_ring(cleanup, HERE, sink, *options)}
        if beside is None:
            senders[f"sdk-{protocol}"] = Sender(f"sdk-{protocol}", sink.endpoint, sink)
        else:
            senders[beside.name] = _through_ring(cleanup, beside, sink, *options)
        ours, peer = in_turns(senders, rounds, seconds).values()
    title = f"site.emit to OTLP/{protocol} receiver, nothing lost"
    if beside is not None:
        return _beside(group, title, ours, peer, beside)
    first, second = (Figure.of(max(1.0, each.waiting[half]) for each in ours.trials) for half in (0, 1))
    return [
        _rate(
            group,
            title,
            f"SDK, BatchSpanProcessor, OTLP/{protocol}",
            ours,
            peer,
            aim=">= 100" if protocol == "http" else ">= 80",
        ),
        Result(
            group=group,
            title=f"at that rate over {protocol}, spans that wait in the ring, second half of the trial",
            peer_title="first half",
            unit="spans",
            aim="no growth: about 1",
            ours=second,
            peer=first,
            ratio=second.over(first),
        ),
    ]


def measure_file(rounds: int, seconds: float, beside: Build | None = None) -> list[Result]:
    """Measure the way to OTLP JSON lines: on tmpfs, on the disk of the present folder, and the SDK over gRPC beside.

    Args:
        rounds: how many trials of each are to hold.
        seconds: of a trial.
        beside: the build that stands in the SDK's place.
    """
    title = "site.emit to OTLP JSON lines on {}, nothing lost"
    with ExitStack() as cleanup:
        tmpfs = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-bench-", dir="/dev/shm"))
        disk = str(Path.cwd())
        senders = {name: _to_lines(cleanup, HERE, folder) for name, folder in (("tmpfs", tmpfs), ("disk", disk))}
        if beside is None:
            receiver = cleanup.enter_context(Sink("grpc"))
            senders["sdk"] = Sender("sdk-grpc", receiver.endpoint, receiver)
        else:
            senders[f"tmpfs {beside.name}"] = _to_lines(cleanup, beside, tmpfs)
            senders[f"disk {beside.name}"] = _to_lines(cleanup, beside, disk)
        found = list(in_turns(senders, rounds, seconds).values())
    if beside is not None:
        on_tmpfs = _beside("file", title.format("tmpfs"), found[0], found[2], beside)
        return on_tmpfs + _beside("file", title.format("disk"), found[1], found[3], beside)
    return [
        _rate("file", title.format("tmpfs"), "SDK, BatchSpanProcessor, OTLP/grpc", found[0], found[2], aim=">= 80"),
        _rate("file", title.format("disk"), "the same on tmpfs", found[1], found[0]),
    ]


def measure_age(rounds: int, seconds: float, beside: Build | None = None) -> Result:
    """Measure how old spans are when the receiver has them: at a light load, with a batch delay of 50 ms for both."""
    with ExitStack() as cleanup:
        sink = cleanup.enter_context(Sink("http"))
        options = ("otlp-http", "--endpoint", sink.endpoint, "--batch-delay", str(_LIGHT_DELAY))
        senders = [_through_ring(cleanup, HERE, sink, *options)]
        if beside is None:
            senders.append(Sender("sdk-http", sink.endpoint, sink))
        else:
            senders.append(_through_ring(cleanup, beside, sink, *options))
        found: list[list[float]] = [[], []]
        for _ in range(rounds):
            for ages, sender in zip(found, senders, strict=True):
                ages.append(trial(sender, _LIGHT_RATE, seconds, delay=_LIGHT_DELAY).age_p99)
    ours, peer = (Figure.of(values) for values in found)
    return Result(
        group="age",
        title=f"from emit to receiver, {_LIGHT_RATE:,.0f} spans/s, p99",
        peer_title="SDK, BatchSpanProcessor, OTLP/http" if beside is None else f"at {beside.name}",
        unit="ms",
        aim="<= 100 ms",
        ours=ours,
        peer=peer,
        ratio=peer.over(ours),
    )


def _through_ring(cleanup: ExitStack, build: Build, sink: Sink | LinesSink, *drain_options: str) -> Sender:
    """Start a drain for a ring directory of its own; return who sends through it."""
    directory = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-bench-", dir="/dev/shm"))
    pid = cleanup.enter_context(drain(directory, *drain_options, build=build))
    return Sender("ring", directory, sink, build, pid)


def _to_lines(cleanup: ExitStack, build: Build, folder: str) -> Sender:
    """Start a drain that writes JSON lines into a folder; return who sends through it."""
    output = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-bench-", dir=folder)))
    lines = LinesSink(output / "spans.jsonl")
    return _through_ring(cleanup, build, lines, "file", "--output", str(lines.path))


def _rate(group: str, title: str, peer_title: str, ours: Held, peer: Held, *, aim: str = "") -> Result:
    """Return the row of two rates at which nothing was lost."""
    figure, its = ours.figure, peer.figure
    details = {"ours": ours.details(), "peer": peer.details()}
    return Result(group, title, peer_title, "spans/s", aim, figure, its, figure.over(its), details=details)


def _beside(group: str, title: str, ours: Held, peer: Held, build: Build) -> list[Result]:
    """Return the rows of this checkout beside another build: the rates, and what a span costs each drain at its own."""
    mine, its = (Figure.of(1000 * trial.drain_micros for trial in each.trials) for each in (ours, peer))
    return [
        _rate(group, title, f"at {build.name}", ours, peer),
        Result(
            group=group,
            title=f"{title}: processor time of the drain, a span",
            peer_title=f"at {build.name}",
            unit="ns",
            aim="",
            ours=mine,
            peer=its,
            ratio=its.over(mine),
        ),
    ]


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
