"""Where `ringbuf-drain` and `ringbuf` begin: what keeps them from running is named before any other code runs.

PyPI has a project `drain` that installs a package of that name: whichever was installed last has the files, and a
folder of one's own on PYTHONPATH comes before both. Their errors would be about anything but that.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from ringbuf.ring.settings import no_extension

OF_THE_DRAIN: Final = ("spool",)
"""Subcommands of `ringbuf-drain` that `ringbuf` has, too: who looks at rings looks for them there."""

_COMPLETE: Final = "_RINGBUF_COMPLETE"
_COMPLETE_OF_THE_DRAIN: Final = "_RINGBUF_DRAIN_COMPLETE"
_EXIT_USAGE: Final = 2
_MARK: Final = b"ringbuf-spans"  # in the first line of drain/__init__.py
_MARK_WITHIN: Final = 512


def drain() -> None:
    """Run `ringbuf-drain`."""
    _run("ringbuf-drain", "drain.__main__")


def tools() -> None:
    """Run `ringbuf`."""
    words = sys.argv
    if _COMPLETE in os.environ:  # a shell asks what may follow these: bash, or another
        words = (os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")).split()
    if words[1:2] and words[1] in OF_THE_DRAIN:
        if _COMPLETE in os.environ:
            os.environ[_COMPLETE_OF_THE_DRAIN] = os.environ.pop(_COMPLETE)
        drain()
    else:
        _run("ringbuf", "drain.tools.__main__")


def _run(name: str, module: str) -> None:
    if why := no_extension():  # the modules of the drain could not even be imported
        sys.stderr.write(f"{name}: {why}\n")
        sys.exit(_EXIT_USAGE)
    wrong = wrong_drain()
    if wrong is not None:
        sys.stderr.write(
            f"{name}: the package `drain` that is found first is not ringbuf's: {wrong}. PyPI's project `drain` "
            "installs one of that name: pip uninstall drain, then pip install --force-reinstall --no-deps "
            "ringbuf-spans\n"
        )
        sys.exit(_EXIT_USAGE)
    import_module(module).main()


def wrong_drain() -> str | None:
    """Return where a package `drain` lies that is not ours; None where it is. Nothing of it is run."""
    spec = find_spec("drain")
    if spec is None:
        return "there is none"
    if spec.origin is None:
        return f"{', '.join(spec.submodule_search_locations or ())} has no __init__.py"
    try:
        with Path(spec.origin).open("rb") as file:
            return None if _MARK in file.read(_MARK_WITHIN) else spec.origin
    except OSError as error:
        return f"{spec.origin} cannot be read ({error.strerror})"
