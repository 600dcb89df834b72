"""Without descriptors (EMFILE) producers say why; a drain serves the rings that it has, and the rest later."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

import ringbuf
from tests.otlp_server import OtlpHttpServer
from tests.ports import free_ports
from tests.python import output_of
from tests.service.draining import LAYOUT, DrainProcess, emit, ring_files, until

if TYPE_CHECKING:
    from pathlib import Path

RINGS = 60
DESCRIPTORS = 64
CLIENTS = 60
FEW = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({DESCRIPTORS}, {DESCRIPTORS}))"

PRODUCER = """
import logging, os, resource, sys
import ringbuf
from ringbuf.log import wait_until_told
from tests.service.draining import LAYOUT, emit

first = ringbuf.Emitter("shop", ring_dir=sys.argv[1], layout=LAYOUT, capacity=64)
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
taken = []
try:
    while True:
        taken.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
print("goes on:", emit(first, range(5)))
try:
    ringbuf.Emitter("late", ring_dir=sys.argv[1], layout=LAYOUT, capacity=64)
except (ringbuf.RingBufferError, OSError) as error:
    print("a ring more:", "Too many open files" in str(error))
said = []
logging.getLogger("ringbuf").addHandler(logging.Handler())
logging.getLogger("ringbuf").handlers[-1].emit = lambda record: said.append(record.getMessage())
pid = os.fork()
if not pid:
    results = [emit(first, range(1)) for _ in range(3)]
    wait_until_told(60)
    is_right = results == [0, 0, 0] and first.stats().local == 3 and len(said) == 1 and "Too many" in said[0]
    os._exit(0 if is_right else 1)
print("a child counts and warns once:", os.waitpid(pid, 0)[1])
for fd in taken:
    os.close(fd)
ringbuf.Emitter("late", ring_dir=sys.argv[1], layout=LAYOUT, capacity=64).close()
first.close()
"""


def test_a_producer_without_descriptors_goes_on_and_says_why_there_is_no_other_ring(ring_dir: Path) -> None:
    assert output_of(PRODUCER, ring_dir).splitlines() == [
        "goes on: 5",
        "a ring more: True",
        "a child counts and warns once: 0",
    ]


@pytest.mark.prove
def test_a_drain_with_fewer_descriptors_than_rings_serves_them_in_turn(ring_dir: Path, tmp_path: Path) -> None:
    with OtlpHttpServer() as server, ExitStack() as stack:
        emitters = [
            stack.enter_context(ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=64))
            for _ in range(RINGS)
        ]
        for number, emitter in enumerate(emitters):
            emit(emitter, range(number * 10, number * 10 + 10))
        (port,) = free_ports(1)
        flags = ("--exporter", "otlp-http", "--endpoint", server.url, "--retry-initial", 0.1, "--retry-maximum", 0.1)
        listen = ("--listen", f"127.0.0.1:{port}")
        with DrainProcess(tmp_path / "log", ring_dir, *flags, *listen, is_forked=False, before=FEW) as drain:
            said = drain.wait_for_event("ring cannot be attached now")
            assert "Too many open files" in said["reason"]
            attached = len(drain.events("ring attached"))
            assert 10 < attached < RINGS
            clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(CLIENTS)]
            until(lambda: sum(emitter.stats().pending == 0 for emitter in emitters) >= attached)
            for client in clients:
                client.close()
            for emitter in emitters:
                emitter.close()
            until(lambda: not ring_files(ring_dir))
            until(lambda: len(arrived(server)) >= RINGS * 10)
            assert drain.stop() == 0
        assert arrived(server) == list(range(RINGS * 10))


def arrived(server: OtlpHttpServer) -> list[int]:
    return sorted(span.start_time_unix_nano for request in server.requests for span in request.spans)
