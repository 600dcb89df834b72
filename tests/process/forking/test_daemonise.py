"""A daemon that forks twice and gives up its descriptors goes on with a ring of its own, long after its parents."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from ringbuf._ringbuf import lib
from tests.consumer import rings_in
from tests.process.forking.test_fork import is_alive
from tests.process.numbered import check_all_told, told_in
from tests.python import output_of
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

DAEMONISE = """
import os, signal, ringbuf
from tests.process.numbered import Numbered
ring_dir, told, first = sys.argv[1:]
os.chdir(os.path.dirname(ring_dir))
emitter = ringbuf.Emitter("service", ring_dir=os.path.basename(ring_dir), capacity=1024)
if first == "True":
    numbered = Numbered(emitter, told)
    numbered.emit_some()
    numbered.tell()
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        # As daemons do: another directory, no descriptor of the parent's, a narrow umask.
        os.chdir("/")
        os.umask(0o277)
        signal.alarm(60)  # if nobody ends it
        os.dup2(write, 3)
        os.closerange(4, 256)
        for descriptor in (0, 1, 2):
            os.dup2(os.open("/dev/null", os.O_RDWR), descriptor)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        daemon = Numbered(emitter, told)
        daemon.emit_some()
        os.write(3, str(os.getpid()).encode())
        os.close(3)
        signal.sigwait({signal.SIGTERM})
        daemon.emit_some()
        daemon.tell()
        sys.exit()
    os._exit(0)
os.close(write)
print(os.read(read, 20).decode(), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("parent_emits", [True, False])
def test_a_daemon_goes_on_with_its_own_ring(ring_dir: Path, tmp_path: Path, parent_emits: bool) -> None:
    told = tmp_path / "told"
    daemon = int(output_of(DAEMONISE, ring_dir, told, parent_emits))
    try:
        alive = {}
        for path in rings_in(ring_dir):
            with path.open("rb") as file:
                alive[path.name.split("-")[1]] = lib.rb_producer_alive(file.fileno())
        assert alive.pop(str(daemon)) == 1
        assert list(alive.values()) == [0]  # the parent's, though its grandchild lives
    finally:
        os.kill(daemon, signal.SIGTERM)
    until(lambda: not is_alive(daemon))
    if parent_emits:
        check_all_told(ring_dir, told, 2)
    assert told_in(told)[daemon] == 2 * 60
