"""`make fleet-demo`: hosts that send to two gateways, one of which is killed meanwhile; the sums over all of them.

A *host* is a ring directory with producers and a drain of its own, as on a machine of a fleet. Each trace has one of
the gateways as its home (`--balance trace`). While that one is away, its spans wait in the drains' spools.

Exit codes: 0 it adds up; 1 it does not, or a process failed; 2 usage; 130 after Ctrl-C, 143 after SIGTERM, which end
the work early (the sums must still agree).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from drain_process import Audit, Drain, DrainError
from gateway_process import Gateway, GatewayError
from launch import ProducerError, Producers, stop_on_signal
from report import print_table

if TYPE_CHECKING:
    from gateway import Received

    from ringbuf import EmitterStats

_SIGNAL: Final = 128
_TICK_SECONDS: Final = 0.2
_LINE_SECONDS: Final = 1.0
_HOME_SECONDS: Final = 60.0
_LOST: Final = ("rejected", "dead_lettered", "invalid", "quarantined", "expired", "dropped", "damaged")
_OTHERS: Final = ("OTEL_EXPORTER_", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_SERVICE_NAME", "OTEL_TRACES_SAMPLER")


class Host(NamedTuple):
    """A host of the fleet.

    Attributes:
        name: `host.name` of its spans.
        drain: serves its ring directory.
        producers: its processes.
    """

    name: str
    drain: Drain
    producers: Producers


class Progress:
    """Prints a line a second, and kills and restarts a gateway when it is time.

    Args:
        hosts: that work.
        gateways: of which the last one is killed after a third of the time, and starts again after two thirds.
        seconds: that the work takes.
    """

    def __init__(self, hosts: list[Host], gateways: list[Gateway], seconds: float) -> None:
        self._hosts = hosts
        self._gateways = gateways
        self._began = time.monotonic()
        self._kill_at = self._began + seconds / 3
        self._start_at = self._began + seconds * 2 / 3
        self._next_line = self._began + _LINE_SECONDS

    def tick(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        victim = self._gateways[-1]
        if now >= self._kill_at and not victim.kills:
            victim.kill()
            self._say(f"{victim.name} is killed (SIGKILL)")
        if now >= self._start_at:
            self.bring_back()
        if now >= self._next_line:
            self._next_line = now + _LINE_SECONDS
            operations = sum(host.producers.done for host in self._hosts)
            self._say(f"{operations:>9,} operations, spans at " + self.arrived())

    def bring_back(self) -> None:
        """Start the gateway that was killed, if it is still away."""
        victim = self._gateways[-1]
        if not victim.is_up:
            victim.start()
            self._say(f"{victim.name} is back")

    def wait_until_home(self, spans: int) -> None:
        """Return when so many spans have arrived, or it takes too long."""
        end = time.monotonic() + _HOME_SECONDS
        self.arrived()
        while _distinct(self._gateways) < spans and time.monotonic() < end:
            time.sleep(_TICK_SECONDS)
            arrived = self.arrived()
            if time.monotonic() >= self._next_line:
                self._next_line = time.monotonic() + _LINE_SECONDS
                self._say(f"waiting for {spans - _distinct(self._gateways):,} spans, spans at {arrived}")

    def arrived(self) -> str:
        """Return how many spans each gateway has, in words."""
        for gateway in self._gateways:
            gateway.received.read_on()
        return ", ".join(
            f"{gateway.name} {gateway.received.lines.total():,}{'' if gateway.is_up else ' (down)'}"
            for gateway in self._gateways
        )

    def _say(self, what: str) -> None:
        print(f"{time.monotonic() - self._began:5.1f} s  {what}", flush=True)


def main() -> int:
    """Run the demo, and return its exit code."""
    options = _options()
    # As Ctrl-C does: an exception runs the clean-up, which the signal's default would not.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for name in list(os.environ):
        if name.startswith(_OTHERS):  # where this machine's own spans go, and how, is not this fleet's way
            del os.environ[name]
    os.environ["no_proxy"] = "127.0.0.1"
    try:
        with ExitStack() as cleanup:
            return _run(options, cleanup)
    except (DrainError, GatewayError, ProducerError) as error:
        print(f"fleet: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("fleet: aborted, nothing was checked", file=sys.stderr)
        return _SIGNAL + signal.SIGINT


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fleet.py", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--hosts", type=int, default=3, help="how many (3)")
    parser.add_argument("--seconds", type=float, default=12.0, help="that the producers work (12)")
    parser.add_argument("--pause", type=float, default=0.005, help="seconds after each operation of a process (0.005)")
    parser.add_argument("--seed", type=int, default=219, help="of the random choices")
    options = parser.parse_args()
    if options.hosts < 1 or options.seconds <= 0 or options.pause < 0:
        parser.error("--hosts and --seconds must be greater than zero, --pause not less")
    return options


def _run(options: argparse.Namespace, cleanup: ExitStack) -> int:
    scratch = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-fleet-")))
    shared_memory = Path(os.environ.get("RINGBUF_DIR") or "/dev/shm")  # noqa: S108 - the name is random, the mode 0700
    shared_memory.mkdir(mode=0o700, parents=True, exist_ok=True)
    rings = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-fleet-", dir=shared_memory)))
    print(f"{options.hosts} hosts, each with four producers and a drain, two gateways: starting …", flush=True)
    gateways = []
    for number in (1, 2):
        gateways.append(Gateway(f"gateway-{number}", scratch))
        cleanup.callback(gateways[-1].kill)
        gateways[-1].start()
    names = [f"host-{number}" for number in range(1, options.hosts + 1)]
    drains = {}
    for name in names:
        drains[name] = _drain(scratch / name, rings / name, gateways)
        cleanup.callback(drains[name].kill)
    for drain in drains.values():  # before the producers begin, which take all processors to start
        drain.wait_until_ready()
    hosts = []
    for number, name in enumerate(names):
        producers = _producers(name, options, options.seed + 1000 * number, rings / name, scratch / name)
        hosts.append(Host(name, drains[name], cleanup.enter_context(producers)))

    def stop() -> None:
        for host in hosts:
            host.producers.stop()

    with stop_on_signal(stop) as signals:
        for host in hosts:
            host.producers.begin()
        progress = Progress(hosts, gateways, options.seconds)
        statistics = {host.name: host.producers.collect(progress.tick, _TICK_SECONDS) for host in hosts}
        progress.bring_back()
        progress.wait_until_home(sum(one.published for all_ in statistics.values() for one in all_))
        audits = {host.name: host.drain.stop() for host in hosts}
        progress.arrived()  # what came in the meantime
        code = _tell(statistics, audits, gateways)
    return code or (_SIGNAL + signals[0] if signals else 0)


def _drain(folder: Path, ring_dir: Path, gateways: list[Gateway]) -> Drain:
    ring_dir.mkdir(mode=0o700)
    folder.mkdir(mode=0o700)
    return Drain(
        ring_dir,
        folder / "drain.log",
        *("--exporter", "otlp-http", "--balance", "trace"),
        *(word for gateway in gateways for word in ("--endpoint", gateway.endpoint)),
        *("--state-dir", os.fspath(folder / "state"), "--spool-after", "0.5", "--retry-maximum", "2"),
    )


def _producers(name: str, options: argparse.Namespace, seed: int, ring_dir: Path, folder: Path) -> Producers:
    os.environ["OTEL_RESOURCE_ATTRIBUTES"] = f"host.name={name}"  # the processes inherit it
    return Producers(
        groups=1,
        operations=sys.maxsize,
        seconds=options.seconds,
        seed=seed,
        ring_dir=ring_dir,
        data_dir=folder,
        pause_seconds=options.pause,
    )


class Row(NamedTuple):
    """What became of a host's spans.

    Attributes:
        emitted: by its producers.
        arrived: at a gateway, each counted once.
        dropped: by producers, drain or spool, each of which counts them; or not sampled.
        waiting: in rings and spool.
        again: arrivals of spans that had arrived before.
    """

    emitted: int
    arrived: int
    dropped: int
    waiting: int
    again: int

    @property
    def missing(self) -> int:
        """Spans of which nobody knows what became: 0."""
        return self.emitted - self.arrived - self.dropped - self.waiting

    def cells(self) -> tuple[str, ...]:
        """Return the numbers as text, `missing` last."""
        return tuple(f"{count:,}" for count in (*self, self.missing))


def row_of(host: str, producers: list[EmitterStats], audit: Audit, gateways: list[Received]) -> Row:
    """Add up what producers, drain and gateways say of a host."""
    every = [*audit.services.values(), *audit.spool.values()]
    arrived = len(set[int]().union(*(received.spans[host] for received in gateways)))
    return Row(
        emitted=sum(one.attempts for one in producers),
        arrived=arrived,
        dropped=sum(one.full + one.contended + one.local + one.unsampled for one in producers)
        + sum(sums.get(word, 0) for sums in every for word in _LOST),
        waiting=sum(sums.get("pending", 0) for sums in audit.services.values())
        + sum(sums.get("waiting", 0) for sums in audit.spool.values()),
        again=sum(received.lines[host] for received in gateways) - arrived,
    )


def problems(rows: dict[str, Row], gateways: list[Received]) -> list[str]:
    """Return what does not add up, in words; nothing when all does."""
    torn = set[str].intersection(*(received.traces for received in gateways))
    emitted, arrived = (sum(row[at] for row in rows.values()) for at in (0, 1))
    return [
        *(f"{row.missing:,} spans of {host} are missing" for host, row in rows.items() if row.missing),
        *([f"{len(torn):,} traces are at both gateways"] if torn else []),
        *(["no span has arrived"] if emitted and not arrived else []),
    ]


def _tell(statistics: dict[str, list[EmitterStats]], audits: dict[str, Audit], gateways: list[Gateway]) -> int:
    """Print the tables and the sum; return the exit code."""
    received = [gateway.received for gateway in gateways]
    rows = {host: row_of(host, producers, audits[host], received) for host, producers in statistics.items()}
    total = Row(*map(sum, zip(*rows.values(), strict=True)))
    head = ("host", "emitted", "arrived", "dropped", "waiting", "arrived again", "missing")
    print_table("By host", head, [(host, *row.cells()) for host, row in [*rows.items(), ("all", total)]], left=1)
    columns = ("gateway", "spans", "traces", *rows, "arrived again", "killed")
    print_table("By gateway", columns, [_gateway_row(gateway, [*rows]) for gateway in gateways], left=1)
    print(
        f"\nemitted {total.emitted:,} = arrived {total.arrived:,} + dropped {total.dropped:,} "
        f"+ waiting {total.waiting:,}; {total.again:,} arrived again"
    )
    wrong = problems(rows, received)
    print("; ".join(wrong) if wrong else "it adds up on each host, and each trace is at one gateway")
    return 1 if wrong else 0


def _gateway_row(gateway: Gateway, hosts: list[str]) -> tuple[str, ...]:
    received = gateway.received
    spans = {host: len(received.spans[host]) for host in hosts}
    counts = (sum(spans.values()), len(received.traces), *spans.values())
    return (
        gateway.name,
        *(f"{count:,}" for count in counts),
        f"{received.lines.total() - sum(spans.values()):,}",
        f"{gateway.kills}",
    )


def _distinct(gateways: list[Gateway]) -> int:
    """Return how many spans have arrived, each once: a trace is at one gateway."""
    return sum(len(spans) for gateway in gateways for spans in gateway.received.spans.values())


if __name__ == "__main__":
    sys.exit(main())
