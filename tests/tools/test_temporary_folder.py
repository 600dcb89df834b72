"""What a command writes on its way goes with it, also where a signal ends that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from drain.tools.looking.temporary_folder import temporary_folder
from tests.waiting import SECONDS, until

if TYPE_CHECKING:
    from pathlib import Path

# Whatever this process ignores.
AS_USUAL = """
import os, signal, sys
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGTERM, ("drain", "sampling", "--keep-ratio", "0.5", "--against", "-")),
        (signal.SIGHUP, ("drain.tools", "report", "-")),
    ],
)
def test_a_signal_removes_the_copy_of_what_comes_by_a_pipe(tmp_path: Path, number: int, words: tuple[str, ...]) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-c", AS_USUAL, "-Im", *words]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, env={**os.environ, "TMPDIR": str(temporary)}, cwd=tmp_path
    ) as process:
        assert process.stdin is not None
        try:
            until(lambda: process.poll() is not None or list(temporary.glob("*/*")))
            process.send_signal(number)
            process.stdin.close()  # a signal just before the read begins does not end that
            assert process.wait(SECONDS) == 128 + number
        finally:
            process.kill()
    assert list(temporary.iterdir()) == []


def test_what_is_ignored_stays_so_and_handlers_come_back() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with temporary_folder("ringbuf-test-") as folder:
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert not folder.exists()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_thread_has_one_too() -> None:
    found: list[Path] = []

    def make() -> None:
        with temporary_folder("ringbuf-test-") as folder:
            found.append(folder)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join(SECONDS)
    assert not found[0].exists()


def test_a_handler_that_c_code_has_set_stays_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    set_anew: list[int] = []
    monkeypatch.setattr(signal, "getsignal", lambda _number: None)
    monkeypatch.setattr(signal, "signal", lambda number, _handler: set_anew.append(number))
    with temporary_folder("ringbuf-test-") as folder:
        assert folder.exists()
    assert set_anew == []
