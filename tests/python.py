"""Runs Python code in a process of its own, which may then fork, be killed or crash."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# For the package `tests`. Last, so that what is installed comes before the checkout.
PREAMBLE = f"import sys; sys.path.append({str(ROOT)!r})\n"


def command(code: str, *arguments: object) -> list[str]:
    """Return the command line that runs the code, with the arguments from sys.argv[1] on."""
    return [sys.executable, "-I", "-W", "error", "-c", PREAMBLE + code, *map(str, arguments)]


def run(code: str, *arguments: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run the code to its end, whatever that is."""
    return subprocess.run(command(code, *arguments), capture_output=True, text=True, check=False, timeout=timeout)


def output_of(code: str, *arguments: object) -> str:
    """Run the code and return what it printed; another status than 0 is a failure."""
    done = run(code, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
