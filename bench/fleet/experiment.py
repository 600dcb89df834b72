"""A fleet on this machine: hosts are ring directories with a producer and a drain each; what they take is read off."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from bench.deliver.end_to_end import Sink, drain
from bench.measure import processor_seconds
from drain.spool.database import SpoolDatabase
from drain.spool.spool import DATABASE_NAME
from drain.state_directory import SPOOL_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_WARM_SECONDS: Final = 3.0
_WINDOWS: Final = 3
_START_SECONDS: Final = 60.0
_END_SECONDS: Final = 60.0
_SPANS: Final = "ringbuf_drain_spans_delivered_total"
_ATTEMPTS: Final = "ringbuf_drain_export_attempts_total"
_BYTES: Final = "ringbuf_drain_export_bytes_total"
_STORED: Final = "ringbuf_drain_spool_size_bytes"
# The brokers that librdkafka brings for tests; the topic is made when it is first asked for, with four partitions.
_BROKERS: Final = """
import sys
from confluent_kafka import Producer
producer = Producer({"bootstrap.servers": "nowhere", "test.mock.num.brokers": 3, "log_level": 0})
found = producer.list_topics("otlp_spans", 10)
print(",".join(f"{one.host}:{one.port}" for one in found.brokers.values()), flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True, slots=True)
class Sent:
    """What drains have sent.

    Attributes:
        spans: that have arrived.
        requests: with these.
        encoded: bytes of them, before compression.
        bytes: that went over the wire.
    """

    spans: float = 0.0
    requests: float = 0.0
    encoded: float = 0.0
    bytes: float = 0.0


@dataclass(frozen=True, slots=True)
class Taken:
    """What a fleet took, a second.

    Attributes:
        emitted: spans.
        bursts: of these, between which producers sleep.
        spans: that arrived.
        requests: with these.
        emit: cores of the producers' calls.
        drains: cores.
        gateways: cores of these, or of the brokers.
        all: what was sent from the first span until the last, all told: what is sent and what has arrived are not
            counted at the same moment, so that in a window one batch more or less is two bytes of each span.
    """

    emitted: float
    bursts: float
    spans: float
    requests: float
    emit: float
    drains: float
    gateways: float
    all: Sent

    @property
    def bytes(self) -> float:
        """Bytes that were sent, a second; of Kafka 0: what librdkafka makes of a message, the drain is not told."""
        return self.emitted * self.all.bytes / self.all.spans


class Gateways:
    """Receivers in processes of their own: rotel where it is installed, else this benchmark's own.

    Args:
        count: how many.

    Attributes:
        pids: of the processes.
        arguments: of a drain that sends to them.
        kind: what they are.
    """

    def __init__(self, count: int) -> None:
        self._stack = ExitStack()
        self.pids: list[int] = []
        endpoints = []
        self.kind = "rotel" if find_spec("rotel") else "bench.deliver.sink"
        for _ in range(count):
            endpoint, pid = self._rotel() if self.kind == "rotel" else self._sink()
            endpoints.append(endpoint)
            self.pids.append(pid)
        self.arguments = ("otlp-http", *(word for endpoint in endpoints for word in ("--endpoint", endpoint)))

    def close(self) -> None:
        """End them."""
        self._stack.close()

    def _sink(self) -> tuple[str, int]:
        sink = self._stack.enter_context(Sink("http", keeps=False))
        return sink.endpoint, sink.pid

    def _rotel(self) -> tuple[str, int]:
        spec = find_spec("rotel")
        assert spec is not None
        assert spec.origin is not None
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-bench-")))
        program = shutil.copy(Path(spec.origin).with_name("rotel-agent"), folder)  # the wheel's has no run bit
        Path(program).chmod(0o700)
        http, grpc = free_port(), free_port()
        listen = ("--otlp-http-endpoint", f"127.0.0.1:{http}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}")
        files = ("--pid-file", folder / "pid", "--log-file", folder / "log")
        process = subprocess.Popen(
            [program, "start", "--exporter", "blackhole", *listen, *files],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        _wait_for(http)
        return f"http://127.0.0.1:{http}", process.pid


class Brokers:
    """librdkafka's brokers for tests in a process of their own, which costs what no real one does.

    Attributes:
        pids: of that process.
        arguments: of a drain that sends to them.
        kind: what they are.
    """

    def __init__(self, partition_by: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BROKERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        brokers = self._process.stdout.readline().strip()
        self.pids = [self._process.pid]
        self.arguments = ("kafka", "--kafka-brokers", brokers, "--kafka-partition-by", partition_by)
        self.kind = "librdkafka's brokers for tests"

    def close(self) -> None:
        """End them."""
        self._process.communicate()


def run(destination: Gateways | Brokers, hosts: int, rate: float, seconds: float, settings: Sequence[str]) -> Taken:
    """Let a fleet work, and return what it took: of processor time the median of some windows, the rest over all.

    A window has few batches, of which one more or less is an eighth of all requests.

    Args:
        destination: where the drains send.
        hosts: how many.
        rate: spans a second of a host; 0: none.
        seconds: of a window, after a start.
        settings: of the drains.

    Raises:
        RuntimeError: spans were dropped: this machine cannot do so much.
    """
    with ExitStack() as cleanup:
        drains, ports, producers = [], [], []
        for _ in range(hosts):
            ring_dir = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-bench-", dir="/dev/shm"))
            ports.append(free_port())
            listen = ("--listen", f"127.0.0.1:{ports[-1]}")
            drains.append(cleanup.enter_context(drain(ring_dir, *destination.arguments, *listen, *settings)))
            if rate:
                producers.append(cleanup.enter_context(_Producer(ring_dir, rate)))
        time.sleep(_WARM_SECONDS)
        looks = []
        for _ in range(_WINDOWS):
            before = _look(drains, ports, producers, destination.pids)
            time.sleep(seconds)
            looks.append((before, _look(drains, ports, producers, destination.pids, is_end=True)))
        told = _sum(producer.end() for producer in producers)
        if lost := told.get("lost"):
            raise RuntimeError(f"{lost:,.0f} spans were dropped at {hosts} times {rate:,.0f} a second")
        sent = _all_sent(ports, told.get("spans", 0))
    windows = [_between(before, after, sent) for before, after in looks]
    whole = _between(looks[0][0], looks[-1][1], sent)
    emit, drains_took, gateways_took = (
        statistics.median(getattr(window, name) for window in windows) for name in ("emit", "drains", "gateways")
    )
    return replace(whole, emit=emit, drains=drains_took, gateways=gateways_took)


def _all_sent(ports: Sequence[int], emitted: float) -> Sent:
    """Return what the drains have sent, once all that was emitted has arrived."""
    end = time.monotonic() + _END_SECONDS
    while (found := _sum(map(_metrics, ports))).get("spans", 0) < emitted:
        if time.monotonic() > end:
            raise RuntimeError(f"of {emitted:,.0f} spans only {found.get('spans', 0):,.0f} have arrived")
        time.sleep(0.1)  # each look is a scrape of all drains, on the cores that are measured
    return Sent(*(found.get(field.name, 0.0) for field in fields(Sent)))


@dataclass(frozen=True, slots=True)
class Stored:
    """What a drain has stored while nobody took its spans.

    Attributes:
        spans: how many.
        rows: in which they are: of each batch one for each destination.
        used_bytes: of the database, but for what an empty one has.
        other_bytes: of the log and the reserve beside it.
    """

    spans: int
    rows: int
    used_bytes: int
    other_bytes: int


def store(destinations: int, rate: float, seconds: float, settings: Sequence[str]) -> Stored:
    """Let a drain spool, and return what is in the database after its end.

    What the running drain tells of the size says little of a few seconds: the log grows up to a bound, and the
    database by steps, when the log is written back.

    Args:
        destinations: endpoints where nobody is.
        rate: spans a second.
        seconds: for so long.
        settings: of the drain.
    """
    with ExitStack() as cleanup:
        ring_dir = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-bench-", dir="/dev/shm"))
        state = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-bench-")))
        port = free_port()
        away = [word for _ in range(destinations) for word in ("--endpoint", f"http://127.0.0.1:{free_port()}")]
        kept = ("--state-dir", str(state), "--spool-after", "0.1", "--shutdown-timeout", "1")
        listen = ("--listen", f"127.0.0.1:{port}")
        with drain(ring_dir, "otlp-http", *away, *kept, *listen, *settings), _Producer(ring_dir, rate) as producer:
            time.sleep(_WARM_SECONDS + seconds)
            if lost := producer.ask()["lost"]:
                raise RuntimeError(f"{lost:,} spans were dropped at {rate:,.0f} a second")
            told = int(_metrics(port)["stored"])
            database_bytes = (state / SPOOL_FOLDER / DATABASE_NAME).stat().st_size
        spans, rows, used_bytes = _found_in(state / SPOOL_FOLDER / DATABASE_NAME)
        _, _, empty_bytes = _found_in(_empty_database(state))
    return Stored(spans, rows, used_bytes - empty_bytes, told - database_bytes)


def _found_in(path: Path) -> tuple[int, int, int]:
    """Return the spans, the rows and the used bytes of a spool's database."""
    with closing(sqlite3.connect(path)) as database:
        spans, rows = database.execute("SELECT coalesce(sum(spans), 0), count(*) FROM batch").fetchone()
        pages, free, page_bytes = (
            database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    return spans, rows, (pages - free) * page_bytes


def _empty_database(folder: Path) -> Path:
    path = folder / "empty.db"
    SpoolDatabase(path, 1 << 20, 1 << 20).close()
    return path


@dataclass(frozen=True, slots=True)
class _Look:
    """What all had done: counters and when they were read, processor seconds and when."""

    counted: dict[str, float]
    counted_at: float
    told: dict[str, float]
    drains: float
    gateways: float
    at: float


def _look(
    drains: list[int], ports: list[int], producers: list[_Producer], gateways: list[int], *, is_end: bool = False
) -> _Look:
    """Read all off; reading the metrics costs the drains something, which stays outside of the window."""
    counted = {} if is_end else _sum(map(_metrics, ports))
    counted_at = time.monotonic()
    told = _sum(producer.ask() for producer in producers)
    of_drains, of_gateways = (sum(map(processor_seconds, pids)) for pids in (drains, gateways))
    at = time.monotonic()
    if is_end:
        counted, counted_at = _sum(map(_metrics, ports)), time.monotonic()
    return _Look(counted, counted_at, told, of_drains, of_gateways, at)


def _between(before: _Look, after: _Look, sent: Sent) -> Taken:
    lasted = after.at - before.at

    def rate(name: str) -> float:
        return (after.counted[name] - before.counted[name]) / (after.counted_at - before.counted_at)

    return Taken(
        emitted=(after.told.get("spans", 0) - before.told.get("spans", 0)) / lasted,
        bursts=(after.told.get("bursts", 0) - before.told.get("bursts", 0)) / lasted,
        spans=rate("spans"),
        requests=rate("requests"),
        emit=(after.told.get("processor", 0) - before.told.get("processor", 0)) / lasted,
        drains=(after.drains - before.drains) / lasted,
        gateways=(after.gateways - before.gateways) / lasted,
        all=sent,
    )


def _sum(found: Iterable[dict[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for one in found:
        for name, number in one.items():
            total[name] = total.get(name, 0.0) + number
    return total


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port


class _Producer:
    def __init__(self, ring_dir: str, rate: float) -> None:
        command = [sys.executable, "-m", "bench.fleet.producer", ring_dir, str(rate)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self) -> dict[str, float]:
        """Return its spans, how many found no room, its bursts, and the seconds of processor time of its calls."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        told: dict[str, float] = json.loads(self._process.stdout.readline())
        return told

    def end(self) -> dict[str, float]:
        """Let it end, and return the same."""
        told: dict[str, float] = json.loads(self._process.communicate()[0])
        return told

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._process.returncode is None:
            self._process.communicate()


def _metrics(port: int) -> dict[str, float]:
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    found = {"spans": 0.0, "requests": 0.0, "bytes": 0.0, "encoded": 0.0, "stored": 0.0}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == _ATTEMPTS and sample.labels["verdict"] == "delivered":
                found["requests"] += sample.value
            elif sample.name == _BYTES:
                found["bytes" if sample.labels["stage"] == "sent" else "encoded"] += sample.value
            elif sample.name == _SPANS:
                found["spans"] += sample.value
            elif sample.name == _STORED:
                found["stored"] += sample.value
    return found


def _wait_for(port: int) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"nobody listens on port {port}")
