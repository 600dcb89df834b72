"""One run: a producer and a drain that are both killed at a point, a second drain, and the sums afterwards."""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import json
import os
import shutil
import signal
import sqlite3
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

from drain.delivery.letter_file import SUFFIX, read_letters
from ringbuf._ringbuf import lib
from tests.points.ledger import REFUSED, TRIED, WRITTEN, Ledger
from tests.points.observed import Observed
from tests.points.receiver import numbers_of
from tests.points.victim import Victim
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.nursery import Child, Nursery
    from tests.points.receiver import Receiver
    from tests.points.table import DrainPoint, ProducerPoint

KILLED = -signal.SIGKILL
_TICK_SECONDS = 0.002
_DOORBELL_BYTES = 4096
_SERVICES = ("victim", "witness", "leaver")
_STAYS = {"drain.lock", "doorbell", "quarantine"}


def drain_arguments(ring_dir: Path, state_dir: Path, url: str) -> list[str]:
    """Return the arguments of a drain that is quick about everything."""
    return [
        *("--ring-dir", str(ring_dir), "--exporter", "otlp-http", "--no-hold", "--endpoint", url, "--timeout", "60"),
        *("--state-dir", str(state_dir), "--spool-after", "0.03", "--batch-delay", "0.01", "--concurrency", "2"),
        *("--retry-initial", "0.01", "--retry-maximum", "0.05", "--listen", "off", "--shutdown-timeout", "20"),
    ]


class Scene:
    """The processes of a run, two producers that nobody kills, and what all of them wrote down.

    Args:
        ring_dir: empty.
        folder: for everything else, empty.
        receiver: in its first mood again.
    """

    def __init__(self, ring_dir: Path, folder: Path, receiver: Receiver) -> None:
        self.ring_dir = ring_dir
        self.folder = folder
        self.receiver = receiver
        self.state_dir = folder / "state"
        self.state_dir.mkdir(mode=0o700)
        self.rings: dict[str, list[Observed]] = {}
        self.ledgers = {name: Ledger(folder / name) for name in ("victim", "witness", "leaver", "spoiled")}
        self.witness = Victim(ring_dir, self.ledgers["witness"], "witness", 1)
        leaver = Victim(ring_dir, self.ledgers["leaver"], "leaver", 2)
        leaver.batch(7)
        leaver.emitter.close()
        self.spoiled: Victim | None = None
        self.victim: Child | None = None
        self.children: list[Child] = []
        self.allowed: Counter[tuple[str, int]] = Counter()
        self.surplus = 0
        self.look()

    def run(self, producer: ProducerPoint, nth: int, point: DrainPoint, drain_nth: int, pair: Pair) -> None:
        """Kill both, let a second drain end it all, and check the sums."""
        self.receiver.reset(point.mood)
        if point.needs == "broken":
            (self.ring_dir / "broken.ring").write_bytes(b"no ring at all" * 400)
        if point.needs == "spoiled":
            self.spoiled = Victim(self.ring_dir, self.ledgers["spoiled"], "spoiled", 1)
            self.spoiled.batch(3)
            self.look()
        first = self.start_drain(pair.points, f"{point.name}:{drain_nth}", "first.log")
        wanted = f"{producer.name}:{nth}"
        is_to_stop = point.needs == "stop"

        def step() -> None:
            nonlocal is_to_stop
            self.tick(pair, wanted)
            is_at_work = not any(ring.path.exists() for ring in self.rings["leaver"])
            if is_to_stop and is_at_work and self.victim is not None:
                is_to_stop = False  # a second signal would end it at once
                os.kill(first.pid, signal.SIGTERM)

        self.until(
            lambda: first.poll() is not None, step, lambda: f"no drain came to {point.name}: {first.log.read_text()}"
        )
        assert first.code == KILLED, f"no drain came to {point.name}: {first.code}\n{first.log.read_text()}"
        self.note_death()
        self.receiver.mood = "takes"
        second = self.start_drain(pair.clean, "", "second.log")
        self.until(
            lambda: self.victim is not None and self.victim.poll() is not None,
            lambda: self.tick(pair, wanted),
            lambda: f"no producer came to {producer.name}",
        )
        assert self.victim is not None
        assert self.victim.code == KILLED, f"no producer came to {producer.name}: {self.victim.log.read_text()}"
        for one in (self.witness, self.spoiled):
            if one is not None:
                one.emitter.close()
        self.until(lambda: not self.ring_files(), self.look, lambda: f"rings stay: {second.log.read_text()}")
        # What is in the spool when a drain stops is for the next one.
        self.until(lambda: not self.missing(), lambda: None, lambda: f"published and lost: {self.missing()}")
        os.kill(second.pid, signal.SIGTERM)
        check_end(second)
        if self.spooled_bodies():  # all has arrived, and the spool does not know of some
            third = self.start_drain(pair.clean, "", "third.log", "--once")
            check_end(third)
        self.check(producer, point, audit_in(second.log))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        for child in self.children:
            if child.poll() is None:
                os.kill(child.pid, signal.SIGKILL)
                child.wait()
        for one in (self.witness, self.spoiled):
            if one is not None:
                one.emitter.close()

    # ---- while it goes on ----

    def start_drain(self, nursery: Nursery, kill_at: str, log: str, *more: str) -> Child:
        arguments = [*drain_arguments(self.ring_dir, self.state_dir, self.receiver.url), *more]
        drain = nursery.fork("drain", *arguments, log=self.folder / log, kill_at=kill_at)
        self.children.append(drain)
        return drain

    def tick(self, pair: Pair, wanted: str) -> None:
        """Bring on a bit of everything."""
        self.witness.one()
        doorbell = self.ring_dir / "doorbell"
        if self.victim is None and doorbell.exists() and doorbell.stat().st_size == _DOORBELL_BYTES:
            rounds = 1 if wanted.startswith("close") else 0
            arguments = (self.ring_dir, self.folder / "victim", "victim", 2, rounds)
            self.victim = pair.points.fork("victim", *arguments, log=self.folder / "victim.log", kill_at=wanted)
            self.children.append(self.victim)
        self.look()
        if self.ledgers["victim"].has_ring:
            self.ledgers["victim"].may_go = True
        if wanted.startswith("replace"):
            for ring in self.rings.get("victim", []):
                ring.say_detached()
        for ring in self.rings.get("spoiled", []):
            if ring.lanes[0].consumer_state == lib.RB_CONSUMER_ATTACHED and not ring.pending:
                ring.break_tail()

    def ring_files(self) -> list[Path]:
        return list(self.ring_dir.glob("*.ring"))

    def look(self) -> None:
        """Open the rings that are new."""
        known = {ring.path for rings in self.rings.values() for ring in rings}
        for path in self.ring_files():
            if path not in known and path.name != "broken.ring":
                with contextlib.suppress(FileNotFoundError):  # it was empty, and its producer is dead
                    self.rings.setdefault(path.name.partition("-")[0], []).append(Observed(path))

    def note_death(self) -> None:
        """Note what the dead drain had not released, and what it had spooled: these may come again, and no others."""
        for service, rings in self.rings.items():
            for ring in rings:
                if service != "spoiled" and ring.path.exists():
                    self.surplus += ring.surplus
                    self.allowed.update((service, number) for number in ring.unreleased())
        for body in self.spooled_bodies():
            self.allowed.update(numbers_of(body))

    def spooled_bodies(self) -> list[bytes]:
        """Return what is in the spool, read from a copy: the original is as the kill left it."""
        copy = self.folder / "copy"
        shutil.copytree(self.state_dir, copy, ignore=shutil.ignore_patterns("*.reserve"), dirs_exist_ok=True)
        bodies: list[bytes] = []
        for path in copy.rglob("spool.db"):
            with contextlib.closing(sqlite3.connect(path)) as database:
                if database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'batch'").fetchone() == (1,):
                    rows = database.execute("SELECT body FROM batch").fetchall()
                    bodies += [gzip.decompress(body) for (body,) in rows]
        shutil.rmtree(copy)
        return bodies

    def until(self, condition: Callable[[], object], step: Callable[[], object], why: Callable[[], str]) -> None:
        def step_and_pause() -> None:
            step()
            time.sleep(_TICK_SECONDS)

        until(condition, step_and_pause, why=why)

    # ---- afterwards ----

    def missing(self) -> list[tuple[str, int]]:
        """Return what was published and has not arrived."""
        taken = self.taken()
        return [
            (service, number)
            for service in _SERVICES
            for number in self.ledgers[service].numbers(WRITTEN) - set(taken.get(service, ()))
        ]

    def check(self, producer: ProducerPoint, point: DrainPoint, audit: dict[str, Any]) -> None:
        assert not self.receiver.faults, self.receiver.faults
        taken = self.taken()
        for service in _SERVICES:
            fate = producer.fate if service == "victim" else "lost"
            self.check_service(service, fate, taken.get(service, Counter()))
        assert audit["adds_up"], audit
        repeated = sum(sums.get("repeated", 0) for sums in audit["services"].values())
        assert repeated == self.surplus, "what was counted and not released is counted as repeated, and nothing else"
        self.check_nothing_is_left(point)

    def taken(self) -> dict[str, Counter[int]]:
        """Return how often each number arrived: at the receiver, or among the dead letters."""
        taken = self.receiver.so_far()
        for path in self.state_dir.rglob(f"*{SUFFIX}"):
            with path.open("rb") as file:
                for letter in read_letters(file):
                    for service, number in numbers_of(letter.request.body):
                        taken.setdefault(service, Counter())[number] += 1
        return taken

    def check_service(self, service: str, fate: str, taken: Counter[int]) -> None:
        """Check the law of a producer, to the last span."""
        ledger, rings = self.ledgers[service], self.rings.get(service, [])
        written, refused, tried = ledger.numbers(WRITTEN), ledger.numbers(REFUSED), ledger.numbers(TRIED)
        published = sum(ring.published for ring in rings)
        dropped = sum(ring.dropped for ring in rings)
        match fate:
            case "published":
                assert (published, dropped) == (len(written) + len(tried), len(refused)), service
            case "counted":
                assert (published, dropped) == (len(written), len(refused) + len(tried)), service
            case "lost":
                assert (published, dropped) == (len(written), len(refused)), service
            case _:
                assert len(written) <= published <= len(written | tried), service
                assert len(refused) <= dropped <= len(refused | tried), service
        missing = written - set(taken)
        assert not missing, f"{service}: published and lost: {sorted(missing)}"
        assert set(taken) <= written | tried, f"{service}: never published: {sorted(set(taken) - written - tried)}"
        assert len(taken) == published, service
        too_often = {n: times for n, times in taken.items() if times > 1 + self.allowed[service, n]}
        assert not too_often, f"{service}: sent again though released: {too_often}"
        for ring in rings:
            assert (ring.pending, ring.surplus) == (0, 0), service

    def check_nothing_is_left(self, point: DrainPoint) -> None:
        assert {path.name for path in self.ring_dir.iterdir()} <= _STAYS
        kept = [path.name for path in (self.ring_dir / "quarantine").iterdir() if path.suffix == ".ring"]
        assert len(kept) == (point.needs in {"broken", "spoiled"}), kept
        with (self.ring_dir / "drain.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert not self.spooled_bodies()
        assert not list(self.state_dir.rglob("*.part"))
        assert not list(self.state_dir.rglob("damaged-*"))
        for path in self.state_dir.rglob("spool.db"):
            with contextlib.closing(sqlite3.connect(path)) as database:
                query = "SELECT * FROM service WHERE waiting <> 0 OR spooled <> delivered + rejected + dead_lettered"
                assert not database.execute(query).fetchall()


class Pair:
    """The zygotes of a run: of the build with points, and of the one that is installed."""

    def __init__(self, points: Nursery, clean: Nursery) -> None:
        self.points = points
        self.clean = clean


def check_end(drain: Child) -> None:
    """Wait for the end of a drain that delivers everything; it ends with 1 where a ring was full, or is no ring."""
    code = drain.wait()
    sums = audit_in(drain.log)["services"].values()
    is_dropped = any(one.get("full") or one.get("contended") for one in sums)
    is_quarantined = any(event["event"] == "ring quarantined" for event in events_in(drain.log))
    assert code == 1 or not is_quarantined, drain.log.read_text()
    assert code == 0 or (code == 1 and (is_dropped or is_quarantined)), drain.log.read_text()


def audit_in(log: Path) -> dict[str, Any]:
    """Return the last audit that a drain has told."""
    return [event for event in events_in(log) if event["event"] == "audit"][-1]


def events_in(log: Path) -> list[dict[str, Any]]:
    """Return the lines of a drain's log."""
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
