"""The addresses behind the names of endpoints, looked up again and again: each is a gateway of its own.

So it is with a headless service of Kubernetes, whose name has the address of every pod that is ready. One that is
missing in a look-up has left only when the next does not have it either: a pod that is not ready for a moment has its
traces back, and of what waits for it nothing is sent elsewhere. A look-up that fails, or finds nothing, changes
nothing: a name server that is away must not take the gateways away.
"""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import structlog

from drain.exporters.endpoint import DEFAULT_PORTS, host_and_port
from drain.exporters.name_resolution import addresses_of
from drain.log import RepeatedTrouble
from drain.settings.secrets_in_urls import without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from structlog.typing import FilteringBoundLogger

    from drain.exporters.gateways.gateways import Gateways
    from drain.exporters.name_resolution import Address
    from drain.exporters.protocol import Exporter

_LOOK_UP_SECONDS: Final = 5.0
_MISSES: Final = 2  # look-ups in a row, after which an address has left


class Discovery:
    """Keeps gateways in step with the addresses of their endpoints.

    Args:
        endpoints: as they are configured.
        make: an exporter to an endpoint at one of its addresses; None: at whatever it connects to.
        interval: seconds between look-ups.
        look_up: of host, port, and seconds that it may take; see `addresses_of`.
        log: for what has changed; None: structlog's.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        make: Callable[[str, str | None], Exporter],
        interval: float,
        look_up: Callable[[str, int, float], Sequence[Address]] = addresses_of,
        log: FilteringBoundLogger | None = None,
    ) -> None:
        self._make = make
        self._interval = interval
        self._look_up = look_up
        self._log: FilteringBoundLogger = structlog.get_logger() if log is None else log
        self._trouble = RepeatedTrouble(self._log)
        # Of each endpoint: its addresses, and in how many look-ups in a row each was missing.
        self._known: dict[str, dict[str, int]] = {endpoint: {} for endpoint in endpoints}
        self._is_closed = threading.Event()

    def members(self) -> dict[str, tuple[str, str | None]]:
        """Look all names up at the same time; return the gateways by name, each with its endpoint and its address.

        An endpoint that has never had an address is a gateway itself. A name server that does not answer takes five
        seconds, however many names there are.
        """
        look_ups = [
            # Daemons: the end of the drain does not wait for a name server.
            threading.Thread(target=self._update, args=one, name="discovery", daemon=True)
            for one in self._known.items()
        ]
        for look_up in look_ups:
            look_up.start()
        for look_up in look_ups:
            look_up.join()
        members: dict[str, tuple[str, str | None]] = {}
        for endpoint, known in self._known.items():
            for address in known:
                members.setdefault(name_at(endpoint, address), (endpoint, address))
            if not known:
                members[without_secrets(endpoint)] = (endpoint, None)
        return members

    def look(self, gateways: Gateways) -> None:
        """Look all names up, and let the gateways be those that are found."""
        members = self.members()
        before = gateways.exporters
        if members.keys() == before.keys():
            return
        exporters: dict[str, Exporter] = {}
        for name, (endpoint, address) in members.items():
            try:
                exporters[name] = before[name] if name in before else self._make(endpoint, address)
            except ValueError as error:  # in the middle of a rotation of certificates: the next look-up tries again
                self._trouble.warn("a gateway cannot be used", gateway=name, reason=str(error))
        if not exporters or exporters.keys() == before.keys():
            return
        self._log.info(
            "gateways have changed",
            joined=[name for name in exporters if name not in before],
            left=[name for name in before if name not in exporters],
            gateways=len(exporters),
        )
        gateways.become(exporters, {name: without_secrets(members[name][0]) for name in exporters})

    def follow(self, gateways: Gateways) -> None:
        """Look again and again, in a thread, until `close`."""
        threading.Thread(target=self._run, args=(gateways,), name="discovery", daemon=True).start()

    def close(self) -> None:
        """Change nothing any more; does not wait for a look-up."""
        self._is_closed.set()

    def _run(self, gateways: Gateways) -> None:
        while not self._is_closed.wait(self._interval):
            try:
                self.look(gateways)
            except Exception as error:  # noqa: BLE001 - no memory, no thread: the next look-up tries again
                self._trouble.warn("gateways cannot be looked up", reason=repr(error))

    def _update(self, endpoint: str, known: dict[str, int]) -> None:
        host, port = host_and_port(endpoint)
        try:
            found = _of_one_family(self._look_up(host, port, _LOOK_UP_SECONDS))
        except Exception as error:  # noqa: BLE001 - no answer, no name, no memory: the next look-up tries again
            self._trouble.warn(
                "an endpoint's name cannot be looked up, its addresses stay",
                endpoint=without_secrets(endpoint),
                reason=str(error) or repr(error),
            )
            return
        for address in found:
            known[address] = 0
        for address in [address for address in known if address not in found] if found else ():
            known[address] += 1
            if known[address] >= _MISSES:
                del known[address]


def name_at(endpoint: str, address: str) -> str:
    """Return the name of the gateway at one address of an endpoint: the same, whoever looked it up.

    >>> name_at("https://gateways:4318/otlp", "10.0.0.7"), name_at("gateways:4317", "fd00::7")
    ('https://10.0.0.7:4318/otlp', '[fd00::7]:4317')
    """
    scheme, separator, rest = without_secrets(endpoint).rpartition("://")
    url = urlsplit(f"//{rest.lstrip('/')}")
    host, port = f"[{address}]" if ":" in address else address, host_and_port(endpoint)[1]
    prefix = f"{scheme}{separator}" if scheme.lower() in DEFAULT_PORTS else ""
    return f"{prefix}{host}:{port}{url.path}" + (f"?{url.query}" if url.query else "")


def _of_one_family(addresses: Sequence[Address]) -> list[str]:
    """Return the addresses of IPv4 where there are any: a pod with two addresses is one gateway."""
    by_family: dict[int, dict[str, None]] = {}
    for family, *_, place in addresses:
        by_family.setdefault(family, {})[place[0]] = None
    return sorted(by_family.get(socket.AF_INET) or next(iter(by_family.values()), {}))
