"""What a soak does to its processes and their surroundings, and takes back after a while."""

from __future__ import annotations

import contextlib
import heapq
import os
import signal
import socket
import time
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Final

from tests.soak.receiver import MOODS
from tests.soak.world import has_ended

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from tests.nursery import Child
    from tests.soak.world import World

LONGEST_MOOD_SECONDS: Final = 3.0
LONGEST_PAUSE_SECONDS: Final = 1.0
LONGEST_FULL_SECONDS: Final = 3.0
# The backend's refusals end as dead letters, which the disk must have room for, and the client's timeout is 2 s.
REFUSALS: Final = ("refusing", "redirecting")
REFUSALS_LINGER_SECONDS: Final = 4.0
SLOW_CLIENTS: Final = 40


class Troubles:
    """Chooses and does them.

    Args:
        world: what is to suffer.
        small_disks: whether rings and state lie on small disks of their own, which may be filled.

    Attributes:
        done: how many of each kind.
    """

    def __init__(self, world: World, *, small_disks: bool) -> None:
        self.world = world
        self.done: Counter[str] = Counter()
        self._undo: list[tuple[float, int, Callable[[], None]]] = []
        self._ties = count()
        self._is_filled: set[Path] = set()
        self._no_full_disk_until = 0.0
        kinds: list[tuple[int, Callable[[], str]]] = [
            (6, self.kill_producer),
            (3, self.kill_drain),
            (1, self.stop_drain),
            (2, self.kill_receiver),
            (4, self.pause_somebody),
            (8, self.change_mood),
            (2, self.let_a_vandal_in),
            (1, self.replace_directory),
            (1, self.cut_doorbell),
            (1, self.remove_lock),
            (2, self.open_slow_connections),
        ]
        if small_disks:
            kinds += [(2, self.fill_state_disk), (2, self.fill_ring_memory)]
        self._kinds = [kind for weight, kind in kinds for _ in range(weight)]

    def one(self) -> None:
        """Do one of them, and write down when."""
        name = self.world.dice.choice(self._kinds)()
        self.done[name] += 1
        self.world.write_down(name)

    def take_back(self, *, all_of_them: bool = False) -> None:
        """Undo what has lasted long enough."""
        while self._undo and (all_of_them or self._undo[0][0] <= time.monotonic()):
            heapq.heappop(self._undo)[2]()

    def _later(self, longest: float, undo: Callable[[], None]) -> None:
        when = time.monotonic() + self.world.dice.random() * longest
        heapq.heappush(self._undo, (when, next(self._ties), undo))

    def kill_producer(self) -> str:
        world = self.world
        if not world.producers:
            return "nothing"
        producer = world.dice.choice(world.producers)
        producer.kill()
        producer.wait()
        world.bury(producer, -signal.SIGKILL, 3)
        return "producer killed"

    def kill_drain(self) -> str:
        self.world.drain.kill()
        self.world.restart_drain(-signal.SIGKILL)
        return "drain killed"

    def stop_drain(self) -> str:
        self.world.drain.signal(signal.SIGCONT)
        self.world.restart_drain(None)
        return "drain stopped and started"

    def kill_receiver(self) -> str:
        world = self.world
        world.receiver.kill()
        world.receiver.communicate()
        time.sleep(world.dice.random() * 0.5)
        world.receiver = world.start_receiver()
        return "receiver killed"

    def pause_somebody(self) -> str:
        world = self.world
        processes: list[tuple[str, subprocess.Popen[str] | subprocess.Popen[bytes] | Child]] = [
            ("drain paused", world.drain.process),
            ("receiver paused", world.receiver),
            *(("producer paused", producer) for producer in world.producers),
        ]
        name, process = world.dice.choice(processes)
        process.send_signal(signal.SIGSTOP)
        self._later(LONGEST_PAUSE_SECONDS, lambda: process.send_signal(signal.SIGCONT))
        return name

    def change_mood(self) -> str:
        mood = self.world.dice.choice([mood for mood in MOODS if mood != "well"])
        if mood in REFUSALS:
            if self.world.state in self._is_filled:
                return "nothing"
            self._no_full_disk_until = time.monotonic() + LONGEST_MOOD_SECONDS + REFUSALS_LINGER_SECONDS
        self.world.set_mood(mood)
        self._later(LONGEST_MOOD_SECONDS, lambda: self.world.set_mood("well"))
        return f"receiver {mood}"

    def let_a_vandal_in(self) -> str:
        if self.world.vandal is not None:
            return "nothing"
        self.world.start_vandal()
        return "vandal among the rings"

    def replace_directory(self) -> str:
        """Give the directory another name, and make a new one; who has rings in the old one makes others."""
        world = self.world
        if world.vandal is not None and not has_ended(world.vandal):
            return "nothing"  # it would wait for its files, which are elsewhere
        old = world.rings / f"old-{len(world.old_ring_dirs)}"
        world.ring_dir.rename(old)
        world.old_ring_dirs.append(old)
        with contextlib.suppress(FileExistsError):  # somebody was quicker
            world.ring_dir.mkdir(mode=0o700)
        return "ring directory replaced"

    def cut_doorbell(self) -> str:
        try:
            os.truncate(self.world.ring_dir / "doorbell", 0)
        except FileNotFoundError:
            return "nothing"
        return "doorbell cut"

    def remove_lock(self) -> str:
        (self.world.ring_dir / "drain.lock").unlink(missing_ok=True)
        return "lock file removed"

    def open_slow_connections(self) -> str:
        """Connect to the page of metrics, and never finish the request."""
        stack = contextlib.ExitStack()
        for _ in range(SLOW_CLIENTS):
            client = stack.enter_context(socket.socket())
            client.settimeout(0.2)
            with contextlib.suppress(OSError):  # a drain that is just starting
                client.connect(("127.0.0.1", self.world.listen_port))
                client.sendall(b"GET /metrics HTTP/1.1\r\nX-")
        self._later(LONGEST_PAUSE_SECONDS, stack.close)
        return "slow clients of /metrics"

    def fill_state_disk(self) -> str:
        if time.monotonic() < self._no_full_disk_until or self.world.mood_file.read_text() in REFUSALS:
            return "nothing"
        return self._fill(self.world.state, "disk of the spool full")

    def fill_ring_memory(self) -> str:
        return self._fill(self.world.rings, "memory of the rings full")

    def _fill(self, disk: Path, name: str) -> str:
        if disk in self._is_filled:
            return "nothing"
        self._is_filled.add(disk)
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass

        def empty() -> None:
            self._is_filled.discard(disk)
            filler.unlink()

        self._later(LONGEST_FULL_SECONDS, empty)
        return name
