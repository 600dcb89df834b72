"""A `ringbuf-drain` beside the producers: started, waited for, stopped, and asked for its sums."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

_SETTINGS: Final = ("RINGBUF_DRAIN_", "STATE_DIRECTORY")
_START_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 120.0
_ENDED_WELL: Final = (0, 1)  # 1: spans were dropped or not delivered, which the audit says by number
_POLL_SECONDS: Final = 0.01


class DrainError(Exception):
    """The drain did not start, or did not deliver everything."""


class Audit(NamedTuple):
    """The sums of a drain that has ended.

    Attributes:
        services: of the spans in its rings, by service.
        spool: of those that were spooled, by service; empty when none was.
        hold: of those that waited for a decision on their trace, by service; empty without rules.
        rules: what each of these decided; empty without rules.
    """

    services: dict[str, dict[str, int]]
    spool: dict[str, dict[str, int]]
    hold: dict[str, dict[str, int]]
    rules: dict[str, dict[str, int]]


class Drain:
    """A drain process of its own process group: Ctrl-C goes to the parent, which stops the producers first.

    Args:
        ring_dir: the directory that it serves.
        log: where its log goes.
        options: of the command line, after the ring directory.
    """

    def __init__(self, ring_dir: Path, log: Path, *options: str) -> None:
        self._ring_dir = ring_dir
        self._log = log
        # The settings of a drain that this machine may have would change what is written here.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)}
        environment["RINGBUF_DRAIN_LISTEN"] = "off"
        environment["RINGBUF_DRAIN_STATE_DIR"] = "off"  # nothing is to be left behind in the home directory
        with log.open("wb") as to:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-Pm", "drain", "--ring-dir", os.fspath(ring_dir), *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=to,
                env=environment,
                process_group=0,
            )

    def wait_until_ready(self) -> None:
        """Return once it serves the directory.

        Raises:
            DrainError: it has ended, or does not get that far.
        """
        doorbell = self._ring_dir / "doorbell"  # made last, with the exporter ready
        end = time.monotonic() + _START_SECONDS
        while not doorbell.exists():
            if self._process.poll() is not None or time.monotonic() >= end:
                raise DrainError(f"the drain did not start:\n{self._log.read_text()}")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> Audit:
        """Let it deliver what is there and end; return its audit.

        Raises:
            DrainError: it did not end as it should.
        """
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise DrainError("the drain does not end") from None
        lines = self._log.read_text().splitlines()
        audits = [event for line in lines if (event := _event(line)).get("event") == "audit"]
        if code not in _ENDED_WELL or not audits:
            raise DrainError(f"the drain ended with exit code {code}:\n" + "\n".join(lines))
        audit = audits[-1]
        return Audit(*(audit.get(name, {}) for name in Audit._fields))

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()


def _event(line: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}
