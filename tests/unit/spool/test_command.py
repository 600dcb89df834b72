"""`ringbuf-drain spool` shows what waits, beside a drain too, and takes one batch out so that the sums add up."""

from __future__ import annotations

import contextlib
import doctest
import json
import os
import sqlite3
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import structlog

from drain.accounting.spool_sums import SpoolSums
from drain.command import app
from drain.commands import spool_backend, spool_batch, spool_text
from drain.delivery.dead_letters import DeadLetters
from drain.delivery.letter_file import read_letters
from drain.exit_codes import LOCKED, TROUBLE
from drain.otlp.request import Request
from drain.spool.database import SpoolDatabase
from drain.spool.spool import DATABASE_NAME
from drain.spool.spool_time import Moment, this_moment
from drain.spool.store import RESERVE_NAME
from tests.python import ROOT
from tests.unit.settings.command_line import RUNNER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

HOUR = 3600 * 10**9
BODY = b"\x0a\x00"
HOLDER = """
import sys
import time
from pathlib import Path
from drain.spool.database import SpoolDatabase
database = SpoolDatabase(Path(sys.argv[1]), 1 << 20, 1 << 20)
print("open", flush=True)
sys.stdin.read()
"""


class Ran(NamedTuple):
    exit_code: int
    stdout: str
    stderr: str


class State:
    """A state directory as a drain left it."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capfd = capfd
        self.database = folder / "spool" / DATABASE_NAME
        self.database.parent.mkdir(mode=0o700, parents=True)

    def spool(self, *arguments: object, answer: str | None = None) -> Ran:
        result = RUNNER.invoke(app, ["spool", *map(str, arguments)], input=answer)
        return Ran(result.exit_code, result.stdout, result.stderr + self.capfd.readouterr().err)

    def told(self, *arguments: object) -> Any:
        ran = self.spool(*arguments, "--json")
        assert (ran.exit_code, ran.stderr) == (0, "")
        return json.loads(ran.stdout)

    def put(
        self, services: Mapping[str, int], *, hours: int = 0, when: Moment | None = None, destination: str = ""
    ) -> int:
        now = this_moment()
        spooled = when or Moment(now.unix_nano - hours * HOUR, now.boot_id, now.boot_nano - hours * HOUR)
        body = Request(BODY, sum(services.values()), "protobuf").gzip()
        with contextlib.closing(SpoolDatabase(self.database, 1 << 20, 1 << 20)) as database:
            database.begin()
            stored = database.add(spooled, "protobuf", services, body, destination)
            database.commit()
        return stored.id

    def sums(self) -> Mapping[str, SpoolSums]:
        with contextlib.closing(SpoolDatabase(self.database, 1 << 20, 1 << 20)) as database:
            return database.sums

    def refuse(self, reason: str, spans: int) -> None:
        letters = DeadLetters(self.folder / "dead-letters", max_files=9, max_bytes=1 << 20, log=structlog.get_logger())
        assert letters.keep(Request(BODY, spans, "protobuf"), reason, "http://there")

    def files(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}

    @contextlib.contextmanager
    def is_open(self) -> Iterator[int]:
        """Let another process have the spool, as a drain has it."""
        command = [sys.executable, "-c", HOLDER, str(self.database)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "open\n"
            yield holder.pid
            assert holder.stdin is not None
            holder.stdin.close()


@pytest.fixture
def state(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> State:
    monkeypatch.setattr(spool_backend, "_SECONDS", 60.0)  # the machine may be busy
    return State(tmp_path / "state", capfd)


def test_what_waits_is_shown_by_service_and_by_batch_the_oldest_first(state: State) -> None:
    state.put({"shop": 3, "bank": 1}, hours=5)
    state.put({"shop": 20}, hours=2)
    state.refuse("HTTP 400: no", 7)
    state.refuse("HTTP 400: no", 2)
    before = state.files()
    result = state.spool(state.folder)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == f"{state.folder}: no drain has it"
    assert lines[1].startswith("spool: 2 batches, 24 spans wait; ")
    assert "none before a drain is started" in lines[2]
    rows = [line.split() for line in lines]
    services = {row[0]: [row[1], row[2], row[-1]] for row in rows if row[:1] in (["shop"], ["bank"])}
    assert services == {"shop": ["23", "2", "5h"], "bank": ["1", "1", "5h"]}
    assert [(row[0], row[1], row[-2:]) for row in rows if "protobuf" in row] == [
        ("1", "4", ["shop,", "bank"]),
        ("2", "20", ["2h", "shop"]),
    ]
    assert "dead letters: 2 batches, 9 spans in 1 file; " in result.stdout
    assert lines[-1].endswith("HTTP 400: no")
    assert state.files() == before


def test_programs_get_all_of_it_as_an_object(state: State) -> None:
    state.put({"shop": 3, "bank": 1}, hours=5)
    state.refuse("HTTP 400: no", 7)
    it = state.told(state.folder, "--spool-max-bytes", "10MiB")
    assert (it["state_dir"], it["is_open"], it["pid"]) == (str(state.folder), False, None)
    (batch,) = it["spool"]["batches"]
    assert (batch["id"], batch["spans"], batch["services"]) == (1, 4, {"shop": 3, "bank": 1})
    assert batch["since"].endswith("Z")
    assert 5 * 3600 <= batch["age_seconds"] < 6 * 3600
    assert it["spool"]["services"]["bank"]["waiting"] == 1
    assert it["spool"]["max_bytes"] == 10 << 20
    assert it["spool"]["file_bytes"] >= state.database.stat().st_size
    (reason,) = it["dead_letters"]["reasons"]
    assert (reason["reason"], reason["batches"], reason["spans"]) == ("HTTP 400: no", 1, 7)
    assert it["dead_letters"]["since"] == reason["since"] == reason["last"]


def test_a_time_that_is_not_known_is_not_invented(state: State) -> None:
    state.put({"shop": 3}, when=Moment(5 * 10**9, "another start", 7))
    (batch,) = state.told(state.folder)["spool"]["batches"]
    assert (batch["since"], batch["age_seconds"]) == (None, None)
    assert state.spool(state.folder).stdout.count("?") == 4


def test_it_is_said_what_waits_for_which_destination(state: State) -> None:
    state.put({"shop": 3}, hours=2)
    assert "destination" not in state.spool(state.folder).stdout, "there is one only"
    for hours in (1, 0):
        state.put({"shop": 4, "bank": 1}, hours=hours, destination="http://gateway-1:4318")
    rows = [line.split() for line in state.spool(state.folder).stdout.splitlines()]
    shown = {row[0]: [row[1], row[2], row[-1]] for row in rows if row[:1] in (["(any)"], ["http://gateway-1:4318"])}
    assert shown == {"(any)": ["3", "1", "2h"], "http://gateway-1:4318": ["10", "2", "1h"]}
    told = [batch["destination"] for batch in state.told(state.folder)["spool"]["batches"]]
    assert told == [None, *["http://gateway-1:4318"] * 2]


def test_of_many_batches_the_oldest_are_shown_and_all_where_that_is_asked_for(state: State) -> None:
    with contextlib.closing(SpoolDatabase(state.database, 1 << 20, 1 << 20)) as database:
        database.begin()
        for _ in range(25):
            database.add(this_moment(), "protobuf", {"shop": 1}, b"")
        database.commit()
    few, every = state.spool(state.folder).stdout, state.spool(state.folder, "--all").stdout
    assert (few.count("protobuf"), every.count("protobuf")) == (20, 25)
    assert "… and 5 newer ones: --all" in few


def test_names_and_reasons_cannot_steer_the_terminal(state: State) -> None:
    state.put({"a\x1b[2Jb": 3})
    state.refuse("no\x1b[2J", 7)
    for option in ("--all", "--json"):
        assert "\x1b" not in state.spool(state.folder, option).stdout


def test_a_spool_that_a_drain_has_is_shown_and_not_disturbed_nor_changed(state: State) -> None:
    state.put({"shop": 3})
    state.refuse("no", 7)
    letters = next((state.folder / "dead-letters").iterdir())
    letters.write_bytes(letters.read_bytes() + b'{"format":')  # the drain writes there this moment
    with state.is_open() as pid:
        before = state.files()
        it = state.told(state.folder)
        assert (it["is_open"], it["pid"], len(it["spool"]["batches"])) == (True, pid, 1)
        shown = state.spool(state.folder)
        assert (shown.exit_code, f"a drain has it (process {pid})" in shown.stdout) == (0, True)
        assert "its log tells them" in shown.stdout
        for flag in ("--drop", "--dead-letter"):
            refused = state.spool(state.folder, flag, 1, "--yes")
            assert (refused.exit_code, "stop it" in refused.stderr) == (LOCKED, True)
        assert state.files() == before
    assert state.spool(state.folder).exit_code == 1  # without a drain nobody writes it: it is cut


@contextlib.contextmanager
def answering(text: str) -> Iterator[str]:
    """Answer whatever is asked with a text; yield where."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/readyz"
            self.send_response(503)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def said(pid: int, **others: object) -> str:
    backend = {"next_attempt_seconds": 12.4, "failing_seconds": 95.0, "last_error": "HTTP 503\x1b[2J", "endpoints": {}}
    return json.dumps({"ready": False, "reasons": [], "pid": pid, "backend": {**backend, **others}})


def test_the_drain_is_asked_for_its_next_attempt_and_the_last_error(state: State) -> None:
    state.put({"shop": 3})
    with state.is_open() as pid, answering(said(pid, endpoints={"http://a:4318": "it is away"})) as listen:
        lines = state.spool(state.folder, "--listen", listen).stdout.splitlines()
        assert lines[2] == (
            "next attempt: in 12s; last error: HTTP 503\N{REPLACEMENT CHARACTER}[2J (it has taken nothing for 1m)"
        )
        assert lines[3] == "last error of http://a:4318: it is away"
        assert state.told(state.folder, "--listen", listen)["backend"] == {
            "next_attempt_seconds": 12.4,
            "failing_seconds": 95.0,
            "last_error": "HTTP 503\x1b[2J",
            "endpoints": {"http://a:4318": "it is away"},
        }
    with (
        state.is_open() as pid,
        answering(said(pid, next_attempt_seconds=0, failing_seconds=0, last_error="")) as listen,
    ):
        shown = state.spool(state.folder, "--listen", listen).stdout
        assert "next attempt: now; last error: none, it takes what it is sent\n" in shown


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (said(1), "another drain, process 1, listens at "),
        ("it works!", "no drain of this version"),
        pytest.param("[" * 100_000, "no drain of this version", id="deep"),  # not in a hundred thousand characters
        ('{"ready": true, "reasons": []}', "no drain of this version"),
        (said(0, next_attempt_seconds=float("nan")), "no drain of this version"),
        (said(0, next_attempt_seconds=-1), "no drain of this version"),
        (said(0, endpoints=[1]), "no drain of this version"),
    ],
)
def test_who_is_not_the_drain_of_this_spool_is_not_believed(state: State, text: str, note: str) -> None:
    state.put({"shop": 3})
    with state.is_open() as pid, answering(text.replace('"pid": 0', f'"pid": {pid}')) as listen:
        ran = state.spool(state.folder, "--listen", listen)
        assert ran.exit_code == 0
        line = ran.stdout.splitlines()[2]
        assert line.startswith("next attempt, last error: ")
        assert note in line
        assert state.told(state.folder, "--listen", listen)["backend"] is None


@pytest.mark.parametrize(
    ("listen", "note"), [("off", "--listen off"), ("127.0.0.1:1", "does not answer at 127.0.0.1:1")]
)
def test_a_drain_that_cannot_be_asked_is_said_to_know(state: State, listen: str, note: str) -> None:
    with state.is_open():
        ran = state.spool(state.folder, "--listen", listen)
    assert (ran.exit_code, note in ran.stdout, "its log tells them" in ran.stdout) == (0, True, True)


def test_a_batch_that_is_dropped_is_counted(state: State) -> None:
    state.put({"shop": 3, "bank": 1})
    state.put({"shop": 5})
    result = state.spool(state.folder, "--drop", 1, "--yes")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "4 spans of shop, bank" in result.stdout
    assert "1 batch waits" in result.stdout
    sums = state.sums()
    assert sums == {"shop": SpoolSums(spooled=8, dropped=3, waiting=5), "bank": SpoolSums(spooled=1, dropped=1)}
    assert not any(one.unaccounted for one in sums.values())
    assert [batch["id"] for batch in state.told(state.folder)["spool"]["batches"]] == [2]


def test_a_batch_becomes_a_dead_letter_before_it_leaves_the_spool(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.put({"shop": 3})

    def is_killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(spool_batch, "_remove", is_killed)
        assert state.spool(state.folder, "--dead-letter", 1, "--yes").exit_code == 130
    assert state.sums() == {"shop": SpoolSums(spooled=3, waiting=3)}
    assert state.told(state.folder)["dead_letters"]["spans"] == 3
    result = state.spool(state.folder, "--dead-letter", 1, "--yes")
    assert (result.exit_code, "dead-lettered" in result.stdout) == (0, True)
    assert state.sums() == {"shop": SpoolSums(spooled=3, dead_lettered=3)}
    with next((state.folder / "dead-letters").iterdir()).open("rb") as file:
        letters = list(read_letters(file))
    assert [(one.request.body, one.request.spans) for one in letters] == [(BODY, 3)] * 2
    assert "operator" in letters[0].reason


def test_without_a_place_for_the_letter_the_batch_stays(state: State) -> None:
    state.put({"shop": 3})
    (state.folder / "dead-letters").write_bytes(b"")
    result = state.spool(state.folder, "--dead-letter", 1, "--yes")
    assert (result.exit_code, "not a folder" in result.stderr) == (2, True)
    assert state.sums() == {"shop": SpoolSums(spooled=3, waiting=3)}


def test_somebody_is_asked_and_may_say_no(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    state.put({"shop": 3})
    nobody = state.spool(state.folder, "--drop", 1)
    assert (nobody.exit_code, "--yes" in nobody.stderr) == (2, True)
    monkeypatch.setattr(spool_batch, "_is_asked", lambda: True)
    no, ended = state.spool(state.folder, "--drop", 1, answer="n\n"), state.spool(state.folder, "--drop", 1, answer="")
    assert (no.exit_code, ended.exit_code) == (0, 130)
    assert "nothing is changed" in no.stderr
    assert "its spans are lost, and counted" in no.stderr
    assert state.sums()["shop"].waiting == 3
    assert state.spool(state.folder, "--drop", 1, answer="y\n").exit_code == 0
    assert state.sums()["shop"].dropped == 3


def test_on_a_full_disk_the_reserve_makes_room_for_the_removal(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    state.put({"shop": 3})
    state.put({"shop": 3})
    reserve = state.database.with_name(RESERVE_NAME)
    commit = SpoolDatabase.commit
    has_room = False

    def on_a_full_disk(database: SpoolDatabase) -> None:
        if reserve.exists() or has_room is None:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        commit(database)

    reserve.write_bytes(bytes(4096))
    with monkeypatch.context() as patch:
        patch.setattr(SpoolDatabase, "commit", on_a_full_disk)
        assert state.spool(state.folder, "--drop", 1, "--yes").exit_code == 0
        has_room = None  # type: ignore[assignment]
        full = state.spool(state.folder, "--drop", 2, "--yes")
    assert (full.exit_code, "disk is full" in full.stderr) == (TROUBLE, True)
    assert state.sums() == {"shop": SpoolSums(spooled=6, dropped=3, waiting=3)}


def test_a_damaged_spool_is_told_and_left_as_it_is(state: State) -> None:
    state.put({"shop": 3})
    state.refuse("no", 7)
    with contextlib.closing(sqlite3.connect(state.database)) as database:
        database.execute("UPDATE batch SET services = 'x'")
        database.commit()
    before = state.files()
    for arguments in ((), ("--json",), ("--drop", 1, "--yes")):
        result = state.spool(state.folder, *arguments)
        assert (result.exit_code, "batch 1 is not sound" in result.stderr) == (1, True), arguments
    assert "dead letters: 1 batch, 7 spans" in state.spool(state.folder).stdout
    assert state.files().keys() == before.keys()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--drop", "9", "--yes"), "no batch 9"),
        (("--drop", "1", "--dead-letter", "2"), "one of the two"),
        (("--yes",), "--yes"),
        (("--drop", "1", "--json"), "--json"),
        (("--state-dir", "elsewhere"), "once"),
    ],
)
def test_what_cannot_be_meant_is_a_matter_of_usage(state: State, arguments: tuple[str, ...], reason: str) -> None:
    state.put({"shop": 3})
    result = state.spool(state.folder, *arguments)
    assert (result.exit_code, reason in result.stderr) == (2, True)
    assert state.sums()["shop"].waiting == 3


def test_the_directory_is_found_as_a_drain_finds_it(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    state.put({"shop": 3})
    monkeypatch.delenv("RINGBUF_DRAIN_STATE_DIR", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(state.folder / "home"))
    assert state.told("--ring-dir", state.folder)["state_dir"].startswith(str(state.folder / "home" / "ringbuf-drain"))
    monkeypatch.setenv("RINGBUF_DRAIN_STATE_DIR", str(state.folder))
    assert len(state.told()["spool"]["batches"]) == 1
    wrong = (
        state.spool(state.folder / "nowhere"),
        state.spool("off"),
        state.spool(state.folder / "spool"),
        state.spool(state.database),
    )
    assert [result.exit_code for result in wrong] == [2, 2, 2, 2]
    assert f"name the state directory, {state.folder}" in wrong[2].stderr


def test_another_users_spool_is_not_written_to(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    state.put({"shop": 3})
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    result = state.spool(state.folder, "--drop", 1, "--yes")
    assert (result.exit_code, "do this as that user" in result.stderr) == (2, True)


def test_numbers_are_written_as_documented() -> None:
    assert doctest.testmod(spool_text).failed == 0
