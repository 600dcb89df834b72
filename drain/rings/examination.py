"""The rings that a drain left that died of a fault: none is read before another process has read it, and lived."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

from drain.rings.verdict import Suspect, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from drain.otlp.request import Encoding

# Before the process is started again; after the last start the rings are read unexamined. Want of descriptors or memory
# may pass meanwhile.
_PAUSES_SECONDS: Final = (1.0, 5.0)
_READ_BYTES: Final = 1 << 16
# Of all modules only sys is there before the drain's own path is: the working directory is not looked into.
_START: Final = "import sys; sys.path[:] = sys.argv[1:]; import drain.rings.examiner; drain.rings.examiner.main()"


class Examination:
    """Rings that are examined; a drain that reads others meanwhile asks for the verdicts.

    Args:
        directory: of the rings.
        suspects: the rings.
        encoding: what the exporter sends.
        max_bytes: larger files are passed over.
        batch_spans: how many records the drain reads in one go, at most.
        are_held: it decides on traces.
        rules: the file with those by which it does; None: they are in none.
        log: for trouble.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        directory: Path,
        suspects: Sequence[Suspect],
        *,
        encoding: Encoding,
        max_bytes: int,
        batch_spans: int,
        are_held: bool = False,
        rules: Path | None = None,
        log: FilteringBoundLogger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._job = {
            "directory": str(directory),
            "encoding": encoding,
            "max_bytes": max_bytes,
            "batch_spans": batch_spans,
            "are_held": are_held,
            "rules": None if rules is None else str(rules),
            "parent": os.getpid(),
        }
        self._log = log
        self._waiting = {suspect.inode: suspect for suspect in suspects}
        self._process: subprocess.Popen[bytes] | None = None
        self._clock = clock
        self._starts = 0
        self._next_start = clock()
        self._is_hopeless = False
        self._output = -1
        self._rest = b""

    @property
    def waiting(self) -> int:
        """How many rings have no verdict yet."""
        return len(self._waiting)

    def is_waiting(self, inode: int) -> bool:
        """Whether a ring has no verdict yet."""
        return inode in self._waiting

    def verdicts(self) -> list[tuple[Suspect, Verdict]]:
        """Return the verdicts that came since the last call; at once, also when there are none."""
        found: list[tuple[Suspect, Verdict]] = []
        while self._waiting and self._is_started():
            lines = self._lines()
            if not lines:
                if lines is None:
                    self._end()
                    self._plan_start()
                break
            for line in lines:
                verdict = _verdict(line)
                if suspect := self._waiting.pop(verdict.inode, None):
                    found.append((suspect, verdict))
        if self._waiting and self._is_hopeless:
            self._log.error("rings are read without examination", rings=len(self._waiting))
            found += [(suspect, Verdict(suspect.inode)) for suspect in self._waiting.values()]
            self._waiting.clear()
        if not self._waiting:
            self._end()
        return found

    def close(self) -> None:
        """End the process, and examine no more."""
        self._waiting.clear()
        self._end()

    def _is_started(self) -> bool:
        """Start the process if it is time; return whether there is one."""
        if self._process is None and not self._is_hopeless and self._clock() >= self._next_start:
            try:
                self._start()
            except OSError as error:  # no process, no memory
                self._log.warning("rings cannot be examined now", reason=str(error))
                self._plan_start()
        return self._process is not None

    def _plan_start(self) -> None:
        if self._starts <= len(_PAUSES_SECONDS):
            self._next_start = self._clock() + _PAUSES_SECONDS[self._starts - 1]
        else:
            self._is_hopeless = True

    def _start(self) -> None:
        self._starts += 1
        self._rest = b""
        with contextlib.ExitStack() as ends:
            # A pipe could be full: this never waits.
            job = ends.enter_context(os.fdopen(os.memfd_create("ringbuf-examination"), "w+"))
            json.dump(self._job | {"suspects": list(self._waiting.values())}, job)
            job.seek(0)
            output, to = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            ends.callback(os.close, to)
            kept = ends.enter_context(contextlib.ExitStack())
            kept.callback(os.close, output)
            os.set_blocking(to, True)
            flags = ["-I"] if sys.flags.isolated else []
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, and its own path
                [sys.executable, *flags, "-c", _START, *sys.path],
                stdin=job,
                stdout=to,
                process_group=0,  # Ctrl-C is for the drain
            )
            self._output = output
            kept.pop_all()

    def _lines(self) -> list[bytes] | None:
        """Return the whole lines that are there, None at the end of the process."""
        try:
            data = os.read(self._output, _READ_BYTES)
        except BlockingIOError:
            return []
        except OSError as error:
            self._log.warning("rings cannot be examined now", reason=str(error))
            return None
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines or []

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            os.close(self._output)
            self._process = None


def _verdict(line: bytes) -> Verdict:
    told = json.loads(line)
    unsafe = {int(lane): list(map(int, positions)) for lane, positions in told["unsafe"].items()}
    return Verdict(told["inode"], unsafe, told["reason"], is_attachable=told["is_attachable"])
