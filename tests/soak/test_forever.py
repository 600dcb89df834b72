"""Conservation for ever: all kinds of trouble at random over real processes, and no written span is lost.

The seed is printed; RINGBUF_SOAK_SEED repeats the choices, as far as processes repeat anything. `make soak` goes on for
HOURS, five minutes unless they are given. The report is printed, and written to build/soak.json.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.python import ROOT, command

if TYPE_CHECKING:
    from pathlib import Path

SLICE_SECONDS = 20.0
# Read now: tests do not see variables of this name.
SOAK_SECONDS = 3600 * float(os.environ.get("RINGBUF_SOAK_HOURS") or 5 / 60)
SEED = int(os.environ.get("RINGBUF_SOAK_SEED", "0")) or secrets.randbelow(2**31)
HOME_SECONDS = 240  # to deliver what is left, and for a machine that is busy
OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")
MOUNT = "mount -t tmpfs -o mode=700,size"
MOUNTED = f'{MOUNT}=192m none "$0" && {MOUNT}=128m none "$1" && shift && exec "$@"'


def soak(seconds: float, ring_dir: Path, tmp_path: Path) -> dict[str, Any]:
    """Run it in a process, whose disks are small ones where that can be arranged."""
    print(f"RINGBUF_SOAK_SEED={SEED}")  # noqa: T201 - to run it again
    state, folder = tmp_path / "state", tmp_path / "folder"
    for path in (state, folder):
        path.mkdir(mode=0o700)
    has_mounts = shutil.which("unshare") and not subprocess.run([*OWN_MOUNTS, "true"], check=False).returncode
    code = "from tests.soak.rage import main\nmain()"
    line = command(code, seconds, SEED, ring_dir, state, folder, "small-disks" if has_mounts else "the machine's")
    if has_mounts:
        line = [*OWN_MOUNTS, "sh", "-c", MOUNTED, str(ring_dir), str(state), *line]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=seconds + HOME_SECONDS)
    print(done.stdout, done.stderr[-5000:], f"disks of its own: {bool(has_mounts)}")  # noqa: T201 - the report
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def check(report: dict[str, Any]) -> None:
    assert not report["broken"], report
    spans = report["spans"]
    assert spans["lost"] == spans["invented"] == 0
    assert spans["emitted"] <= spans["delivered"] + spans["rejected"] <= spans["emitted"] + spans["in_doubt"]
    assert spans["emitted"] > 1000
    assert report["faults"]


@pytest.mark.prove
def test_nothing_is_lost_in_a_slice_of_all_trouble(ring_dir: Path, tmp_path: Path) -> None:
    check(soak(SLICE_SECONDS, ring_dir, tmp_path))


@pytest.mark.soak
def test_nothing_is_lost_for_hours(ring_dir: Path, tmp_path: Path) -> None:
    report = soak(SOAK_SECONDS, ring_dir, tmp_path)
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "soak.json").write_text(json.dumps(report, indent=1))
    check(report)
    assert len(report["faults"]) > 10
