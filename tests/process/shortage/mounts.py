"""Small and read-only disks for a test, in a mount namespace that ends with the process."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.python import command

if TYPE_CHECKING:
    from pathlib import Path

OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")
SECONDS = 120


def output_on_a_disk(path: Path, options: str, code: str, *arguments: object) -> str:
    """Run the code where `path` is a tmpfs of its own; skip visibly where nobody may mount one.

    Args:
        path: an empty folder.
        options: of the mount.
        code: Python; it gets `arguments` in sys.argv.
    """
    if shutil.which("unshare") is None or subprocess.run([*OWN_MOUNTS, "true"], check=False).returncode:
        pytest.skip("no mount namespaces here")
    mounted = f'mount -t tmpfs -o "{options}" none "$0" && exec "$@"'
    line = [*OWN_MOUNTS, "sh", "-c", mounted, str(path), *command(code, *arguments)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
