"""A service in this process with its HTTP port and a service manager."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import structlog

from drain.commands import serve
from drain.delivery.retry import RetryPolicy
from drain.delivery.stores import Stores
from drain.exporters.measured import MeasuredExporter
from drain.rings.directory import RingDirectory
from drain.service.limits import Limits
from drain.service.service import Service
from drain.spool.spool import Spool, SpoolLimits
from drain.telemetry.telemetry import Telemetry
from ringbuf._ringbuf import lib
from tests.service.draining import ANY_RING, SECONDS, MemoryBackend, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

    from drain.service.sampling_plan import SamplingPlan

LIMITS = Limits(batch_spans=10, batch_bytes=4_000_000, batch_delay=0.0, concurrency=2, shutdown_timeout=SECONDS)


class Watched:
    """A service in a thread, its HTTP port, and the service manager's socket.

    Args:
        ring_dir: whose rings it serves.
        folder: of its spool and socket.
        sampling: by which rules it keeps traces; None: by none.
    """

    def __init__(
        self,
        ring_dir: Path,
        folder: Path,
        stack: ExitStack,
        patch: pytest.MonkeyPatch,
        sampling: SamplingPlan | None = None,
    ) -> None:
        assert lib.rb_guard_install() == lib.RB_OK
        self.manager = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self.manager.bind(str(folder / "notify"))
        self.manager.setblocking(False)
        patch.setenv("NOTIFY_SOCKET", str(folder / "notify"))
        patch.setenv("WATCHDOG_USEC", "2")
        self.backend = MemoryBackend()
        exporter = MeasuredExporter(self.backend)
        log = structlog.get_logger()
        self.telemetry = Telemetry(exporter.state, max_series=0, log=log)
        assert "NOTIFY_SOCKET" not in os.environ, "no child is to have it"
        self.service = Service(
            RingDirectory(ring_dir),
            ANY_RING,
            exporter,
            RetryPolicy(initial=0.001, maximum=0.001),
            LIMITS,
            log=log,
            stores=Stores(Spool(folder / "spool", SpoolLimits(64 << 20), log=log), None, SECONDS),
            audit_to=sys.stderr,
            observer=self.telemetry,
            sampling=sampling,
        )
        address = self.telemetry.listen(
            "127.0.0.1", 0, self.service.snapshots, self.service.seconds_until_attempt, 64 << 20
        )
        self.port = int(address.rpartition(":")[2])
        self.code: int | None = None
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def read(self, path: str) -> tuple[int, str]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def get(self, path: str) -> tuple[int, list[str]]:
        """Return a probe's status and reasons."""
        status, text = self.read(path)
        return status, json.loads(text)["reasons"]

    def told(self) -> list[str]:
        """Return what the service manager was told since the last call."""
        messages = []
        while True:
            try:
                messages.append(self.manager.recv(4096).decode())
            except BlockingIOError:
                return messages

    def go_rounds(self, rounds: int) -> None:
        health, seen = self.telemetry._health, set[float]()
        until(lambda: len(seen) > rounds, lambda: seen.add(health._last_round))

    def _serve(self) -> None:
        self.code = serve._serve(self.service, once=False)


@contextmanager
def watched_service(
    ring_dir: Path, folder: Path, patch: pytest.MonkeyPatch, sampling: SamplingPlan | None = None
) -> Iterator[Watched]:
    """Let a `Watched` run, and end it."""
    with ExitStack() as stack:
        made = Watched(ring_dir, folder, stack, patch, sampling)
        try:
            yield made
        finally:
            made.backend.let_go()
            made.service.request_stop()
            made.thread.join(SECONDS)
            made.telemetry.close()
            assert made.service.close()
