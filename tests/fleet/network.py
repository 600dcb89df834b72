"""Network namespaces as the machines of a fleet, each with a link of its own to a router, and faults on these links.

All names begin with `rbf` and the process's id: what a test that was killed has left is found by them, and removed by
the next. A namespace takes its links, rules and routes with it; its processes are ended first.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from tests.waiting import comes_true

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMED: Final = Path("/run/netns")
_FAMILY: Final = "rbf"
_NEW_NETWORK: Final = 0x4000_0000
_RULES: Final = """
table inet faults {
    set dark { type ipv4_addr; }
    set mute { type ipv4_addr; }
    set lossy { type ipv4_addr; }
    chain forward {
        type filter hook forward priority 0;
        ip saddr @dark drop
        ip daddr @dark drop
        ip saddr @mute drop
        ip saddr @lossy numgen random mod 100 < 20 drop
        ip daddr @lossy numgen random mod 100 < 20 drop
    }
}
"""
_SECONDS: Final = 60.0  # bounds a wait that goes wrong
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class NoNetwork(Exception):  # noqa: N818 - it is a reason to skip
    """No namespace can be made here; the text says why."""


@dataclass(frozen=True)
class Node:
    """A machine of the fleet.

    Attributes:
        name: as it was added.
        namespace: its name for `ip netns`.
        address: of its one link.
        router: the link's other end.
    """

    name: str
    namespace: str
    address: str
    router: str


class Network:
    """A router, and the nodes that are added.

    Raises:
        NoNetwork: this machine does not let us.
    """

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise NoNetwork("network namespaces need root")
        remove_what_is_left()
        self._prefix = f"{_FAMILY}{os.getpid()}-"
        self._router = f"{self._prefix}router"
        self._relays: list[subprocess.Popen[str]] = []
        self._nodes = 0
        try:
            _run("ip", "netns", "add", self._router)
        except subprocess.CalledProcessError as error:
            raise NoNetwork(f"ip netns add: {error.stderr.strip()}") from None
        try:
            _ip(self._router, "link set lo up")
            _set_in(self._router, "net/ipv4/ip_forward", "1")
            self._nft(_RULES)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End what runs in the namespaces, and remove them."""
        for relay in self._relays:
            relay.kill()
            relay.communicate()
        _remove(self._prefix)

    def add(self, name: str, delay_ms: int = 0) -> Node:
        """Add a node; with a delay its packets take so long in each direction."""
        self._nodes += 1
        subnet = f"10.213.{self._nodes}"
        node = Node(name, self._prefix + name, f"{subnet}.2", f"{subnet}.1")
        link = f"to-{name}"
        _run("ip", "netns", "add", node.namespace)
        if delay_ms:
            self._relays.append(_relay(node.namespace, self._router, link, delay_ms))
        else:
            _run(
                "ip",
                "link",
                "add",
                "e0",
                "netns",
                node.namespace,
                *("type", "veth", "peer"),
                link,
                "netns",
                self._router,
            )
        _ip(self._router, f"addr add {node.router}/24 dev {link}", f"link set {link} up")
        _ip(node.namespace, "link set lo up", f"addr add {node.address}/24 dev e0")
        _plug_in(node)
        return node

    @contextlib.contextmanager
    def unplugged(self, node: Node) -> Iterator[None]:
        """Take its link down: whoever sends there is told at once that nobody can be reached."""
        _ip(node.namespace, "link set e0 down")
        try:
            yield
        finally:
            _plug_in(node)

    @contextlib.contextmanager
    def dark(self, node: Node) -> Iterator[None]:
        """Let all of its packets vanish, in both directions."""
        with self._listed("dark", node):
            yield

    @contextlib.contextmanager
    def mute(self, node: Node) -> Iterator[None]:
        """Let what it sends vanish; it hears."""
        with self._listed("mute", node):
            yield

    @contextlib.contextmanager
    def lossy(self, node: Node) -> Iterator[None]:
        """Let a fifth of its packets vanish."""
        with self._listed("lossy", node):
            yield

    @contextlib.contextmanager
    def narrow(self, node: Node) -> Iterator[None]:
        """Let it send 40 kB a second."""
        tbf = ("tbf", "rate", "320kbit", "burst", "5kb", "latency", "300ms")
        _run("tc", "-n", node.namespace, "qdisc", "replace", "dev", "e0", "root", *tbf)
        try:
            yield
        finally:
            _run("tc", "-n", node.namespace, "qdisc", "del", "dev", "e0", "root")

    def forward_loopback(self, ports: list[int], server: Node, *clients: Node) -> None:
        """Let ports of 127.0.0.1 at the clients be those of 127.0.0.1 at the server, over the links.

        For brokers that tell their clients to come to 127.0.0.1.
        """
        listed = ", ".join(map(str, ports))
        for node in (server, *clients):
            _set_in(node.namespace, "net/ipv4/conf/all/route_localnet", "1")
        with inside(server):
            _nft(
                "table ip brokers {\nchain in {\ntype nat hook prerouting priority -100\n"
                f"tcp dport {{ {listed} }} dnat to 127.0.0.1\n}}\n}}\n"
            )
        for client in clients:
            with inside(client):
                _nft(
                    "table ip brokers {\nchain out {\ntype nat hook output priority -100\n"
                    f"ip daddr 127.0.0.1 tcp dport {{ {listed} }} dnat to {server.address}\n}}\n"
                    "chain post {\ntype nat hook postrouting priority 100\n"
                    'ip saddr 127.0.0.1 oifname "e0" masquerade\n}\n}\n'
                )

    @contextlib.contextmanager
    def _listed(self, which: str, node: Node) -> Iterator[None]:
        self._nft(f"add element inet faults {which} {{ {node.address} }}")
        try:
            yield
        finally:
            self._nft(f"delete element inet faults {which} {{ {node.address} }}")

    def _nft(self, rules: str) -> None:
        with _inside(self._router):
            _nft(rules)


@contextlib.contextmanager
def inside(node: Node) -> Iterator[None]:
    """Put this thread on a node: the sockets, processes and threads that it makes are there, and stay there."""
    with _inside(node.namespace):
        yield


def remove_what_is_left() -> None:
    """Remove the namespaces of processes that are no more; of two who find the same, one waits for the other."""
    descriptor = os.open(_NAMED.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for path in _NAMED.glob(f"{_FAMILY}[0-9]*-*"):
            pid = path.name.removeprefix(_FAMILY).partition("-")[0]
            if not Path("/proc", pid).exists():
                _remove(f"{_FAMILY}{pid}-")
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _inside(namespace: str) -> Iterator[None]:
    with Path("/proc/thread-self/ns/net").open() as home, (_NAMED / namespace).open() as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "setns")


def _plug_in(node: Node) -> None:
    # The kernel forgets the routes of a link that goes down.
    _ip(node.namespace, "link set e0 up", f"route replace default via {node.router} dev e0")


def _relay(namespace: str, router: str, link: str, delay_ms: int) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("relay.py")
    relay = subprocess.Popen(
        [sys.executable, "-I", str(script), str(_NAMED / namespace), "e0", str(_NAMED / router), link, str(delay_ms)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert relay.stdout is not None
    has_said = select.select([relay.stdout], [], [], _SECONDS)[0]  # it says one line, or ends
    if not has_said or relay.stdout.readline().strip() != "ready":
        relay.kill()
        relay.communicate()
        raise NoNetwork("no TUN device can be made")
    return relay


def _remove(prefix: str) -> None:
    for path in _NAMED.glob(f"{prefix}*"):
        for pid in _pids_in(path.name):
            if pid != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        comes_true(partial(_is_empty, path.name), within=_SECONDS)
        _run("ip", "netns", "del", path.name)


def _pids_in(namespace: str) -> list[int]:
    return [int(pid) for pid in _run("ip", "netns", "pids", namespace).split()]


def _is_empty(namespace: str) -> bool:
    return not _pids_in(namespace)


def _set_in(namespace: str, name: str, value: str) -> None:
    with _inside(namespace):
        Path("/proc/sys", name).write_text(value)


def _ip(namespace: str, *lines: str) -> None:
    _run("ip", "-n", namespace, "-batch", "-", text="".join(f"{line}\n" for line in lines))


def _nft(rules: str) -> None:
    _run("nft", "-f", "-", text=rules)


def _run(*command: str, text: str = "") -> str:
    environment = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, check=False, env=environment, timeout=_SECONDS
    )
    if done.returncode:
        print(command, text, done.stderr)  # noqa: T201 - pytest shows it when the test fails
        done.check_returncode()
    return done.stdout
