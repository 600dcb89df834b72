"""A process with everything loaded that forks producers and drains on request: a start takes milliseconds.

Each line of its input is a request in JSON, each line of its output the answer. It has one thread, as it must.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

import drain.__main__
import drain.command
import drain.tools.__main__
from tests.points import kill_switch, victim

if TYPE_CHECKING:
    from collections.abc import Callable

ROLES: dict[str, Callable[..., object]] = {"victim": victim.run, "hurried victim": victim.hurry}
ARE_MAIN: dict[str, Callable[[], object]] = {"drain": drain.__main__.main, "ringbuf": drain.tools.__main__.main}
CODE = "-c"


def load_everything() -> None:
    """Load what commands load as they need it, and make the drain's command line: most of what a fork would do."""
    for module in pkgutil.walk_packages(drain.__path__, "drain."):
        with contextlib.suppress(ModuleNotFoundError):  # of what an extra brings
            importlib.import_module(module.name)
    typer.main.get_command = functools.cache(typer.main.get_command)
    group: Any = typer.main.get_command(drain.command.app)
    for command in (group, *group.commands.values()):
        for parameter in command.params:
            parameter.get_runtime_param()


def become(role: str, arguments: list[str], kill_at: str) -> int:
    """Be a victim, a drain, or the script of this path; return the exit code."""
    if "/" in kill_at:
        kill_switch.arm(kill_at)
    elif kill_at:
        os.environ["RINGBUF_KILL_AT"] = kill_at
    if role in ROLES:
        ROLES[role](*arguments)
        return 0
    sys.argv = [role, *arguments]
    try:
        if role in ARE_MAIN:
            ARE_MAIN[role]()
        elif role == CODE:
            exec(sys.argv.pop(1), {"__name__": "__main__"})  # noqa: S102 - as Python's own -c
        else:
            runpy.run_path(role, run_name="__main__")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def opened(request: dict[str, Any]) -> list[int]:
    """Open the standard streams of a process to be."""
    return [
        os.open(request["stdin"], os.O_RDONLY),
        os.open(request["stdout"], os.O_WRONLY),
        os.open(request["stderr"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
    ]


def fork(request: dict[str, Any]) -> int:
    streams = opened(request)
    pid = os.fork()
    if pid != 0:
        for descriptor in streams:
            os.close(descriptor)
        return pid
    code = 70
    try:
        for target, descriptor in enumerate(streams):
            os.dup2(descriptor, target)
            os.close(descriptor)
        sys.stdin = os.fdopen(0, closefd=False)  # the old one may have read more requests
        os.environ.clear()
        os.environ.update(request["environment"])
        time.tzset()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # also where we run in a shell's background
        os.chdir(request["folder"])
        code = become(request["role"], request["arguments"], request["kill_at"])
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001 - whatever it is, the child must not go on as a zygote
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Answer until the input ends; then end what still runs."""
    load_everything()
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a fork beside threads may hang"
    gc.freeze()  # what is loaded is not looked at again by each child
    children: set[int] = set()
    print(json.dumps("ready"), flush=True)  # noqa: T201 - the answers
    for line in sys.stdin:
        request = json.loads(line)
        answer: int | None
        if request["do"] == "fork":
            answer = fork(request)
            children.add(answer)
        else:
            pid, status = os.waitpid(request["pid"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
            children.discard(pid)
        print(json.dumps(answer), flush=True)  # noqa: T201
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
