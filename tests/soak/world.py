"""The processes of a soak: producers, drain, receiver, vandals; and what has arrived."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from ringbuf import get_include, get_library_dir
from tests.kept_bodies import bodies_in
from tests.ports import free_ports
from tests.python import command
from tests.service.draining import LAYOUT, DrainProcess, until
from tests.soak.ledger import STREAMS, STREAMS_OF_A_PROCESS, Arrivals, open_ledger
from tests.soak.producers import NO_ROOM

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE: Final = Path(__file__).parent
PYTHON_KINDS: Final = ("sites", "custom", "batches", "forks")
KINDS: Final = (*PYTHON_KINDS, "native")
PRODUCERS: Final = 6
VANDAL_SECONDS: Final = 3.0
MOST_DEAD_LETTER_BYTES: Final = 4 << 20


class SoakError(AssertionError):
    """A promise was broken."""


def build_native(folder: Path) -> Path:
    """Compile the native producer against the installed header and library."""
    program = folder / "native"
    compiler = os.environ.get("CC", "cc")
    options = ["-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{get_include()}", "-pthread"]
    library = get_library_dir() / "libringbuf.a"
    subprocess.run([compiler, *options, HERE / "native.c", library, "-o", program], check=True)
    return program


def has_ended(process: subprocess.Popen[str]) -> bool:
    return process.poll() is not None


class World:
    """All that runs.

    Args:
        rings: a folder on a tmpfs; the ring directory is made in it.
        state: a folder for the drain's state, which may be a small disk.
        folder: for everything else.
        seed: of all that is left to chance here.
    """

    def __init__(self, rings: Path, state: Path, folder: Path, seed: int) -> None:
        self.dice = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
        self.rings = rings
        self.ring_dir = rings / "rings"
        self.ring_dir.mkdir(mode=0o700)
        self.old_ring_dirs: list[Path] = []
        self.state = state
        self.folder = folder
        self.log = folder / "drain.log"
        self.mood_file = folder / "mood"
        self.set_mood("well")
        self.port, self.listen_port = free_ports(2)
        self.counts: Counter[str] = Counter()
        self.arrivals, self.refusals = Arrivals(), Arrivals()
        self.ledger = open_ledger(folder / "ledger")
        self.native = build_native(folder)
        self.largest_drain_bytes = 0
        self.most_descriptors = 0
        self.stack = contextlib.ExitStack()
        self._next_stream = 1
        self._kept: list[tuple[Path, subprocess.Popen[str]]] = []
        self._read_bytes: Counter[Path] = Counter()
        self.receiver = self.start_receiver()
        self.drain = self.start_drain()
        self.producers: list[subprocess.Popen[str]] = []
        self.vandal: subprocess.Popen[str] | None = None
        self.replay: subprocess.Popen[str] | None = None
        self._bad_inputs = folder / "bad-inputs"

    def write_down(self, what: str) -> None:
        """Add a line to the soak's diary, whose times are those of the drain's log."""
        with (self.folder / "diary").open("a") as diary:
            print(datetime.now(UTC).isoformat(), what, file=diary)

    def set_mood(self, mood: str) -> None:
        """Tell the receiver; it never sees half a word."""
        new = self.mood_file.with_suffix(".new")
        new.write_text(mood)
        new.rename(self.mood_file)

    def start(self, line: Sequence[object]) -> subprocess.Popen[str]:
        with (self.folder / "stderr").open("ab") as stderr:
            process = subprocess.Popen(
                [str(word) for word in line], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=stderr, text=True
            )
        self.stack.callback(self._end, process)
        return process

    def _end(self, process: subprocess.Popen[str]) -> None:
        if process.poll() is None:
            process.kill()
        process.communicate()

    def start_receiver(self) -> subprocess.Popen[str]:
        kept = self.folder / f"kept-{self.counts['receivers started']}"
        self.counts["receivers started"] += 1
        code = "from tests.soak.receiver import main\nmain()"
        process = self.start(command(code, self.port, kept, self.mood_file))
        self._kept.append((kept, process))
        return process

    def start_drain(self) -> DrainProcess:
        self.counts["drains started"] += 1
        return self.stack.enter_context(
            DrainProcess(
                self.log,
                self.ring_dir,
                *self.export_flags,
                *("--state-dir", self.state, "--spool-after", 0.05, "--batch-delay", 0.02, "--shutdown-timeout", 20),
                *("--dead-letter-files", 1_000_000, "--dead-letter-bytes", 1 << 40),
                *("--listen", f"127.0.0.1:{self.listen_port}"),
                is_forked=False,
            )
        )

    @property
    def export_flags(self) -> tuple[object, ...]:
        waits = ("--retry-initial", 0.02, "--retry-maximum", 0.2)
        return ("--exporter", "otlp-http", "--endpoint", f"http://127.0.0.1:{self.port}", "--timeout", 2, *waits)

    def start_producer(self) -> None:
        kind = self.dice.choice(KINDS)
        first = self._next_stream
        self._next_stream += STREAMS_OF_A_PROCESS
        if self._next_stream > STREAMS:
            raise SoakError("the ledger is full: make it larger for a soak that is so long")
        ledger = self.folder / "ledger"
        if kind == "native":
            words: list[object] = [self.native, self.ring_dir, f"native-{first}", ledger, first]
            line: Sequence[object] = [*words, LAYOUT.to_json().decode(), LAYOUT.slot_bytes]
        else:
            code = "from tests.soak.producers import main\nmain()"
            line = command(code, kind, self.ring_dir, ledger, first, self.dice.getrandbits(32))
        self.producers.append(self.start(line))
        self.write_down(f"producer {self.producers[-1].pid}: {kind}-{first}")
        self.counts[f"producers of kind {kind}"] += 1

    def look(self) -> None:
        """See that everybody is there, and read what has arrived."""
        if self.drain.process.poll() is not None:
            raise SoakError(f"the drain has ended by itself: {self.drain.process.returncode}")
        if has_ended(self.receiver):
            raise SoakError("the receiver has ended by itself")
        self.measure_drain()
        for producer in [producer for producer in self.producers if has_ended(producer)]:
            self.bury(producer, NO_ROOM)
        while len(self.producers) < PRODUCERS:
            self.start_producer()
        if self.vandal is not None and has_ended(self.vandal):
            self.vandal = None
        self.make_room_for_dead_letters()
        self.collect()

    def bury(self, producer: subprocess.Popen[str], *codes: int) -> None:
        """Take leave of a producer that has ended, which must have had one of these codes."""
        self.producers.remove(producer)
        producer.communicate()
        if producer.returncode not in codes:
            raise SoakError(f"{producer.args!r} ended with {producer.returncode}: see {self.folder / 'stderr'}")
        if producer.returncode == NO_ROOM:
            self.counts["producers that were refused a ring"] += 1

    def measure_drain(self) -> None:
        process = Path(f"/proc/{self.drain.process.pid}")
        with contextlib.suppress(OSError, StopIteration):
            lines = (process / "status").read_text().splitlines()
            resident = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
            self.largest_drain_bytes = max(self.largest_drain_bytes, resident * 1024)
            self.most_descriptors = max(self.most_descriptors, len(list((process / "fd").iterdir())))

    def collect(self) -> None:
        """Add up what the receivers have kept since the last time; a body that a kill cut was not answered."""
        for kept, receiver in list(self._kept):
            is_over = has_ended(receiver)  # known before it is read
            refused = kept.with_name(f"{kept.name}.refused")
            for path, to in ((kept, self.arrivals), (refused, self.refusals)):
                self._read(path, to)
            if is_over:
                self._kept.remove((kept, receiver))
                kept.unlink(missing_ok=True)
                refused.unlink(missing_ok=True)

    def _read(self, kept: Path, to: Arrivals) -> None:
        bodies, self._read_bytes[kept] = bodies_in(kept, self._read_bytes[kept])
        for body in bodies:
            to.take(TracesData.FromString(body))

    def make_room_for_dead_letters(self) -> None:
        """Replay them beside the drain, as an operator would before they fill the disk."""
        if self.replay is not None and has_ended(self.replay):
            self.replay = None
        letters = self.state / "dead-letters"
        sizes = []
        for letter in letters.glob("*"):
            with contextlib.suppress(FileNotFoundError):  # it is being replayed
                sizes.append(letter.stat().st_size)
        if sum(sizes) > MOST_DEAD_LETTER_BYTES and self.replay is None:
            self.counts["replays of dead letters"] += 1
            self.replay = self.start(
                [sys.executable, "-Im", "drain", "replay", "--remove", *self.export_flags, letters]
            )

    def start_vandal(self) -> None:
        code = "from tests.process.vandal import main\nmain()"
        with self._bad_inputs.open("ab") as output, (self.folder / "stderr").open("ab") as stderr:
            line = command(code, self.ring_dir, self.dice.getrandbits(31), VANDAL_SECONDS)
            self.vandal = subprocess.Popen(line, stdout=output, stderr=stderr, text=True)
        self.stack.callback(self._end, self.vandal)

    @property
    def bad_inputs(self) -> int:
        """How many rings the vandals have wrecked."""
        return len(self._bad_inputs.read_bytes().splitlines()) if self._bad_inputs.exists() else 0

    def _of_a_later_version(self) -> set[str]:
        """Return the names of wrecked rings that a drain leaves alone for good."""
        deeds = map(json.loads, self._bad_inputs.read_bytes().splitlines()) if self._bad_inputs.exists() else ()
        return {deed["ring"] for deed in deeds if deed["may_stay"]}

    def rings_that_end(self) -> set[str]:
        """Return the rings that are there, without those that a drain leaves alone for good."""
        return {path.name for path in self.ring_dir.glob("*.ring")} - self._of_a_later_version()

    def last_words(self) -> str:
        """Return the end of what the drain wrote that is no line of its log: a traceback, if anything."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join([line for line in lines if not line.startswith(("{", "service ", " "))][-10:] + lines[-15:])

    def restart_drain(self, code: int | None) -> None:
        """Start another after the one that is to have ended; None: it is stopped now and must end well.

        Args:
            code: of the one that was killed.
        """
        if code is None:
            code = self.drain.stop()
            if code in {0, 1}:
                self.drain.audit()
            elif code != -signal.SIGTERM:  # it had just begun
                raise SoakError(f"a drain that was asked to stop ended with {code}")
        self.drain = self.start_drain()

    def calm_down(self) -> None:
        """Let the producers end, and everything that they wrote come home."""
        self.set_mood("well")
        for process in (self.vandal, self.replay):
            if process is not None:
                process.communicate()
        for producer in list(self.producers):
            assert producer.stdin is not None
            producer.stdin.close()
        for producer in list(self.producers):
            producer.wait(60)
            self.bury(producer, 0, NO_ROOM)
        until(lambda: self.drain.process.poll() is not None or not self.rings_that_end())
        self.restart_drain(None)
        self.drain.stop()

    def come_home(self) -> None:
        """Deliver what directories that were replaced, the spool and the dead letters hold, as an operator would."""
        spool = ("--state-dir", self.state, "--listen", "off")
        for ring_dir in [*self.old_ring_dirs, self.ring_dir]:
            for name in self._of_a_later_version():  # with one there, the exit code is 1
                (ring_dir / name).unlink(missing_ok=True)
            self._run_until_0("--ring-dir", ring_dir, "--once", *self.export_flags, *spool)
        letters = self.state / "dead-letters"
        if letters.exists() and any(letters.iterdir()):
            self._run_until_0("replay", "--remove", *self.export_flags, letters)
        self.receiver.send_signal(signal.SIGTERM)
        self.receiver.communicate()
        self.collect()

    def _run_until_0(self, *arguments: object) -> None:
        line = [sys.executable, "-Im", "drain", *map(str, arguments)]
        codes = []
        for _ in range(5):
            with self.log.open("ab") as log:
                codes.append(subprocess.run(line, stdout=log, stderr=log, timeout=120, check=False).returncode)
            if codes[-1] == 0:
                return
            time.sleep(0.2)
        raise SoakError(f"{line} ended with {codes}: see {self.log}")
