"""Ports for programs that cannot choose one themselves."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

_FIRST = 10_240
_FEW = 2000


def free_ports(count: int) -> list[int]:
    """Return loopback ports that nobody listens on, and that no other test of this machine is given.

    Between this call and the program's own bind nobody gets them by chance: they lie below those that the kernel gives
    to connections, and each is reserved, until this process ends, by a name that only one can have. Where the kernel
    gives nearly all of them to connections, chance is all that keeps others off.
    """
    below = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    known = range(_FIRST, below if below > _FIRST + _FEW else 1 << 16)
    candidates = iter(random.sample(known, len(known)))
    ports: list[int] = []
    while len(ports) < count:
        port = next(candidates)
        if _is_free(port) and _reserved(port):
            ports.append(port)
    return ports


def _is_free(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
        return True
    return False


def _reserved(port: int) -> bool:
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0ringbuf-test-port-{port}")
    except OSError:
        name.close()
        return False
    name.detach()  # it stays open
    return True
