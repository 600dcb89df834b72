"""The storm: receiver, drain and producers are killed at random under load, and no published span is missing."""

from __future__ import annotations

import contextlib
import random
import secrets
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kept_bodies import bodies_in
from tests.ports import free_ports
from tests.python import command
from tests.service.draining import SECONDS, DrainProcess, ring_files, until
from tests.service.storm.arrived import Arrived

if TYPE_CHECKING:
    from collections.abc import Iterator

STEADY = ("steady-0", "steady-1")


class Storm:
    """The processes of a storm, and what is done to them."""

    def __init__(self, ring_dir: Path, folder: Path, seed: int) -> None:
        self.dice = random.Random(seed)  # noqa: S311 - a seed is what is wanted
        self.ring_dir = ring_dir
        self.folder = folder
        (self.port,) = free_ports(1)
        self.kept: list[Path] = []
        self.read_to: Counter[Path] = Counter()  # bytes of each
        self.arrived = Arrived()
        self.log = folder / "drain.log"
        self.kills: Counter[str] = Counter()
        self.victims = 0
        self.stack = contextlib.ExitStack()
        self.receiver = self.start_receiver()
        self.drain = self.start_drain()
        self.steady = {service: self.start_producer(service) for service in STEADY}

    def start(self, line: list[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            line,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # of a receiver whose client is killed
            text=True,
        )
        self.stack.callback(process.communicate)
        self.stack.callback(process.kill)
        return process

    def start_receiver(self) -> subprocess.Popen[str]:
        # A file for each: the last body of one that was killed may be cut.
        self.kept.append(self.folder / f"kept-{len(self.kept)}")
        code = "from tests.service.storm.storm_receiver import main\nmain()"
        return self.start(command(code, self.port, self.kept[-1], self.dice.getrandbits(32)))

    def start_producer(self, service: str) -> subprocess.Popen[str]:
        script = [sys.executable, "-I", str(Path(__file__).with_name("storm_producer.py"))]
        return self.start([*script, str(self.ring_dir), service, str(self.dice.getrandbits(32))])

    def start_drain(self) -> DrainProcess:
        return self.stack.enter_context(
            DrainProcess(
                self.log,
                self.ring_dir,
                *("--exporter", "otlp-http", "--endpoint", f"http://127.0.0.1:{self.port}", "--timeout", 2),
                *("--state-dir", self.folder / "state", "--spool-after", 0.05, "--batch-delay", 0.02),
                *("--retry-initial", 0.02, "--retry-maximum", 0.2, "--listen", "off", "--shutdown-timeout", 20),
            )
        )

    def strike(self) -> None:
        """Kill one of them, and start another in its place."""
        self.strike_one(self.dice.choice(["receiver", "drain", "producer"]))

    def strike_one(self, what: str) -> None:
        self.kills[what] += 1
        match what:
            case "receiver":
                self.receiver.kill()
                self.receiver.communicate()
                time.sleep(self.dice.random() * 0.5)
                self.receiver = self.start_receiver()
            case "drain":
                self.drain.kill()
                self.drain = self.start_drain()
            case _:
                victim = self.start_producer(f"victim-{self.victims}")
                self.victims += 1
                time.sleep(0.3 + self.dice.random() * 0.5)
                victim.kill()
                victim.communicate()

    def calm_down(self) -> dict[str, int]:
        """Let the steady producers end; return how many spans each has published."""
        return {service: int(process.communicate("stop\n")[0]) for service, process in self.steady.items()}

    def new_bodies(self) -> Iterator[bytes]:
        """Return what the receivers have kept since the last look; of a body that is being written nothing yet."""
        for kept in self.kept:
            bodies, self.read_to[kept] = bodies_in(kept, self.read_to[kept])
            yield from bodies

    def missing(self, published: dict[str, int]) -> dict[str, int]:
        """Return how many numbers of each service have not arrived, of those that miss any."""
        self.arrived.add(self.new_bodies())
        missing = {service: count - self.arrived.distinct(service) for service, count in published.items()}
        return {service: count for service, count in missing.items() if count}


def rage(ring_dir: Path, folder: Path, seconds: float, storm_of: type[Storm] = Storm) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it when the test fails
    storm = storm_of(ring_dir, folder, seed)
    with storm.stack:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(storm.dice.random() * 0.5)
            storm.strike()
        published = storm.calm_down()
        until(lambda: not ring_files(ring_dir))
        # The drain that ends sends what is spooled; what its patience does not suffice for the next one sends.
        assert storm.drain.stop() in {0, 1}
        services = storm.drain.audit()
        storm.drain = storm.start_drain()
        storm.drain.wait_for_event("serving")  # before that a stop ends it at once
        # Flat out, two million spans wait in the spool.
        until(
            lambda: not storm.missing(published),
            within=8 * SECONDS,
            why=lambda: f"seed {seed}: of {published} are missing {storm.missing(published)}",
        )
        assert storm.drain.stop() in {0, 1}
        storm.drain.audit()
    print(dict(storm.kills), published, services)  # noqa: T201 - the report of a soak
    assert not storm.missing(published)
    found = storm.arrived.numbers
    for service, count in published.items():
        assert set(found[service]) == set(range(count)), f"{service}: a published span is missing"
    for victim in range(storm.victims):
        # Nobody can say how many it had published; but none of those may be missing that came before the last.
        arrived = found.get(f"victim-{victim}", Counter())
        assert set(arrived) == set(range(len(arrived)))
    assert min(storm.kills.values()) > 0 or seconds < 60, "the storm was too short to strike everybody"


@pytest.mark.prove
def test_no_published_span_is_missing_after_a_short_storm(ring_dir: Path, tmp_path: Path) -> None:
    rage(ring_dir, tmp_path, 12)


@pytest.mark.soak
def test_no_published_span_is_missing_after_a_long_storm(ring_dir: Path, tmp_path: Path) -> None:
    rage(ring_dir, tmp_path, 300)
