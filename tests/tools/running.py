"""The command `ringbuf` under a test's control: in this process, in one of its own, and on a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from typer.testing import CliRunner, Result

from drain.tools.__main__ import COMMANDS
from drain.tools.looking.command_line import command_line
from tests.nursery import shared
from tests.service.draining import SECONDS, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.nursery import Child

COMMAND = [sys.executable, "-Im", "drain.tools"]


@contextlib.contextmanager
def piped(data: bytes) -> Iterator[Path]:
    """Give a pipe with a name, as a shell makes one of `<(command)`, of these bytes, 64 KiB at most."""
    reading, writing = os.pipe()
    try:
        os.write(writing, data)
        os.close(writing)
        yield Path(f"/dev/fd/{reading}")
    finally:
        os.close(reading)


def invoke(*arguments: object) -> Result:
    """Run the command in this process; its output is no terminal."""
    result = CliRunner().invoke(command_line(COMMANDS), [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def output_of(*arguments: object) -> str:
    """Run it in this process and return what it wrote to standard output; another status than 0 is a failure."""
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return str(result.stdout)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run it in a process of its own, to its end."""
    return shared().run("ringbuf", *arguments)


class Running:
    """The command in a process of its own, with pipes; unless it is forked, it is started as by a user."""

    def __init__(self, *arguments: object, is_forked: bool = True) -> None:
        self.process: subprocess.Popen[bytes] | Child
        if is_forked:
            self.process = shared().popen("ringbuf", *arguments)
        else:
            pipe = subprocess.PIPE
            command = [*COMMAND, *map(str, arguments)]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)
        self._output = b""

    @property
    def lines(self) -> list[str]:
        """The whole lines that were read so far."""
        return self._output.decode().split("\n")[:-1]

    def read_until(self, count: int) -> list[str]:
        """Return the lines of its output once there are so many, at least."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + SECONDS
        while len(self.lines) < count:
            # Without this a command that says nothing more would hang the test.
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{len(self.lines)} lines of {count}"
            more = os.read(self.process.stdout.fileno(), 65536)
            assert more, f"{len(self.lines)} lines of {count}, then the end: {self.process.communicate()}"
            self._output += more
        return self.lines

    def stand_still(self) -> None:
        """Stop the process, and wait until it stands still."""
        self.process.send_signal(signal.SIGSTOP)
        status = Path(f"/proc/{self.process.pid}/stat")
        until(lambda: status.read_text().rpartition(")")[2].split()[0] == "T")

    def close_output(self) -> None:
        """Be a reader who has gone."""
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process.stdout = None

    def interrupt(self) -> tuple[int, str]:
        """Do as Ctrl-C does; return the exit code and what it wrote to standard error."""
        os.kill(self.process.pid, signal.SIGINT)
        return self.end()

    def end(self) -> tuple[int, str]:
        """Wait for its end; return the exit code and what it wrote to standard error."""
        _, errors = self.process.communicate(timeout=SECONDS)
        return self.process.wait(), errors.decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=SECONDS)


class OnTerminal:
    """A command on a terminal of a size of the test's; unless it is forked, it is `ringbuf`, started as by a user."""

    def __init__(
        self,
        *arguments: object,
        columns: int,
        rows: int = 24,
        environment: dict[str, str] | None = None,
        is_forked: bool = True,
        program: str = "ringbuf",
    ) -> None:
        self._near, far = pty.openpty()
        fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.mode_at_first = self.mode()
        unset = {"COLUMNS", "LINES", "NO_COLOR"}
        variables = {key: value for key, value in os.environ.items() if key not in unset}
        variables |= {"TERM": "xterm-256color"} | (environment or {})
        self.process: subprocess.Popen[bytes] | Child
        if is_forked:
            name = Path(os.ttyname(far))
            self.process = shared().on_terminal(program, *arguments, terminal=name, environment=variables)
        else:
            command = [*COMMAND, *map(str, arguments)]
            self.process = subprocess.Popen(command, stdin=far, stdout=far, stderr=far, env=variables)
        os.close(far)
        self.output = b""

    def mode(self) -> list[object]:
        """Return whether the terminal echoes, waits for the end of a line, and so on."""
        return list(termios.tcgetattr(self._near))

    def read_until(self, word: bytes, count: int = 1) -> bytes:
        """Return its output once a word is in it so often."""
        deadline = time.monotonic() + SECONDS
        while self.output.count(word) < count:
            assert self._read(deadline), f"the end, without {word!r}: {self.output!r}"
        return self.output

    def type(self, text: str) -> None:
        os.write(self._near, text.encode())

    def interrupt(self, number: int = signal.SIGINT) -> int:
        os.kill(self.process.pid, number)
        return self.end()

    def end(self) -> int:
        """Read to the end, and return the exit code."""
        deadline = time.monotonic() + SECONDS
        while self._read(deadline):
            pass
        return self.process.wait(timeout=SECONDS)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._near], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"nothing more came: {self.output!r}"
        try:
            more = os.read(self._near, 65536)
        except OSError:  # EIO: nobody has the other end any more
            return False
        self.output += more
        return bool(more)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=SECONDS)
        os.close(self._near)
