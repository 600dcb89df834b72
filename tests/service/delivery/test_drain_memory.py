"""A backend that is away for long, under a producer that never stops, costs the drain a bounded amount of memory."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import ringbuf
from tests.otlp_server import OtlpHttpServer
from tests.ports import free_ports
from tests.service.draining import LAYOUT, DrainProcess, emit, records

SECONDS = 60.0
MEBIBYTE = 1 << 20


def resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


@pytest.mark.soak
def test_memory_stays_bounded_while_spans_come_at_full_rate_and_nobody_takes_them(
    ring_dir: Path, tmp_path: Path
) -> None:
    with OtlpHttpServer(free_ports(1)[0]) as server:
        pass
    # Nobody listens now.
    flags = ("--exporter", "otlp-http", "--endpoint", server.url, "--state-dir", tmp_path / "state")
    spool = ("--spool-max-bytes", 256 * MEBIBYTE, "--spool-full", "drop-oldest", "--shutdown-timeout", 1)
    sizes = []
    with (
        ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=65536, lanes=1) as emitter,
        DrainProcess(tmp_path / "log", ring_dir, *flags, *spool, is_forked=False) as drain,
    ):
        emit(emitter, range(1000))
        drain.wait_for_event("backend did not take a batch, it is sent again")
        many = records(emitter, range(8192))
        emitted = 1000
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            emitted += emitter.emit_batch(many)
            sizes.append(resident_bytes(drain.process.pid))
            assert sum(path.stat().st_size for path in (tmp_path / "state" / "spool").iterdir()) <= 256 * MEBIBYTE
        stats = emitter.stats()
        assert drain.stop() in {0, 1}
        print(f"{emitted} spans, {stats.full} found no room, at most {max(sizes) / MEBIBYTE:.0f} MiB")  # noqa: T201 - the figures of the run
        assert drain.audit()["shop"]["published"] == emitted
    assert max(sizes) < 300 * MEBIBYTE
    # And it does not grow any more: the second half of the time needs no more than the first.
    assert max(sizes[len(sizes) // 2 :]) < 1.2 * max(sizes[: len(sizes) // 2])
