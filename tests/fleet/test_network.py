"""The fleet's network does to packets what its tests count on, and nothing of it is left behind."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fleet.network import Network, NoNetwork, inside, remove_what_is_left
from tests.python import command
from tests.waiting import SECONDS, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fleet.network import Node

PORT = 4000
NAMES = Path("/run/netns")
IMPATIENT = 0.3
HOLDS_A_NETWORK = """
import signal, subprocess, sys, time
from pathlib import Path
from tests.fleet.network import Network, inside
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a script has it ignored
with Network() as network:
    node = network.add("host-1", delay_ms=5)
    with inside(node):
        subprocess.Popen([sys.executable, "-Ic", "import time; time.sleep(300)"])
    Path(sys.argv[1]).touch()
    time.sleep(300)
"""


@pytest.fixture
def server(network: Network) -> Iterator[Node]:
    """Return a node that answers each connection with a word."""
    node = network.add("gateway-1")
    with inside(node):
        listener = socket.create_server((node.address, PORT))

    def serve() -> None:
        with suppress(OSError):  # it is shut down
            while True:
                with listener.accept()[0] as connection, suppress(OSError):
                    connection.sendall(b"hello")

    thread = threading.Thread(target=serve)
    thread.start()
    yield node
    listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    listener.close()


def answer(client: Node, server: Node, seconds: float = IMPATIENT) -> bytes | None:
    """Return what the server says; None where nothing comes in time."""
    with (
        inside(client),
        suppress(TimeoutError),
        socket.create_connection((server.address, PORT), seconds) as connection,
    ):
        return connection.recv(10)
    return None


def test_each_fault_is_there_while_it_lasts(network: Network, server: Node) -> None:
    near, far = network.add("host-1"), network.add("host-2", delay_ms=20)
    for client, node, fault in ((near, near, network.dark), (near, server, network.mute), (far, server, network.dark)):
        assert answer(client, server, 10) == b"hello"
        with fault(node):
            assert answer(client, server) is None
        with network.unplugged(client), pytest.raises(OSError, match="unreachable"):
            answer(client, server)
        with network.narrow(client), network.lossy(server):
            until(lambda client=client: answer(client, server, 10) == b"hello")  # type: ignore[misc]  # cannot infer it
        assert answer(client, server, 10) == b"hello"


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.usefixtures("network")
def test_nothing_is_left_of_a_process_that_was_ended(ending: signal.Signals, tmp_path: Path) -> None:
    """By Ctrl-C it cleans up; what a kill leaves the next network removes."""
    there = tmp_path / "there"
    process = subprocess.Popen(command(HOLDS_A_NETWORK, there), stderr=subprocess.DEVNULL)
    try:
        until(there.exists)
        assert list(NAMES.glob(f"rbf{process.pid}-*"))
        process.send_signal(ending)
        descriptor = os.pidfd_open(process.pid)
        ended, _, _ = select.select([descriptor], [], [], SECONDS)
        os.close(descriptor)
        assert ended
        if ending == signal.SIGKILL:  # nobody else removes it before its pid is free
            assert list(NAMES.glob(f"rbf{process.pid}-*"))
    finally:
        process.kill()
        process.wait()
    if ending == signal.SIGKILL:
        remove_what_is_left()
    assert not list(NAMES.glob(f"rbf{process.pid}-*"))
    assert list(NAMES.glob(f"rbf{os.getpid()}-*")), "another's is not touched"


def test_without_root_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NoNetwork, match="need root"):
        Network()
