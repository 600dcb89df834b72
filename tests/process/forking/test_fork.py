"""Forks of every kind: the child has a ring and ids of its own, and the parent's ring is the parent's."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ringbuf._ringbuf import lib
from tests.consumer import Consumer, records_in, rings_in, span_ids
from tests.nursery import output_of
from tests.process.forking.forks import SPANS, WAYS
from tests.python import command
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(__file__).with_name("forks.py")
WITHOUT_A_RING_OF_ITS_OWN = ("a child that closes at once",)
# Its own ring's atexit runs in some, os._exit skips it in others: either way the ring ends with the process.
EMITTED = 3 * SPANS // 2
PATIENCE = 120.0


KERNELS = ("wipes on fork", "does not")


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest, c_compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the processes of a test have a kernel as ours, or one that lacks what gVisor's and old ones do."""
    if request.param == "does not":
        shim = tmp_path / "madvise_shim.so"
        source = PROGRAM.with_name("madvise_shim.c")
        subprocess.run([c_compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", source, "-o", shim], check=True)
        preloaded = os.environ.get("LD_PRELOAD", "").split()  # a sanitizer's runtime has to be the first
        monkeypatch.setenv("LD_PRELOAD", " ".join([*preloaded, str(shim)]))
    return str(request.param)


# Each way has one of the kernels in `make test`.
@pytest.mark.parametrize(
    ("kernel", "way"),
    [
        pytest.param(kernel, way, marks=[pytest.mark.prove] if (at + of) % 2 else [])
        for of, kernel in enumerate(KERNELS)
        for at, way in enumerate(WAYS)
    ],
    indirect=["kernel"],
)
def test_a_child_has_its_own_ring_and_ids(ring_dir: Path, kernel: str, way: str) -> None:
    if way == "_Fork" and not hasattr(__import__("ctypes").CDLL(None), "_Fork"):
        pytest.skip("this libc has no _Fork")
    done = subprocess.run(
        [sys.executable, PROGRAM, way, ring_dir], capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    parent = int(done.stdout)
    ids: list[bytes] = []
    emitted = {}
    for path in rings_in(ring_dir):
        with path.open("rb") as file:
            assert lib.rb_producer_alive(file.fileno()) == 0
        with Consumer(path) as consumer:
            records = consumer.take_all()
            pid = consumer.header.pid
        ids += span_ids(records)
        if not path.name.startswith("outer"):
            leases = {int.from_bytes(bytes(lease), "big") for lease in records["grafos.lease.id"]}
            assert leases == {pid}
            numbers = [int(start) for start in records["start_unix_nano"] if start < 1000]
            assert numbers == list(range(len(numbers)))
            emitted[pid] = len(records)
    assert len(ids) == len(set(ids))
    assert emitted.pop(parent) == 2 * EMITTED
    assert list(emitted.values()) == {"os.fork twice": [EMITTED] * 2, "a child that closes at once": []}.get(
        way, [EMITTED]
    )


def test_stats_of_a_child_begin_at_zero(ring_dir: Path) -> None:
    output_of(
        """
import os, ringbuf
from ringbuf.dataplane import *
emitter = ringbuf.Emitter("service", ring_dir=sys.argv[1])
read = site(OpType.FBMU_READ, emitter=emitter)
assert read.emit(LeaseId(1), 1, 2)
pid = os.fork()
if pid == 0:
    stats = emitter.stats()
    assert (stats.attempts, stats.capacity, stats.path) == (0, 0, None), stats
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert emitter.stats().attempts == 1
""",
        ring_dir,
    )


@pytest.mark.parametrize("looked_at", [False, True])
def test_a_child_continues_the_span_in_which_it_was_forked(ring_dir: Path, looked_at: bool) -> None:
    output_of(
        """
import os, ringbuf
from ringbuf.dataplane import *
read = site(OpType.FBMU_READ, emitter=ringbuf.Emitter("service", ring_dir=sys.argv[1]))
with read.span(LeaseId(1)), read.span(LeaseId(2)) as span:
    if sys.argv[2] == "True":
        span.traceparent
    pid = os.fork()
    if pid == 0:
        assert read.emit(LeaseId(3), 1, 2)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
""",
        ring_dir,
        looked_at,
    )
    records = {int(record["grafos.lease.id"][15]): record for record in records_in(ring_dir)}
    assert records.keys() == {1, 2, 3}
    for child, parent in ((3, 2), (2, 1)):
        assert records[child]["parent_span_id"].tobytes() == records[parent]["span_id"].tobytes()
        assert records[child]["trace_id"].tobytes() == records[parent]["trace_id"].tobytes()


def test_a_child_without_room_for_a_ring_counts_and_goes_on(ring_dir: Path) -> None:
    output = output_of(
        """
import logging, os, shutil, ringbuf
from ringbuf.dataplane import *
from ringbuf.log import wait_until_told
warnings = []
logging.getLogger("ringbuf").addHandler(logging.NullHandler())
logging.getLogger("ringbuf").addFilter(lambda record: warnings.append(record) or False)
emitter = ringbuf.Emitter("service", ring_dir=sys.argv[1])
read = site(OpType.FBMU_READ, emitter=emitter)
pid = os.fork()
if pid == 0:
    os.environ["RINGBUF_MAX_BYTES"] = "1"
    with read.span(LeaseId(1)):
        assert [read.emit(LeaseId(1), 1, 2) for _ in range(10)] == [False] * 10
    stats = emitter.stats()
    wait_until_told(60)
    assert (stats.local, stats.attempts, len(warnings)) == (11, 11, 1), (stats, warnings)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert read.emit(LeaseId(1), 1, 2)
print("fine")
""",
        ring_dir,
    )
    assert output == "fine\n"
    assert len(rings_in(ring_dir)) == 1


FORKS_BESIDE_THREADS = """
import os, threading, warnings, ringbuf
from ringbuf.dataplane import *
warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
emitter = ringbuf.Emitter("service", ring_dir=sys.argv[1], capacity=8, lanes=int(sys.argv[3]))
read = site(OpType.FBMU_READ, emitter=emitter)
done = False
counts = []
def work():
    attempts = 0
    while not done:
        read.emit(LeaseId(1), 1, 2)
        with read.span(LeaseId(1)):
            pass
        attempts += 2
    counts.append(attempts)
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for number in range(int(sys.argv[2])):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            assert all([read.emit(LeaseId(2), 1, 2) for _ in range(3)])
            stats = emitter.stats()
            assert (stats.published, stats.attempts) == (3, 3), stats
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, number
done = True
for thread in threads:
    thread.join()
assert emitter.stats().attempts == sum(counts), (emitter.stats(), counts)
"""


def check_forks_beside_threads(ring_dir: Path, forks: int, lanes: int) -> None:
    output_of(FORKS_BESIDE_THREADS, ring_dir, forks, lanes)
    ids = []
    for path in rings_in(ring_dir):
        with Consumer(path) as consumer:
            ids += span_ids(consumer.take_all())
    assert len(rings_in(ring_dir)) == forks + 1
    assert len(ids) == len(set(ids)) == 3 * forks + 8 * lanes


# The time goes with the square of their number.
@pytest.mark.parametrize(
    ("lanes", "forks"),
    [(1, 20), pytest.param(1, 150, marks=[pytest.mark.prove]), pytest.param(2, 150, marks=[pytest.mark.prove])],
)
def test_forks_beside_threads_that_emit(ring_dir: Path, lanes: int, forks: int) -> None:
    check_forks_beside_threads(ring_dir, forks, lanes)


@pytest.mark.soak
def test_many_forks_beside_threads_that_emit(ring_dir: Path) -> None:
    # In rounds: each child looks at all rings that are there, so the time goes with the square of their number.
    for _ in range(20):
        check_forks_beside_threads(ring_dir, 250, 2)
        for path in rings_in(ring_dir):
            path.unlink()


def test_a_fork_while_a_ring_is_made_does_not_inherit_its_lock(ring_dir: Path) -> None:
    # The children live on while each ring is given up: nobody may hold a lock of theirs then.
    output = output_of(
        """
import os, threading, time, warnings, ringbuf
from pathlib import Path
from ringbuf._ringbuf import lib
from tests.waiting import comes_true
warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
ring_dir = Path(sys.argv[1])
done = False
made = alive = 0
def is_held(path):
    with path.open("rb") as file:
        return not comes_true(lambda: lib.rb_producer_alive(file.fileno()) == 0, within=20)
def make_rings():
    global made, alive
    while not done:
        try:
            ringbuf.Emitter("service", ring_dir=ring_dir, capacity=1 << 16)  # and give it up
        except ringbuf.RingBufferError:  # a fork was held up for a second
            continue
        made += 1
        for path in ring_dir.glob("*.ring"):
            alive += is_held(path)
            path.unlink()
thread = threading.Thread(target=make_rings)
thread.start()
life_read, life_write = os.pipe()
children = []
end = time.monotonic() + 90
while made < 30 and time.monotonic() < end:
    time.sleep(0.001)  # lets the other thread have the GIL
    if len(children) >= 300:
        continue
    begun = time.monotonic()
    pid = os.fork()
    if pid == 0:
        if time.monotonic() - begun < 0.9:  # a fork waits no longer than a second for a ring that is being made
            os.close(life_write)
            os.read(life_read, 1)
        os._exit(0)
    children.append(pid)
done = True
thread.join()
os.close(life_write)
for pid in children:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
print(made >= 10, alive)
""",
        ring_dir,
    )
    assert output == "True 0\n"


# The child waits for the end of its standard input, which is the test's.
BEAR_A_CHILD = """
import ctypes, multiprocessing, os, subprocess, ringbuf
from ringbuf.dataplane import *
from tests.process.forking.forks import SIGCHLD, SYS_CLONE, libc
emitter = ringbuf.Emitter("service", ring_dir=sys.argv[1])
site(OpType.FBMU_READ, emitter=emitter).emit(LeaseId(1), 1, 2)
def wait():
    print(os.getpid(), flush=True)
    os.read(0, 1)
    os._exit(0)
way = sys.argv[2]
if way == "multiprocessing fork":
    parent_input = os.dup(0)
    def target():
        os.dup2(parent_input, 0)  # multiprocessing gives its children an empty one
        wait()
    multiprocessing.get_context("fork").Process(target=target).start()
elif way == "subprocess":
    wait = "import os; print(os.getpid(), flush=True); os.read(0, 1)"
    subprocess.Popen([sys.executable, "-c", wait], close_fds=False)
else:
    fork = {
        "os.fork": os.fork, "_Fork": getattr(libc, "_Fork", os.fork),
        "a raw fork": lambda: libc.syscall(SYS_CLONE, SIGCHLD, 0, 0, 0, 0),
    }[way]
    if fork() == 0:
        wait()
os.read(0, 1)
"""


@pytest.fixture
def parent(request: pytest.FixtureRequest, ring_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a producer that has borne a child, in the way of the test's parameter."""
    arguments = command(BEAR_A_CHILD, ring_dir, request.param)
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        if process.poll() is None:
            process.kill()
    # Whose standard input ended: the child goes too.


@pytest.mark.parametrize(
    "parent", ["os.fork", "a raw fork", "_Fork", "multiprocessing fork", "subprocess"], indirect=True
)
def test_a_killed_producers_lock_is_free_though_its_child_lives(ring_dir: Path, parent: subprocess.Popen[str]) -> None:
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    (path,) = rings_in(ring_dir)
    with path.open("r+b") as file:
        assert lib.rb_producer_alive(file.fileno()) == 1
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        parent.kill()
        assert parent.wait(PATIENCE) == -signal.SIGKILL
        until(lambda: lib.rb_producer_alive(file.fileno()) == 0)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.kill(child, 0)  # it lives
    with Consumer(path) as consumer:
        assert len(consumer.take()) == 1
    assert parent.stdin is not None
    parent.stdin.close()
    until(lambda: not is_alive(child))


def is_alive(pid: int) -> bool:
    """Whether a process runs: one that nobody has waited for yet does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_span_is_written_by_the_process_that_entered_its_block(ring_dir: Path) -> None:
    output_of(
        """
import os, ringbuf
from ringbuf.dataplane import *
emitter = ringbuf.Emitter("service", ring_dir=sys.argv[1])
read = site(OpType.FBMU_READ, emitter=emitter)
with read.span(LeaseId(1)):
    pid = os.fork()
if pid == 0:
    assert emitter.stats().attempts == 0
    with read.span(LeaseId(2)):
        pass
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
""",
        ring_dir,
    )
    assert sorted(int(record["grafos.lease.id"][15]) for record in records_in(ring_dir)) == [1, 2]
