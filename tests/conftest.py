"""What every test may count on: a private ring directory, a clean environment, and nothing left behind."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import re
import secrets
import shutil
import tempfile
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, NoReturn

import hypothesis
import pytest

from ringbuf.log import wait_until_told
from tests import fakes, nursery, waiting
from tests.examples import ABOUT_CHANCE
from tests.python import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

SHM = Path("/dev/shm")  # noqa: S108 - rings belong on a tmpfs, and this is Linux's
DEFAULT_RING_DIR = SHM / f"ringbuf-{os.getuid()}"
DEFAULT_STATE_DIRS = Path.home() / ".local" / "state" / "ringbuf-drain"
# Every process that a test starts inherits this variable, so that one that outlives the session is found.
SESSION = f"ringbuf-test-{os.getpid()}-{secrets.token_hex(4)}"
SESSION_VARIABLE = "RINGBUF_TEST_SESSION"
CONFIGURATION = ("OTEL_", "RINGBUF_")
# multiprocessing keeps these two running until the interpreter exits.
STAY_UNTIL_EXIT = (b"multiprocessing.resource_tracker", b"multiprocessing.forkserver")

gc.disable()  # what is collected, thousands of tests, all stays: nothing is to look through it, now or later

# How long a machine takes to draw says nothing of the product, nor does a seed that draws in vain more often than most.
hypothesis.settings.register_profile("full", deadline=None, print_blob=True, suppress_health_check=ABOUT_CHANCE)
# Few examples, and for the same code and the same modules loaded the same ones; `make prove` looks for others. Which
# modules are loaded depends on which tests a process was given: Hypothesis draws the constants that it finds in them.
hypothesis.settings.register_profile("quick", hypothesis.settings.get_profile("full"), max_examples=8, derandomize=True)
hypothesis.settings.load_profile("quick")  # `make prove` names the other

LEFT_OUT = pytest.StashKey[frozenset[str]]()
"""Marks of tests that this run leaves out, so that they need not even be made."""


def pytest_configure(config: pytest.Config) -> None:
    """See what is left out: of `-m "not soak and not prove"` both, unless a file or a test is asked for by its name."""
    says = config.getoption("markexpr")
    is_understood = re.fullmatch(r"not \w+( and not \w+)*", says) and are_folders(config)
    config.stash[LEFT_OUT] = frozenset(re.findall(r"not (\w+)", says) if is_understood else ())


def are_folders(config: pytest.Config) -> bool:
    """Whether whole folders of tests are run."""
    return all((config.invocation_params.dir / argument).is_dir() for argument in config.args)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not load a file of which every test has a mark that is left out."""
    if collection_path.suffix != ".py" or not config.stash[LEFT_OUT]:
        return None
    marks = re.findall(r"^pytestmark = pytest\.mark\.(\w+)$", collection_path.read_text(encoding="utf-8"), re.MULTILINE)
    return True if config.stash[LEFT_OUT].intersection(marks) else None


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, obj: object) -> list[pytest.Item] | None:
    """Make nothing of a test that is left out."""
    marks = [mark.name for mark in getattr(obj, "pytestmark", ())] if isinstance(obj, FunctionType) else ()
    return [] if collector.config.stash[LEFT_OUT].intersection(marks) else None


@pytest.hookimpl(wrapper=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None]:
    """Make nothing of parameters that are left out, but for one where all are: without any it would be another test."""
    yield
    left_out = metafunc.config.stash[LEFT_OUT]
    calls = metafunc._calls
    metafunc._calls = [call for call in calls if not left_out.intersection(m.name for m in call.marks)] or calls[:1]


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Let each of several processes load another part of the tests first, so that it alone compiles it for all."""
    worker = getattr(session.config, "workerinput", None)
    if worker is None or not are_folders(session.config):
        return
    folders = [session.config.invocation_params.dir / argument for argument in session.config.args]
    files = sorted({file for folder in folders for file in folder.rglob("test_*.py")})
    for file in files[int(worker["workerid"].removeprefix("gw")) :: worker["workercount"]]:
        if not pytest_ignore_collect(file, session.config):
            with contextlib.suppress(Exception, pytest.skip.Exception):  # it is told when the file is collected
                importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))


# Tests that share a folder in which something is built; elsewhere each test may run in any process.
BUILD_TOGETHER = ("tests/packaging/", "tests/test_aarch64.py", "tests/test_fuzz.py", "tests/test_sanitized.py")


@pytest.hookimpl(optionalhook=True)  # there is none without pytest-xdist, as where wheels are tested
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Let `make prove` (--dist loadgroup) hand out tests one by one, but for those that build together.

    Not by the mark `xdist_group`: that changes a test's id, which pytest 9.2 does not allow any more.
    """
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 - where it is installed

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test whose id holds an address: processes that collect other ids share no tests, and run none."""
    gc.freeze()
    gc.enable()
    strange = [item.nodeid for item in items if re.search(r" at 0x[0-9a-f]{6}", item.nodeid)]
    if strange:
        raise pytest.UsageError(f"give these parameters an id: {strange}")


def group_of(nodeid: str) -> str:
    """Return what a test shares with those that must run in the same process.

    >>> group_of("tests/packaging/test_wheel.py::test_it"), group_of("tests/test_c.py::test_c[tsan-stress]")
    ('tests/packaging/', 'tests/test_c.py::test_c[tsan')
    """
    if nodeid.startswith("tests/test_c.py::test_c["):
        return nodeid.partition("-")[0]
    return next((place for place in BUILD_TOGETHER if nodeid.startswith(place)), nodeid)


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail the session when a test leaves a process, or anything under /dev/shm."""
    assert gc.isenabled(), "tests are run as programs are, with a garbage collector"
    os.environ[SESSION_VARIABLE] = SESSION
    default_was_there = DEFAULT_RING_DIR.exists()
    states = set(DEFAULT_STATE_DIRS.glob("*"))
    nursery.begin_session()
    yield
    nursery.end_session()
    # One that was killed may have its end before it yet, as where it dies with a parent that the last test has killed.
    waiting.until(
        lambda: not processes_of_this_session(), within=30, why=lambda: f"left running: {processes_of_this_session()}"
    )
    assert not list(SHM.glob(f"{SESSION}*")), "a test left its ring directory"
    assert set(DEFAULT_STATE_DIRS.glob("*")) == states, "a drain of a test has used the user's own state directory"
    assert default_was_there or not DEFAULT_RING_DIR.exists(), "a test made rings in the user's own ring directory"


@pytest.fixture(autouse=True)
def environment_without_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the OTEL_* and RINGBUF_* variables of the person who runs the tests."""
    for name in list(os.environ):
        if name.startswith(CONFIGURATION) and name not in (SESSION_VARIABLE, "RINGBUF_REQUIRE_DEBIAN"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("RINGBUF_REQUIRED", "1")  # a test of a ring that cannot be made is no other test
    monkeypatch.setenv("RINGBUF_DRAIN_LISTEN", "off")  # the default port belongs to the machine's own drain
    monkeypatch.setenv("RINGBUF_DRAIN_STATE_DIR", "off")  # and the default folder to the user's


@pytest.fixture(autouse=True)
def checks_in_fakes() -> Iterator[None]:
    """Fail the test at its end by what a fake has raised in a thread that went on."""
    yield
    fakes.raise_fault()


@pytest.fixture(autouse=True)
def warnings_are_told_in_their_own_test() -> Iterator[None]:
    """Wait for what the producer says from other threads: a line that comes late is not for the next test to count."""
    yield
    wait_until_told(waiting.SECONDS)


@pytest.fixture
def ring_dir() -> Iterator[Path]:
    """Return an empty ring directory of this test's own, mode 0700, on a tmpfs."""
    path = Path(tempfile.mkdtemp(prefix=f"{SESSION}-", dir=SHM))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def missing_debian() -> Callable[[str], NoReturn]:
    """Return a function that skips the test for want of something that `make deps` installs.

    With RINGBUF_REQUIRE_DEBIAN=1 (.ci/run sets it, after `make deps`) it fails the test instead.
    """

    def skip(what: str) -> NoReturn:
        reason = f"needs Debian program {what} (make deps)"
        if os.environ.get("RINGBUF_REQUIRE_DEBIAN") == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)

    return skip


@pytest.fixture(scope="session")
def debian_program(missing_debian: Callable[[str], NoReturn]) -> Callable[[str], str]:
    """Return a function that gives the path of a program, or skips visibly where it is not installed."""

    def find(name: str) -> str:
        return shutil.which(name) or missing_debian(name)

    return find


@pytest.fixture(scope="session")
def c_compiler() -> str:
    """Return the path of the C compiler that built the package: $CC, else cc."""
    path = shutil.which(os.environ.get("CC", "cc"))
    assert path is not None, "no C compiler; set CC"
    return path


def processes_of_this_session() -> dict[int, str]:
    """Return command lines by pid: our children, and whatever else runs with this session's variable."""
    mine = f"{SESSION_VARIABLE}={SESSION}".encode()
    children: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ends while we look
            children.update(map(int, (task / "children").read_text().split()))
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        pid = int(process.name)
        try:
            command = (process / "cmdline").read_bytes()
            marked = mine in (process / "environ").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended while we looked, or is another user's
        if pid == os.getpid() or any(word in command for word in STAY_UNTIL_EXIT):
            continue
        if marked or pid in children:
            found[pid] = command.replace(b"\0", b" ").decode(errors="replace").strip() or "(zombie)"
    return found
