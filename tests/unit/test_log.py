"""Trouble that repeats is logged once a minute, with the number of what was not."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import structlog

from drain.log import RepeatedTrouble, configure_log

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
