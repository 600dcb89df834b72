"""What a running drain tells Prometheus, probes and systemd, from its rings to the wire."""

from __future__ import annotations

import signal
import socket
import time
import uuid
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

import ringbuf
from drain.exporters.measured import MeasuredExporter
from drain.telemetry.telemetry import Telemetry
from ringbuf.dataplane import LeaseId, OpType, Outcome, site
from tests.service.draining import (
    LAYOUT,
    SECONDS,
    DrainProcess,
    MemoryBackend,
    SteppedDrain,
    emit,
    port_of,
    records,
    ring_files,
    run_once,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


@contextmanager
def listening_drain(log: Path, ring_dir: Path, *arguments: object) -> Iterator[tuple[DrainProcess, int]]:
    with DrainProcess(log, ring_dir, "--listen", "127.0.0.1:0", *arguments) as drain:
        yield drain, port_of(drain.wait_for_event("serving"))


def get(port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def scraped(port: int) -> Series:
    status, text = get(port, "/metrics")
    assert status == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of_shop(port: int, name: str) -> float:
    """Return a number of the service `shop`; 0 while there is none."""
    return scraped(port).get((f"ringbuf_drain_{name}", frozenset({("service", "shop")})), 0.0)


def test_a_scrape_tells_what_became_of_the_spans_and_how_long_they_took(
    log: Path, ring_dir: Path, output: Path
) -> None:
    lease = LeaseId(uuid.UUID("0123456789abcdef0123456789abcdef"))
    with (
        ringbuf.Emitter("shop", ring_dir=ring_dir) as emitter,
        listening_drain(log, ring_dir, "--output", output) as (_, port),
    ):
        read = site(OpType.FBMU_READ, emitter=emitter)
        for _ in range(100):
            assert read.emit(lease, 1_000_000_000, 1_002_000_000)
        assert read.emit(lease, 1_000_000_000, 1_200_000_000, None, Outcome.DENIED)
        until(lambda: of_shop(port, "spans_delivered_total") == 101)
        found = scraped(port)
        _, text = get(port, "/metrics")
    labels = {"service": "shop", "span_name": "grafos.dataplane.fbmu", "grafos_operation": "fbmu_read"}
    for outcome, count in (("ok", 100), ("denied", 1)):
        with_outcome = frozenset({**labels, "grafos_outcome": outcome}.items())
        assert found["ringbuf_span_duration_seconds_count", with_outcome] == count
        assert found["ringbuf_span_duration_seconds_sum", with_outcome] == pytest.approx(0.2)
    quick = frozenset({**labels, "grafos_outcome": "ok", "le": "0.003"}.items())
    assert found["ringbuf_span_duration_seconds_bucket", quick] == 100
    assert "0123456789abcdef" not in text
    assert found["ringbuf_drain_export_bytes_total", frozenset({("stage", "sent")})] == output.stat().st_size


def test_probes_say_that_the_drain_serves(log: Path, ring_dir: Path, output: Path) -> None:
    with listening_drain(log, ring_dir, "--output", output) as (_, port):
        until(lambda: get(port, "/readyz")[0] == 200)
        assert get(port, "/healthz") == (200, '{"alive": true, "reasons": []}\n')


def test_the_numbers_of_a_ring_outlive_it(log: Path, ring_dir: Path, output: Path) -> None:
    with listening_drain(log, ring_dir, "--output", output) as (_, port):
        with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=4, lanes=1) as emitter:
            emit(emitter, range(10))
            lost = emitter.stats().full
        until(lambda: not ring_files(ring_dir))
        until(lambda: of_shop(port, "spans_received_total") == 10 - lost)
        dropped = frozenset({("service", "shop"), ("reason", "full")})
        assert scraped(port)["ringbuf_drain_spans_dropped_total", dropped] == lost > 0
        assert of_shop(port, "rings_attached_total") == 1


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_drain_does_not_tell_again_what_an_earlier_one_told(
    log: Path, ring_dir: Path, output: Path, emitter: ringbuf.Emitter, is_killed: bool
) -> None:
    emit(emitter, range(10))
    with listening_drain(log, ring_dir, "--output", output) as (drain, port):
        until(lambda: of_shop(port, "spans_delivered_total") == 10)
        assert of_shop(port, "spans_received_total") == 10, "no drain had them before"
        if is_killed:
            drain.kill()
        else:
            assert drain.stop() == 0
    emit(emitter, range(10, 13))
    with listening_drain(log, ring_dir, "--output", output) as (drain, port):
        until(lambda: of_shop(port, "spans_delivered_total") == 3)
        assert of_shop(port, "spans_received_total") == 3
        assert of_shop(port, "spans_unaccounted") == 0
        assert drain.stop() == 0
    assert drain.audit()["shop"]["delivered"] == 13, "the audit is of the whole life of the rings"


def test_spans_are_counted_when_they_are_released(ring_dir: Path, emitter: ringbuf.Emitter) -> None:
    backend = MemoryBackend()
    backend.holds = lambda _request: True
    telemetry = Telemetry(MeasuredExporter(backend).state, max_series=100, log=structlog.get_logger())
    assert telemetry.spans is not None
    with SteppedDrain(ring_dir, backend, telemetry=telemetry) as drain:
        emit(emitter, range(5))
        drain.until(lambda: backend.waiting)
        assert telemetry.spans.series() == []
        backend.let_go()
        drain.until(lambda: drain.sums().delivered == 5)
        assert [sum(series.counts) for series in telemetry.spans.series()] == [5]
    telemetry.close()


def test_records_that_are_no_spans_are_in_no_histogram(ring_dir: Path, emitter: ringbuf.Emitter) -> None:
    telemetry = Telemetry(MeasuredExporter(MemoryBackend()).state, max_series=100, log=structlog.get_logger())
    assert telemetry.spans is not None
    [file] = ring_files(ring_dir)
    emit(emitter, range(5))
    with file.open("r+b") as ring:  # the second record gets a kind that there is not
        header_bytes = int.from_bytes(file.read_bytes()[12:16], "little")
        ring.seek(header_bytes + 384 + LAYOUT.slot_bytes + 54)
        ring.write(b"\xff")
    with SteppedDrain(ring_dir, MemoryBackend(), telemetry=telemetry) as drain:
        drain.service._reader.scan()
        drain.until(lambda: drain.sums().delivered == 4)
        assert drain.sums().invalid == 1
        assert [sum(series.counts) for series in telemetry.spans.series()] == [4]
    telemetry.close()


def test_lag_is_the_age_of_the_span_that_waits_longest(ring_dir: Path, emitter: ringbuf.Emitter) -> None:
    created = time.time_ns()
    backend = MemoryBackend()
    backend.holds = lambda _request: True
    with SteppedDrain(ring_dir, backend) as drain:
        drain.until(lambda: drain.service._reader.rings)
        [ring] = drain.service._reader.rings
        assert ring.oldest_unix_nano() is None
        assert drain.service.accounts.snapshot().lag_seconds == {}
        waiting = records(emitter, range(3))
        waiting["end_unix_nano"] = [created + 7, created + 8, created + 9]
        emitter.emit_batch(waiting)
        ring.poll()
        assert ring.oldest_unix_nano() == created + 7, "of one that is not even copied"
        drain.until(lambda: backend.waiting)
        assert ring.oldest_unix_nano() == created + 7, "of one that is on its way"
        assert drain.service.accounts.snapshot().lag_seconds["shop"] == pytest.approx(
            (time.time_ns() - created) / 1e9, abs=60
        )
        backend.let_go()
        drain.until(lambda: not drain.sums().pending)
        assert drain.service.accounts.snapshot().lag_seconds == {}


def test_no_span_is_older_than_its_ring(ring_dir: Path, emitter: ringbuf.Emitter) -> None:
    emit(emitter, range(3))  # which ended in 1970
    with SteppedDrain(ring_dir, MemoryBackend()) as drain:
        drain.service._reader.scan()
        [ring] = drain.service._reader.rings
        assert ring.oldest_unix_nano() == ring.created_unix_nano > 0


def test_a_port_in_use_stops_who_asked_for_it_and_nobody_else(
    log: Path, ring_dir: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with DrainProcess(log, ring_dir, "--output", output, "--listen", address) as drain:
            assert drain.wait() == 74, "it passes: the unit starts it again"
        assert f"--listen {address}: " in log.read_text()
    monkeypatch.delenv("RINGBUF_DRAIN_LISTEN")
    try:
        taken = socket.create_server(("127.0.0.1", 9464))
    except OSError:
        taken = socket.socket()  # by somebody else: as good
    with taken, DrainProcess(log, ring_dir, "--output", output) as drain:
        drain.wait_for_event("not listening; see --listen")
        assert drain.stop() == 0


def test_once_listens_only_when_asked(log: Path, ring_dir: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RINGBUF_DRAIN_LISTEN")
    assert run_once(log, ring_dir, "--output", output) == 0
    assert '"listen": "off"' in log.read_text()
    assert run_once(log, ring_dir, "--output", output, "--listen", "127.0.0.1:0") == 0
    assert '"listen": "127.0.0.1:' in log.read_text()


def test_what_is_no_address_is_refused(log: Path, ring_dir: Path) -> None:
    with DrainProcess(log, ring_dir, "--listen", "9464") as drain:
        assert drain.wait() == 2
    assert "no HOST:PORT" in log.read_text()


def test_systemd_hears_of_the_start_the_life_and_the_end(
    log: Path, ring_dir: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(SECONDS)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        # The kernel keeps ten messages, and the drain waits for no reader: these take eight seconds.
        monkeypatch.setenv("WATCHDOG_USEC", "1600000")
        with DrainProcess(log, ring_dir, "--output", output) as drain:
            assert manager.recv(4096) == b"READY=1\nSTATUS=0 rings, 0 spans pending"
            heard: list[bytes] = []
            while heard.count(b"WATCHDOG=1") < 3:
                heard.append(manager.recv(4096))
            drain.signal(signal.SIGTERM)
            while not heard[-1].startswith(b"STOPPING=1"):
                heard.append(manager.recv(4096))
            assert drain.wait() == 0
        assert {one.partition(b"=")[0] for one in heard[:-1]} <= {b"WATCHDOG", b"STATUS"}
