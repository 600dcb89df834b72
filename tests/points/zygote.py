"""A process with everything loaded that forks producers and drains on request: a start takes milliseconds.

Each line of its input is a request in JSON, each line of its output the answer. It has one thread, as it must.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import drain.__main__
from tests.points import kill_switch, victim

ROLES = {"drain": None, "victim": victim.run, "hurried victim": victim.hurry}


def become(role: str, arguments: list[str], kill_at: str, log: str) -> int:
    """Be a producer or a drain; return the exit code."""
    null = os.open(os.devnull, os.O_RDWR)
    to = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target, source in ((0, null), (1, null), (2, to)):
        os.dup2(source, target)
    if "/" in kill_at:
        kill_switch.arm(kill_at)
    elif kill_at:
        os.environ["RINGBUF_KILL_AT"] = kill_at
    run = ROLES[role]
    if run is not None:
        run(*arguments)
        return 0
    sys.argv = ["ringbuf-drain", *arguments]
    try:
        drain.__main__.main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    return 0


def fork(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid != 0:
        return pid
    code = 70
    try:
        os.environ.update(request["environment"])
        code = become(request["role"], request["arguments"], request["kill_at"], request["log"])
    except BaseException:  # noqa: BLE001 - whatever it is, the child must not go on as a zygote
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Answer until the input ends; then end what still runs."""
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a fork beside threads may hang"
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
