"""Three hosts, each with a ring directory, a producer and a drain: what is done to them, and the sums over all."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.fleet.network import inside
from tests.service.draining import SECONDS, DrainProcess, ring_files
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.fleet.network import Network, Node
    from tests.service.storm.arrived import Arrived

HOSTS: Final = ("host-1", "host-2", "host-3")
WITHOUT_SPOOL: Final = "host-2"
FAR_AWAY: Final = "host-3"
_DELAY_MS: Final = 30
_RATE: Final = 1000
_PATIENT: Final = ("--retry-initial", 0.05, "--retry-maximum", 0.5, "--batch-delay", 0.1)
_STOP: Final = ("--shutdown-timeout", 20, "--listen", "off")
_LOST: Final = ("rejected", "dead_lettered", "invalid", "quarantined", "expired", "dropped", "damaged")


@dataclass
class Host:
    """A machine with producers.

    Attributes:
        node: where its drain and producers run.
        ring_dir: of its own.
        drain: that serves it.
        producer: emits for as long as its input is open.
    """

    node: Node
    ring_dir: Path
    drain: DrainProcess
    producer: subprocess.Popen[str]


class Fleet:
    """The hosts, under load.

    Args:
        network: where they are added.
        ring_dir: a folder on a tmpfs, in which each host gets its own.
        folder: for logs and spools.
        seed: of all choices.

    Attributes:
        dice: for whoever strikes.
        hosts: by name.
        strikes: how often each trouble was made.
        stack: ends all.
    """

    def __init__(self, network: Network, ring_dir: Path, folder: Path, seed: int) -> None:
        self.dice = random.Random(seed)  # noqa: S311 - a seed is what is wanted
        self.network = network
        self.nodes = {name: network.add(name, _DELAY_MS if name == FAR_AWAY else 0) for name in HOSTS}
        self.hosts: dict[str, Host] = {}
        self.strikes: Counter[str] = Counter()
        self.stack = contextlib.ExitStack()
        self._ring_dir = ring_dir
        self._folder = folder
        self._victims = 0
        self._decks: dict[tuple[str, ...], list[str]] = {}

    def begin(self, destination: Sequence[object]) -> None:
        """Start drains and producers.

        Args:
            destination: the drains' arguments that say where the spans go.
        """
        self._destination = destination
        for name, node in self.nodes.items():
            ring_dir = self._ring_dir / name
            ring_dir.mkdir(mode=0o700)
            # So small that an outage of a second is counted as `full` where no spool takes the spans.
            capacity = 512 if name == WITHOUT_SPOOL else 4096
            script = Path(__file__).with_name("producer.py")
            line = [sys.executable, "-I", str(script), str(ring_dir), name, str(capacity), str(_RATE)]
            drain = self._drain(name, ring_dir)
            drain.wait_for_event("serving")
            self.hosts[name] = Host(node, ring_dir, drain, self._start(node, line))

    def drawn(self, kinds: Sequence[str]) -> str:
        """Return one of these, at random, but none a second time before all have been."""
        deck = self._decks.setdefault(tuple(kinds), [])
        if not deck:
            deck += self.dice.sample(kinds, len(kinds))
        return deck.pop()

    def strike_a_link(self, nodes: Sequence[Node], seconds: float) -> None:
        """Let something happen to the link of one of these for so long."""
        kinds = {
            "link down": self.network.unplugged,
            "black hole": self.network.dark,
            "answers lost": self.network.mute,
            "loss": self.network.lossy,
            "narrow": self.network.narrow,
        }
        what = self.drawn([*kinds])
        self.strikes[what] += 1
        with kinds[what](self.dice.choice(nodes)):
            time.sleep(seconds)

    def strike_a_process(self, what: str, seconds: float) -> None:
        """Kill a host's "drain", or a "producer" of it."""
        self.strikes[what] += 1
        host = self.dice.choice([*self.hosts.values()])
        if what == "drain":
            host.drain.kill()
            time.sleep(seconds / 4)
            host.drain = self._drain(host.node.name, host.ring_dir)
        else:
            self._kill_a_producer(host)

    def settle(self, arrived: Callable[[], Arrived]) -> dict[str, dict[str, int]]:
        """Let the producers end and all come home; return the sums of each host, which add up.

        Args:
            arrived: reads on, and returns what has arrived.
        """
        counts: dict[str, dict[str, int]] = {
            name: json.loads(host.producer.communicate("", timeout=SECONDS)[0]) for name, host in self.hosts.items()
        }

        def is_home() -> bool:
            found = arrived()
            return all(found.distinct(name) >= counts[name]["published"] for name in self.hosts)

        def is_whole() -> bool:
            # Nobody can say how many a victim had published; but none may be missing that came before the last.
            found = (arrived().numbers.get(f"victim-{victim}", Counter()) for victim in range(self._victims))
            return all(set(numbers) == set(range(len(numbers))) for numbers in found)

        def wait_for(condition: Callable[[], bool]) -> None:
            until(
                condition,
                within=3 * SECONDS,
                why=lambda: f"{counts} { ({name: len(numbers) for name, numbers in arrived().numbers.items()}) }",
            )

        wait_for(is_home)
        until(lambda: not [ring for host in self.hosts.values() for ring in ring_files(host.ring_dir)])
        wait_for(is_whole)  # as long as the drains run: what waits at their end stays where it is
        sums = {}
        for name, host in self.hosts.items():
            assert host.drain.stop() in {0, 1}, host.drain.log.read_text()  # 1: there were drops, which are counted
            audit = host.drain.audit()[name]
            spool = host.drain.events("audit")[-1].get("spool", {}).get(name, {})
            lost = sum(one.get(word, 0) for one in (audit, spool) for word in _LOST)
            waiting = audit.get("pending", 0) + spool.get("waiting", 0)
            numbers = arrived().numbers[name]
            sums[name] = counts[name] | {
                "arrived": len(numbers),
                "again": numbers.total() - len(numbers),
                "lost": lost,
                "waiting": waiting,
            }
            dropped = sum(counts[name][word] for word in ("full", "contended", "local"))
            assert counts[name]["attempts"] == len(numbers) + dropped + lost + waiting, sums[name]
            assert counts[name]["published"] == audit["published"], sums[name]
        wait_for(is_whole)  # a gateway may have what it has not handed on
        return sums

    def _drain(self, name: str, ring_dir: Path) -> DrainProcess:
        stored = ("--state-dir", self._folder / name, "--spool-after", 0.2)
        spool = ("--state-dir", "off") if name == WITHOUT_SPOOL else stored
        with inside(self.nodes[name]):
            return self.stack.enter_context(
                DrainProcess(
                    self._folder / f"{name}.log",
                    ring_dir,
                    *self._destination,
                    *spool,
                    *_PATIENT,
                    *_STOP,
                    is_forked=False,
                )
            )

    def _start(self, node: Node, line: list[str]) -> subprocess.Popen[str]:
        with inside(node):
            process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.stack.callback(process.communicate)
        self.stack.callback(process.kill)
        return process

    def _kill_a_producer(self, host: Host) -> None:
        script = Path(__file__).parents[1] / "service" / "storm" / "storm_producer.py"
        seed = str(self.dice.getrandbits(32))
        line = [sys.executable, "-I", str(script), str(host.ring_dir), f"victim-{self._victims}", seed]
        self._victims += 1
        victim = self._start(host.node, line)
        time.sleep(0.5 + self.dice.random() * 0.5)
        victim.kill()
        victim.communicate()
