"""A zygote as its user sees it, and the processes that it forks."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import sysconfig
import time
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from tests import python
from tests.python import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

SECONDS = 120.0

# -S keeps the editable installation's finder out, which would come before any folder; then what it left out is added.
_PREAMBLE = "import sys; sys.path[:0] = [{packages!r}]; sys.path += [{site!r}, {root!r}]\n"
_CODE = "import ringbuf; assert not {packages!r} or ringbuf.__file__.startswith({packages!r})\n"
_MAIN = "from tests.zygote import main\nmain()"
_WARNINGS_ARE_ERRORS = "import sys, warnings; warnings.simplefilter('error')\n"
_NULL = Path(os.devnull)
_SESSION = "RINGBUF_TEST_SESSION"


class Child:
    """A process that a zygote forked, with what `subprocess.Popen` offers of it.

    Attributes:
        returncode: its exit code, negative for a signal; None until somebody has asked for it.
        stdin: a pipe, where one was asked for; so are the next two.
        stdout: bytes, unless text was asked for.
        stderr: the same.
    """

    def __init__(self, nursery: Nursery, pid: int, log: Path | None) -> None:
        self._nursery = nursery
        self.pid = pid
        self._log = log
        self.returncode: int | None = None
        self.stdin: IO[Any] | None = None
        self.stdout: IO[Any] | None = None
        self.stderr: IO[Any] | None = None

    @property
    def log(self) -> Path:
        """What its standard error is added to."""
        assert self._log is not None
        return self._log

    @property
    def code(self) -> int | None:
        return self.returncode

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        if self.returncode is None:
            self.returncode = self._nursery.ask({"do": "poll", "pid": self.pid})
        return self.returncode

    def wait(self, timeout: float = SECONDS) -> int:
        """Return the exit code once it has ended."""
        if self.poll() is None:
            descriptor = os.pidfd_open(self.pid)  # nobody else's: the zygote has not asked for its end
            try:
                ready, _, _ = select.select([descriptor], [], [], timeout)
            finally:
                os.close(descriptor)
            if not ready:
                raise subprocess.TimeoutExpired(self._said(), timeout)
        code = self.poll()
        assert code is not None
        return code

    def communicate(self, timeout: float = SECONDS) -> tuple[bytes, bytes]:
        """Close its input, read what it writes to the end, and wait for its end."""
        deadline = time.monotonic() + timeout
        if self.stdin is not None and not self.stdin.closed:
            self.stdin.close()
        said = {stream: b"" for stream in (self.stdout, self.stderr) if stream is not None and not stream.closed}
        while is_open := [stream for stream in said if not stream.closed]:
            ready, _, _ = select.select(is_open, [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise subprocess.TimeoutExpired(self._said(), timeout)
            for stream in ready:
                piece = os.read(stream.fileno(), 1 << 16)
                said[stream] += piece
                if not piece:
                    stream.close()
        self.wait(max(0.0, deadline - time.monotonic()))
        return (
            said.get(self.stdout, b"") if self.stdout is not None else b"",
            said.get(self.stderr, b"") if self.stderr is not None else b"",
        )

    def _said(self) -> str:
        return "" if self._log is None else self._log.read_text()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _environment() -> dict[str, str]:
    """Return ours without the configuration of the person who runs the tests; numpy's OpenBLAS starts no threads."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "RINGBUF_"))}
    return mine | {_SESSION: os.environ[_SESSION], "OPENBLAS_NUM_THREADS": "1", "RINGBUF_DRAIN_STATE_DIR": "off"}


class Nursery:
    """A running zygote.

    Args:
        packages: the folder of the packages that it loads; None: those that are installed.
    """

    def __init__(self, packages: Path | None) -> None:
        folder = "" if packages is None else str(packages)
        code = _CODE.format(packages=folder) + _MAIN
        if packages is None:
            code = f"import sys; sys.path.append({str(ROOT)!r})\n" + code
            flags = ["-I"]
        else:
            code = _PREAMBLE.format(packages=folder, site=sysconfig.get_path("purelib"), root=str(ROOT)) + code
            flags = ["-I", "-S"]
        self._process = subprocess.Popen(
            [sys.executable, *flags, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(),
        )
        assert self._answer() == "ready"

    def ask(self, request: dict[str, Any]) -> Any:
        """Send a request and return the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def fork(self, role: str, *arguments: object, log: Path, kill_at: str = "", **environment: str) -> Child:
        """Start a process of this role, which is to be killed at this point, with more variables than ours."""
        everything = _environment() | environment
        return self._fork(role, arguments, log, stderr=log, kill_at=kill_at, environment=everything)

    def popen(
        self, role: str | Path, *arguments: object, log: Path | None = None, has_input: bool = False, text: bool = False
    ) -> Child:
        """Start a process of this role, or a script, in our folder and environment; its output is a pipe.

        Args:
            role: what is started.
            arguments: of it.
            log: gets its standard error, behind what is there; None: a pipe.
            has_input: whether its input is a pipe; else it is empty.
            text: whether input and output are of text.
        """
        with contextlib.ExitStack() as theirs:

            def pipe(*, is_read: bool) -> tuple[int, Path]:
                """Return our end, and the name by which another process of this user opens the other."""
                read, write = os.pipe()
                mine, other = (read, write) if is_read else (write, read)
                theirs.callback(os.close, other)
                return mine, Path(f"/proc/{os.getpid()}/fd/{other}")

            output, stdout = pipe(is_read=True)
            errors, stderr = pipe(is_read=True) if log is None else (None, log)
            given, stdin = pipe(is_read=False) if has_input else (None, _NULL)
            child = self._fork(
                str(role), arguments, log, stdin=stdin, stdout=stdout, stderr=stderr, environment=os.environ
            )
        child.stdout = os.fdopen(output, "r" if text else "rb")
        child.stderr = None if errors is None else os.fdopen(errors, "rb")
        child.stdin = None if given is None else os.fdopen(given, "w" if text else "wb")
        return child

    def on_terminal(self, role: str, *arguments: object, terminal: Path, environment: Mapping[str, str]) -> Child:
        """Start a process of this role whose three standard streams are a terminal."""
        return self._fork(
            role, arguments, None, stdin=terminal, stdout=terminal, stderr=terminal, environment=environment
        )

    def run(self, role: str | Path, *arguments: object, timeout: float = SECONDS) -> subprocess.CompletedProcess[str]:
        """Run such a process to its end."""
        child = self.popen(role, *arguments)
        try:
            out, errors = child.communicate(timeout)
        finally:
            child.kill()
            child.wait()
        return subprocess.CompletedProcess(
            [str(role), *map(str, arguments)], child.wait(), out.decode(), errors.decode()
        )

    def _fork(
        self,
        role: str,
        arguments: tuple[object, ...],
        log: Path | None,
        *,
        environment: Mapping[str, str],
        stderr: Path,
        stdin: Path = _NULL,
        stdout: Path = _NULL,
        kill_at: str = "",
    ) -> Child:
        request = {
            "do": "fork",
            "role": role,
            "arguments": [str(argument) for argument in arguments],
            "stdin": str(stdin),
            "stdout": str(stdout),
            "stderr": str(stderr.absolute()),
            "folder": str(Path.cwd()),
            "kill_at": kill_at,
            "environment": dict(environment),
        }
        return Child(self, self.ask(request), log)

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the zygote has ended"
        return json.loads(line)

    def close(self) -> None:
        self._process.communicate(timeout=SECONDS)  # the end of its input ends it, and what it forked

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class _Session:
    """The tests' own process, and the zygote that they share."""

    pid: int | None = None
    zygote: Nursery | None = None


def begin_session() -> None:
    """Let tests of this process fork from a zygote."""
    _Session.pid = os.getpid()


def end_session() -> None:
    """End the zygote, if there was need of one."""
    if _Session.zygote is not None:
        _Session.zygote.close()
    _Session.pid = _Session.zygote = None


def shared() -> Nursery:
    """Return the zygote of the packages that are installed, which all tests of a process fork from."""
    assert _Session.pid == os.getpid()
    if _Session.zygote is None:
        _Session.zygote = Nursery(None)
    return _Session.zygote


def run(code: str, *arguments: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run Python code to its end, with the arguments from sys.argv[1] on, in a process that has everything loaded.

    It ends without the end of an interpreter: what is about starts, imports or ends has `run` of tests/python.py. Where
    only the producer is installed, as where wheels are tested, that is used here, too: the zygote loads the drain.
    """
    if not is_drain_installed():
        return python.run(code, *arguments, timeout=timeout)
    return shared().run("-c", _WARNINGS_ARE_ERRORS + code, *arguments, timeout=timeout)


def is_drain_installed() -> bool:
    return find_spec("typer") is not None


def output_of(code: str, *arguments: object) -> str:
    """Run the code so and return what it printed; another status than 0 is a failure."""
    done = run(code, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def can_fork_here() -> bool:
    """Whether a fork is what a start from here would be: by the tests' own process, and nothing is preloaded."""
    return _Session.pid == os.getpid() and not any(name.startswith("LD_") for name in os.environ)
