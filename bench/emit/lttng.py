"""LTTng-UST, the fastest tracer that Linux distributions have: a tracepoint with as much payload as our record has.

The session is a flight recorder: it writes over its own buffers and no disk, which suits LTTng best.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.emit.native import compile_c, rounds_of
from bench.measure import ProbeError, Skipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.measure import Round

SOURCE: Final = Path(__file__).with_name("lttng.c")
_SESSION: Final = "ringbuf-bench"
_EVENT: Final = "ringbuf_bench:span"
_MISSING: Final = "needs Debian's lttng-tools and liblttng-ust-dev"
_START_SECONDS: Final = 20.0


@contextmanager
def tracepoint() -> Iterator[Round]:
    """Measure a tracepoint of an active session."""
    lttng, daemon = shutil.which("lttng"), shutil.which("lttng-sessiond")
    if lttng is None or daemon is None:
        raise Skipped(_MISSING)
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-bench-")))
        try:
            program = compile_c(SOURCE, folder / "lttng", [f"-I{SOURCE.parent}"], ["-llttng-ust", "-ldl"])
        except ProbeError as error:
            if "lttng/tracepoint.h: No such file" in str(error):
                raise Skipped(_MISSING) from None
            raise
        environment = {**os.environ, "LTTNG_HOME": str(folder), "LTTNG_UST_REGISTER_TIMEOUT": "-1"}
        cleanup.enter_context(_session_daemon(daemon, lttng, environment))
        for command in (
            ["create", _SESSION, "--snapshot", f"--output={folder / 'trace'}"],
            ["enable-channel", "--userspace", "--overwrite", "--subbuf-size=1M", "--num-subbuf=4", "spans"],
            ["enable-event", "--userspace", _EVENT, "--channel=spans"],
            ["start"],
        ):
            _run([lttng, *command], environment)
        cleanup.callback(_run, [lttng, "destroy", _SESSION], environment)
        yield cleanup.enter_context(rounds_of([program], environment))


@contextmanager
def _session_daemon(daemon: str, lttng: str, environment: dict[str, str]) -> Iterator[None]:
    if _answers(lttng, environment):
        raise Skipped("another lttng-sessiond runs here")
    process = subprocess.Popen(
        [daemon, "--no-kernel"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + _START_SECONDS
        while not _answers(lttng, environment):
            if process.poll() is not None or time.monotonic() >= end:
                raise Skipped("lttng-sessiond does not start here")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(_START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(lttng: str, environment: dict[str, str]) -> bool:
    command = [lttng, "--no-sessiond", "list"]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0


def _run(command: list[str], environment: dict[str, str]) -> None:
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ProbeError(f"{' '.join(command)}: {result.stdout}{result.stderr}")


PROBES: Final = {"lttng.tracepoint": tracepoint}
