"""From a Python producer to a receiver in another process: the highest rate at which nothing is lost.

A trial emits evenly at a rate for some seconds. It holds when no span was dropped, the receiver decodes every span id
once, and the last span was accepted soon after it was emitted, so that no queue has hidden a lag. The rate is raised
until a trial does not hold, then narrowed down; then both run at their highest rates in turns. The figure of a trial is
spans over the time from the first emit until the last was accepted.
"""

from __future__ import annotations

import json
import signal
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
    """

    rate: float
    holds: bool
    why: str
    processor_micros: float
    bytes_per_span: float
    age_p99: float


class Sink:
    """The receiver's process.

    Args:
        protocol: "http" or "grpc".
    """

    def __init__(self, protocol: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.sink", protocol], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.endpoint = self._line()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.communicate(timeout=_TIMEOUT_SECONDS)

    def count(self) -> dict[str, float]:
        """Return what came since the last look, decoded."""
        assert self._process.stdin is not None  # noqa: S101 - a pipe
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        counts: dict[str, float] = json.loads(self._line())
        return counts

    def _line(self) -> str:
        assert self._process.stdout is not None  # noqa: S101 - a pipe
        return self._process.stdout.readline().strip()


@contextmanager
def drain(ring_dir: str, endpoint: str, protocol: str, *settings: str) -> Iterator[None]:
    """Run a drain beside the block, with its default settings but for those given."""
    environment = {**clean_environment(), "RINGBUF_DRAIN_LISTEN": "off"}
    options = ["--ring-dir", ring_dir, "--exporter", f"otlp-{protocol}", "--endpoint", endpoint]
    options += ["--log-level", "warning", *settings]
    process = subprocess.Popen([sys.executable, "-m", "drain", *options], stdout=subprocess.DEVNULL, env=environment)
    try:
        end = time.monotonic() + _TIMEOUT_SECONDS
        while not (Path(ring_dir) / "doorbell").exists():
            if process.poll() is not None or time.monotonic() >= end:
                raise RuntimeError("the drain does not start")
            time.sleep(0.01)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_TIMEOUT_SECONDS)


def trial(how: str, where: str, sink: Sink, rate: float, seconds: float, *, delay: float = 5.0) -> Trial:
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
    command = [sys.executable, "-m", "bench.sender", how, where, str(rate), str(seconds), str(delay)]
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
    )


def highest_rate(how: str, where: str, sink: Sink, seconds: float) -> float:
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


def measure(protocol: str, rounds: int, seconds: float) -> Result:
    """Measure one protocol, ours and the SDK's, in turns."""
    with ExitStack() as cleanup:
        directory = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-bench-", dir="/dev/shm"))
        sink = cleanup.enter_context(Sink(protocol))
        cleanup.enter_context(drain(directory, sink.endpoint, protocol))
        senders = {"ring": directory, f"sdk-{protocol}": sink.endpoint}
        rates = {how: highest_rate(how, where, sink, seconds) for how, where in senders.items()}
        held: dict[str, list[Trial]] = {how: [] for how in senders}
        retreats = dict.fromkeys(senders, 0)
        while any(len(trials) < rounds for trials in held.values()):
            for how, where in senders.items():
                if len(held[how]) == rounds:
                    continue
                found = trial(how, where, sink, rates[how], seconds)
                _progress(f"  {how} {rates[how]:,.0f}/s: {'holds' if found.holds else found.why}")
                if found.holds:
                    held[how].append(found)
                else:  # the search was lucky there: all rounds are made again, a little slower
                    rates[how] *= _RETREAT
                    retreats[how] += 1
                    held[how].clear()
    ours, peer = (Figure.of(found.rate for found in trials) for trials in held.values())
    return Result(
        group="end-to-end",
        title=f"site.emit to OTLP/{protocol} receiver, nothing lost",
        peer_title=f"SDK, BatchSpanProcessor, OTLP/{protocol}",
        unit="spans/s",
        aim=">= 100" if protocol == "http" else ">= 80",
        ours=ours,
        peer=peer,
        ratio=ours.over(peer),
        details={
            how: {
                "rate": rates[how],
                "retreats": retreats[how],
                "producer_processor_micros": Figure.of(found.processor_micros for found in trials),
                "bytes_per_span": trials[0].bytes_per_span,
            }
            for how, trials in held.items()
        },
    )


def measure_age(rounds: int, seconds: float) -> Result:
    """Measure how old spans are when the receiver has them: at a light load, with a batch delay of 50 ms for both."""
    with ExitStack() as cleanup:
        directory = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-bench-", dir="/dev/shm"))
        sink = cleanup.enter_context(Sink("http"))
        cleanup.enter_context(drain(directory, sink.endpoint, "http", "--batch-delay", str(_LIGHT_DELAY)))
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
