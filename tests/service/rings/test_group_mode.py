"""The group form: producers of other users, who can neither list nor remove what others made.

As `drain/deploy/` sets it up: a directory of root's, and a drain that is a user of its own with CAP_FOWNER, which a
sticky directory asks of whoever removes another's file there, or that is root without any capability.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.nursery import shared
from tests.service.draining import ring_files

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users")

DRAIN_USER, PRODUCER_USER = 64001, 64002

# Everything is imported first: the users need not be able to read the tree that is tested.
PRODUCE = """
import os, sys, pathlib, ringbuf
from ringbuf.dataplane import LeaseId, OpType, site
user, directory = int(sys.argv[1]), pathlib.Path(sys.argv[2])
os.setgroups([]), os.setresgid(user, user, user), os.setresuid(user, user, user)
emitter = ringbuf.Emitter("shop", ring_dir=directory)
assert site(OpType.FBMU_READ, emitter=emitter).emit(LeaseId(1), 1, 2)
emitter.close()
for act in (lambda: os.listdir(directory), lambda: [os.unlink(directory / name) for name in sys.argv[3:]]):
    try:
        act()
    except PermissionError:
        print("refused")
"""
DRAIN = """
import ctypes, os, sys
import drain.__main__, drain.command, drain.commands.serve, drain.exporters.stdout, drain.otlp.transcode
user, capabilities = int(sys.argv.pop(1)), int(sys.argv.pop(1))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(8, 1, 0, 0, 0) == 0  # PR_SET_KEEPCAPS
os.setgroups([]), os.setresgid(user, user, user), os.setresuid(user, user, user)
header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
assert libc.capset(header, (ctypes.c_uint32 * 6)(capabilities, capabilities, 0, 0, 0, 0)) == 0
drain.__main__.main()
"""
FOWNER = 1 << 3


class Form(NamedTuple):
    """Who owns the directory's group, its mode, and what the drain is."""

    group: int
    mode: int
    user: int
    capabilities: int


@pytest.fixture(
    params=[Form(DRAIN_USER, 0o3773, DRAIN_USER, FOWNER), Form(0, 0o3733, 0, 0)], ids=["systemd", "kubernetes"]
)
def form(request: pytest.FixtureRequest, ring_dir: Path) -> Form:
    form: Form = request.param
    os.chown(ring_dir, 0, form.group)
    ring_dir.chmod(form.mode)
    return form


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return shared().run("-c", code, *arguments)


def produced(ring_dir: Path) -> Path:
    """Return the ring that another user's producer left."""
    made = run(PRODUCE, PRODUCER_USER, ring_dir)
    assert (made.returncode, made.stdout) == (0, "refused\n"), made.stderr
    [ring] = ring_files(ring_dir)
    return ring


def drained(form: Form, directory: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return run(DRAIN, form.user, form.capabilities, "--once", "--ring-dir", directory, "--output", "-", *arguments)


def test_rings_of_other_users_are_taken_by_their_group(form: Form, ring_dir: Path) -> None:
    ring = produced(ring_dir)
    status = ring.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (PRODUCER_USER, form.group, 0o660)

    refused = drained(form, ring_dir)
    assert "file left alone" in refused.stderr
    assert "traceId" not in refused.stdout
    assert ring_files(ring_dir) == [ring]

    taken = drained(form, ring_dir, "--allow-gid", form.group)
    assert taken.returncode == 0, taken.stderr
    assert taken.stdout.count("traceId") == 1
    assert not ring_files(ring_dir)


def test_or_by_their_owner(form: Form, ring_dir: Path) -> None:
    produced(ring_dir)
    taken = drained(form, ring_dir, "--allow-uid", PRODUCER_USER)
    assert (taken.returncode, taken.stdout.count("traceId")) == (0, 1), taken.stderr
    assert not ring_files(ring_dir)


def test_an_unsound_ring_of_another_user_is_quarantined(form: Form, ring_dir: Path) -> None:
    ring = produced(ring_dir)
    with ring.open("r+b") as file:
        file.write(b"another magic")
    taken = drained(form, ring_dir, "--allow-gid", form.group)
    assert "ring quarantined" in taken.stderr
    assert not ring_files(ring_dir)
    assert len(list((ring_dir / "quarantine").glob("*.ring"))) == 1


def test_a_producer_can_neither_list_the_directory_nor_remove_anothers_ring(form: Form, ring_dir: Path) -> None:
    ring = produced(ring_dir)
    other = run(PRODUCE, PRODUCER_USER + 1, ring_dir, ring.name)
    assert (other.returncode, other.stdout) == (0, "refused\nrefused\n"), other.stderr
    assert ring.exists()


def test_users_and_groups_may_be_named() -> None:
    command = "import drain.__main__ as m; m.main()"
    shown = run(command, "config", "--allow-uid", "root", "--allow-gid", "root", "--allow-gid", "7")
    assert "allow_uid = [0]" in shown.stdout
    assert "allow_gid = [0, 7]" in shown.stdout
    unknown = run(command, "config", "--allow-gid", "no-such-group")
    assert unknown.returncode == 2
    assert "there is no group 'no-such-group' here" in unknown.stderr
