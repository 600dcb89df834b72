"""What systemd hears: READY, WATCHDOG at half of its time, STATUS and STOPPING, and nothing it did not ask for."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from drain.telemetry.systemd import ServiceManager
from tests.clocks import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def manager_at(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address)
        listening.setblocking(False)
        yield listening


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with manager_at(str(tmp_path / "notify")) as listening:
        yield listening


def heard(manager: socket.socket) -> list[str]:
    messages = []
    with contextlib.suppress(BlockingIOError):
        while True:
            messages.append(manager.recv(4096).decode())
    return messages


def of(manager: socket.socket, clock: Clock, **environ: str) -> ServiceManager:
    return ServiceManager({"NOTIFY_SOCKET": manager.getsockname(), **environ}, clock)


def test_ready_and_stopping_are_told_with_a_status_of_one_line(manager: socket.socket) -> None:
    service = of(manager, Clock())
    assert service.is_there
    service.ready("serving\nREADY=0")
    service.stopping("12 spans pending")
    assert heard(manager) == ["READY=1\nSTATUS=serving READY=0", "STOPPING=1\nSTATUS=12 spans pending"]
    service.close()


def test_the_watchdog_is_fed_at_half_of_its_time(manager: socket.socket) -> None:
    clock = Clock()
    service = of(manager, clock, WATCHDOG_USEC="8000000", WATCHDOG_PID=str(os.getpid()))
    for _ in range(9):
        service.alive(lambda: "")
        clock.now += 1
    assert heard(manager) == ["WATCHDOG=1"] * 2
    service.close()


def test_the_watchdog_of_another_process_is_left_alone(manager: socket.socket) -> None:
    clock = Clock()
    service = of(manager, clock, WATCHDOG_USEC="8000000", WATCHDOG_PID="1")
    clock.now += 9
    service.alive(lambda: "")
    assert heard(manager) == []
    service.close()


def test_a_status_is_told_every_ten_seconds(manager: socket.socket) -> None:
    clock = Clock()
    service = of(manager, clock)
    for _ in range(25):
        service.alive(lambda: f"at {clock.now}")
        clock.now += 1
    assert heard(manager) == ["STATUS=at 1010.0", "STATUS=at 1020.0"]
    service.close()


def test_a_name_that_is_in_no_file_system_works() -> None:
    name = f"ringbuf-test-{secrets.token_hex(8)}"
    with manager_at(f"\0{name}") as listening:
        service = ServiceManager({"NOTIFY_SOCKET": f"@{name}"})
        service.ready("serving")
        assert heard(listening) == ["READY=1\nSTATUS=serving"]
        service.close()


def test_children_do_not_inherit_the_socket(manager: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "HOME": "/"}
    service = ServiceManager(environ)
    assert environ == {"HOME": "/"}
    assert service._socket is not None
    assert not service._socket.get_inheritable()
    service.close()


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_without_a_manager_nothing_is_told(environ: dict[str, str]) -> None:
    clock = Clock()
    service = ServiceManager(environ, clock)
    clock.now += 100
    asked = ["status"]
    service.ready("")
    service.alive(asked.pop)
    assert not service.is_there
    assert asked, "nobody is there to read a status"


def test_a_manager_that_is_gone_or_does_not_listen_neither_stops_nor_delays_the_drain(manager: socket.socket) -> None:
    service = of(manager, Clock())

    def tell() -> None:
        for _ in range(10_000):  # far more than the socket's queue holds: a blocking send would wait here
            service.ready("serving")

    telling = threading.Thread(target=tell)
    telling.start()
    telling.join(120)
    is_held_up = telling.is_alive()
    manager.close()  # which ends such a wait
    telling.join()
    assert not is_held_up
    service.ready("serving")
    service.close()
