"""On a disk that is full the spool refuses, still lets go of what was delivered, and goes on when there is room."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = 120


def test_on_a_full_disk_batches_can_be_removed_and_nothing_is_lost(tmp_path: Path) -> None:
    """In a mount namespace of its own, which ends with the process: nothing is left mounted."""
    unshare = shutil.which("unshare")
    own_mounts = [str(unshare), "--user", "--map-root-user", "--mount"]
    if unshare is None or subprocess.run([*own_mounts, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here")
    script = Path(__file__).with_name("spool_on_full_disk.py")
    mounted = 'mount -t tmpfs -o size=8m none "$0" && exec "$@"'
    ended = subprocess.run(
        [*own_mounts, "sh", "-c", mounted, str(tmp_path), sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {
        "delivered_after_a_start": 3,
        "refused": "the spool cannot be written now",
        "taken": 200_000,
        "delivered_while_full": 5,
        "writable_again": True,
        "closed": True,
        "set_aside": 0,
        "adds_up": True,
        "lost": 0,
        "waiting": True,
        "told": 1,
    }
