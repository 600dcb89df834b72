"""A zygote as its user sees it, and the processes that it forks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tests.conftest import SESSION_VARIABLE
from tests.python import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 30.0

# -S keeps the editable installation's finder out, which would come before any folder; then what it left out is added.
_PREAMBLE = "import sys; sys.path[:0] = [{packages!r}]; sys.path += [{site!r}, {root!r}]\n"
_CODE = "import ringbuf; assert not {packages!r} or ringbuf.__file__.startswith({packages!r})\n"
_MAIN = "from tests.points.zygote import main\nmain()"


@dataclass
class Child:
    """A process that a zygote forked."""

    nursery: Nursery
    pid: int
    log: Path
    code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        if self.code is None:
            self.code = self.nursery.ask({"do": "poll", "pid": self.pid})
        return self.code

    def wait(self) -> int:
        """Return the exit code once it has ended."""
        end = time.monotonic() + SECONDS
        while (code := self.poll()) is None:
            assert time.monotonic() < end, f"it goes on:\n{self.log.read_text()}"
            time.sleep(0.002)
        return code


def _environment() -> dict[str, str]:
    """Return ours without the configuration of the person who runs the tests; numpy's OpenBLAS starts no threads."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "RINGBUF_"))}
    return mine | {SESSION_VARIABLE: os.environ[SESSION_VARIABLE], "OPENBLAS_NUM_THREADS": "1"}


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
        request = {
            "do": "fork",
            "role": role,
            "arguments": [str(argument) for argument in arguments],
            "log": str(log),
            "kill_at": kill_at,
            "environment": environment,
        }
        return Child(self, self.ask(request), log)

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the zygote has ended"
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.communicate(timeout=SECONDS)  # the end of its input ends it, and what it forked
