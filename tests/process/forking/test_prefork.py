"""gunicorn and uWSGI: workers come, are killed, replaced and reloaded, and every request's spans arrive once."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from tests.otlp_server import OtlpHttpServer
from tests.process.forking.test_fork import is_alive
from tests.service.draining import DrainProcess, ring_files, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.proto.trace.v1.trace_pb2 import Span

WORKERS = 2
CLIENTS = 3
SECONDS = 120.0
# Of each kind at least so many requests are answered before the next thing happens.
REQUESTS = 40
BOOT = 1 << 40  # from here on the numbers of spans that no request asked for
APPLICATION = "prefork_app:application"
GUNICORN = (
    *(sys.executable, "-Im", "gunicorn", APPLICATION, "--pythonpath", ".", "--workers", str(WORKERS)),
    *("--max-requests", "30", "--max-requests-jitter", "10", "--graceful-timeout", "10"),
    *("--timeout", "120", "--no-control-socket", "--log-level", "warning", "--bind"),
)
UWSGI = (
    *(str(Path(sys.executable).with_name("uwsgi")), "--master", "--processes", str(WORKERS), "--need-app"),
    *("--wsgi", APPLICATION, "--pythonpath", ".", "--virtualenv", sys.prefix, "--die-on-term"),
    *("--max-requests", "30", "--min-worker-lifetime", "0", "--worker-reload-mercy", "10", "--forkbomb-delay", "0"),
    *("--disable-logging", "--binary-path", sys.executable, "--http-socket"),
)
SERVERS: dict[str, tuple[tuple[str, ...], tuple[str, ...], bool]] = {
    "gunicorn": (GUNICORN, (), False),
    "gunicorn --preload": (GUNICORN, ("--preload",), True),
    "gunicorn, threads": (GUNICORN, ("--worker-class", "gthread", "--threads", "4"), False),
    "gunicorn --preload, threads": (GUNICORN, ("--worker-class", "gthread", "--threads", "4", "--preload"), True),
    # Its forks are C's, of which Python's own handlers do not hear.
    "uwsgi": (UWSGI, (), True),
    "uwsgi --lazy-apps, threads": (UWSGI, ("--lazy-apps", "--enable-threads", "--threads", "4"), False),
}


class Clients:
    """Threads that ask for one number after another, each once, until they are stopped."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(first,)) for first in range(CLIENTS)]
        self.answered: dict[int, int] = {}  # pid by number
        self.unanswered: set[int] = set()
        self.strange: list[str] = []

    def _work(self, number: int) -> None:
        while not self._stop.is_set():
            connection = http.client.HTTPConnection(*self._address, timeout=SECONDS)
            try:
                connection.request("GET", f"/{number}", headers={"Connection": "close"})
                response = connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException):
                self.unanswered.add(number)  # its worker was killed
            else:
                if response.status == http.client.OK and body:
                    self.answered[number] = int(body.split()[0])
                else:
                    self.strange.append(f"{number}: {response.status} {body!r}")
            finally:
                connection.close()
            number += CLIENTS

    def wait_for_more(self) -> None:
        wanted = len(self.answered) + REQUESTS
        until(lambda: len(self.answered) >= wanted or self.strange)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * SECONDS)
            assert not thread.is_alive()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as made:
        yield made


@pytest.fixture
def backend() -> Iterator[OtlpHttpServer]:
    with OtlpHttpServer() as server:
        yield server


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def has_killed_one(server: int, seen: set[int]) -> bool:
    """Kill a worker, and add all to those that were seen; return whether one was there: they come and go."""
    workers = children_of(server)
    seen.update(workers)
    for pid in workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return True
    return False


def lease_of(span: Span) -> int:
    for attribute in span.attributes:
        if attribute.key == "grafos.lease.id":
            return int(attribute.value.string_value, 16)
    raise AssertionError("a span without a lease")


def marks_of(name: str) -> list[pytest.MarkDecorator]:
    if "lazy" in name:  # uWSGI keeps its workers waiting whose lives are short
        return [pytest.mark.soak]
    return [] if name == "gunicorn" else [pytest.mark.prove]


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks_of(name)) for name in SERVERS])
def test_every_request_arrives_once(
    ring_dir: Path, tmp_path: Path, listener: socket.socket, backend: OtlpHttpServer, name: str
) -> None:
    begin, options, preload = SERVERS[name]
    if begin is UWSGI and not Path(UWSGI[0]).exists():
        pytest.skip("no wheel of uWSGI for this Python and machine")
    command = [*begin, f"fd://{listener.fileno()}", *options]
    environment = os.environ | {"RINGBUF_DIR": str(ring_dir), "BOOT": str(BOOT)}
    log = tmp_path / "server.log"
    # In a folder of its own: servers put theirs first on sys.path, and the checkout is not what is to be tested.
    shutil.copy(Path(__file__).with_name("prefork_app.py"), tmp_path)
    drain_settings = ("--exporter", "otlp-http", "--endpoint", backend.url, "--timeout", SECONDS)
    with (
        DrainProcess(tmp_path / "drain.log", ring_dir, *drain_settings) as drain,
        log.open("wb") as stderr,
        subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=stderr, stderr=stderr, pass_fds=[listener.fileno()]
        ) as server,
    ):
        seen: set[int] = set()
        try:
            with Clients(listener.getsockname()) as clients:
                clients.wait_for_more()
                for _ in range(3):  # killed in the midst of requests
                    until(lambda: has_killed_one(server.pid, seen))
                    clients.wait_for_more()
                server.send_signal(signal.SIGHUP)  # graceful: all workers are replaced
                clients.wait_for_more()
                clients.wait_for_more()
                # Of before, of after, and in the place of the killed: one that is held up answers less.
                until(lambda: len(set(clients.answered.copy().values())) >= 2 * WORKERS + 3 or clients.strange)
                seen.update(children_of(server.pid))
        finally:
            server.terminate()
            status = server.wait(SECONDS)
        assert status == 0, log.read_text()
        assert not clients.strange, clients.strange
        until(lambda: not any(is_alive(pid) for pid in seen))  # of one that was killed the end may be under way
        until(lambda: ring_files(ring_dir) == [])  # delivered, and removed
        assert drain.stop() == 0
    sums = drain.audit()["web"]
    leases = [lease_of(span) for request in list(backend.requests) for span in request.spans]
    ids = [span.span_id for request in list(backend.requests) for span in request.spans]
    assert len(ids) == len(set(ids)) == sums["published"] == sums["delivered"]
    times = Counter(lease for lease in leases if lease < BOOT)
    # Two spans a request: of those that no answer came to, none, the inner or both may have been written.
    assert {number for number, count in times.items() if count != 2} <= clients.unanswered
    assert clients.answered.keys() <= times.keys() <= clients.answered.keys() | clients.unanswered
    assert max(times.values()) == 2
    workers_that_answered = set(clients.answered.values())
    imported_in = {lease - BOOT for lease in leases if lease >= BOOT}
    if preload:
        assert imported_in == {server.pid}
    else:
        assert workers_that_answered <= imported_in
