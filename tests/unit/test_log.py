"""Trouble that repeats is logged once a minute, with the number of what was not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import structlog

from drain.log import RepeatedTrouble, configure_log, set_level
from tests.python import PREAMBLE, run

if TYPE_CHECKING:
    import pytest


def test_repeated_trouble_is_counted_by_kind() -> None:
    now = 100.0
    with structlog.testing.capture_logs() as lines:
        trouble = RepeatedTrouble(structlog.get_logger(), lambda: now)
        for _ in range(4):
            trouble.warn("disk", at=1)
        trouble.warn("net")
        now += 61
        trouble.warn("disk", at=2)
        trouble.warn("net")
    told = [(line["event"], line.get("at"), line.get("not_logged")) for line in lines]
    assert told == [("disk", 1, None), ("net", None, None), ("disk", 2, 3), ("net", None, None)]


def test_the_log_is_json_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    try:
        log = configure_log("warning")
        log.info("dropped")
        log.warning("kept", ring="a\x1b[2J\nb")
    finally:
        structlog.reset_defaults()
    line = capfd.readouterr().err
    assert line.count("\n") == 1
    assert json.loads(line) | {"timestamp": ""} == {
        "event": "kept",
        "level": "warning",
        "ring": "a\x1b[2J\nb",
        "timestamp": "",
    }


def test_another_level_is_heard_by_loggers_that_were_bound_before(capfd: pytest.CaptureFixture[str]) -> None:
    try:
        log = configure_log("error").bind(spool="/spool")
        log.info("one")
        set_level("info")
        log.info("two")
        set_level("warning")
        log.info("three")
        log.error("four")
    finally:
        structlog.reset_defaults()
    assert [json.loads(line)["event"] for line in capfd.readouterr().err.splitlines()] == ["two", "four"]


def test_on_a_terminal_no_name_can_send_escape_sequences(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    try:
        configure_log("info").info("attached", ring="a\x1b[2J\nb")
    finally:
        structlog.reset_defaults()
    told = capfd.readouterr().err
    assert "attached" in told
    assert "\x1b[2J" not in told
    assert told.count("\n") == 1


def test_the_log_has_the_zone_of_every_other_screen_on_a_terminal_too(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    try:
        configure_log("info").info("attached")
    finally:
        structlog.reset_defaults()
    assert re.search(r"\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", capfd.readouterr().err)


def lines_of(code: str, **options: object) -> list[dict[str, object]]:
    """Return the lines of JSON that a process of its own logs; descriptor 2 is the test's to play with."""
    script = "import os\nfrom drain.log import *\nfrom tests.waiting import until\nlog = configure_log('info')\n" + code
    done = subprocess.run(
        [sys.executable, "-Ic", PREAMBLE + script], stderr=subprocess.PIPE, timeout=60, check=True, text=True, **options
    )  # type: ignore[call-overload]  # of the options none changes what is returned
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_lines_that_cannot_be_written_are_counted_and_told_when_they_can() -> None:
    code = """
import structlog
from drain.standard_streams import StandardStream
sink = structlog.get_config()["logger_factory"]._file
good, sink._stream = sink._stream, StandardStream(os.open("/dev/full", os.O_WRONLY))
for number in range(3):
    log.info("lost", number=number)
sink._stream = good
log.info("found", dropped=lines_dropped())
"""
    told, found = lines_of(code)
    assert (told["event"], told["lines"]) == ("log lines could not be written", 3)
    assert (found["event"], found["dropped"]) == ("found", 3)


def test_of_warnings_of_a_kind_only_so_many_are_logged_and_the_rest_is_counted() -> None:
    code = """
import drain.log
for number in range(4700):
    log.warning("file left alone", number=number)
for number in range(30):
    log.info("attached", number=number)
log.warning("another kind")
drain.log._REPEAT_SECONDS = 0
log.info("a minute later")
"""
    events = [(line["event"], line.get("not_logged")) for line in lines_of(code)]
    assert events.count(("file left alone", None)) == 20
    assert events.count(("attached", None)) == 30
    assert events.count(("another kind", None)) == 1
    assert ("more lines of a kind than are logged", 4680) in events


def test_what_c_code_writes_to_standard_error_is_a_line_of_the_log() -> None:
    code = """
log_native_lines(log)
os.write(2, b"E1129 chttp2_transport.cc: Received a GOAWAY\\n")
log.info("between")
print('{"event": "python"}', file=sys.stderr)
until(lambda: "a library wrote to standard error" in told)
"""
    spy = """
told = []
write = structlog.get_config()["logger_factory"]._file.write
structlog.get_config()["logger_factory"]._file.write = lambda line: (write(line), told.append(line[-300:]), told.append(
    "a library wrote to standard error" if "a library wrote" in line else ""))
"""
    events = lines_of("import structlog\n" + spy + code)
    assert {str(line["event"]) for line in events} == {"a library wrote to standard error", "between", "python"}
    (native,) = (line for line in events if line["event"] == "a library wrote to standard error")
    assert native["text"] == "E1129 chttp2_transport.cc: Received a GOAWAY"


def test_c_code_that_holds_pythons_lock_does_not_wait_for_the_log() -> None:
    code = """
import ctypes, os
from drain.log import configure_log, log_native_lines
log_native_lines(configure_log("error"))
ctypes.PyDLL(None).write(2, b"x" * (1 << 20), 1 << 20)
os._exit(0)
"""
    assert run(code).returncode == 0


def test_why_the_drain_does_not_start_goes_past_the_pipe_for_native_lines() -> None:
    code = """
import os
from drain.commands.starting import say
from drain.log import configure_log, log_native_lines
log_native_lines(configure_log("info"))
say("another drain is there")
os._exit(2)
"""
    done = run(code)
    assert (done.returncode, done.stderr) == (2, "ringbuf-drain: another drain is there\n")
