"""A pytest plugin for programs that emit spans: a fixture, and a ring directory of the test run's own.

In `conftest.py`:

    pytest_plugins = ["ringbuf.testing.fixtures"]

and in a test:

    def test_a_checkout_is_traced(ringbuf_spans):
        checkout()
        (span,) = ringbuf_spans.finished_spans()
        assert span["name"] == "shop.checkout"

pytest loads it before it imports any test, so that a program which makes its emitter at import is seen, too; not one
that `conftest.py` itself imports at its top: load the plugin before that by `-p ringbuf.testing.fixtures`. Where no
ring can be made (macOS, Windows) the test is skipped.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from ringbuf.exceptions import RingBufferError
from ringbuf.ring.process_ring import PROCESS_RINGS
from ringbuf.ring.settings import no_extension
from ringbuf.shared import get_emitter
from ringbuf.testing.in_memory import SpanReader, make_ring_dir

__all__ = ["pytest_configure", "pytest_load_initial_conftests", "ringbuf_spans"]

_VARIABLE: Final = "RINGBUF_DIR"
_RING_DIR: Final = pytest.StashKey[str]()


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Do what `pytest_configure` does before any `conftest.py` is imported; pytest asks plugins of `-p` alone."""
    _begin(early_config)


def pytest_configure(config: pytest.Config) -> None:
    """Let rings that are given no directory lie in one of this run's own, until it ends."""
    _begin(config)


def _begin(config: pytest.Config) -> None:
    if no_extension() or _RING_DIR in config.stash:
        return
    ring_dir, before, process = make_ring_dir(), os.environ.get(_VARIABLE), os.getpid()
    config.stash[_RING_DIR] = os.environ[_VARIABLE] = ring_dir

    def end() -> None:
        if before is None:
            os.environ.pop(_VARIABLE, None)
        else:
            os.environ[_VARIABLE] = before
        if os.getpid() == process:  # not where a test has forked, and the child ends as pytest does
            _remove(ring_dir)

    config.add_cleanup(end)


def _remove(ring_dir: str) -> None:
    """Close the emitters that have rings there, of which nothing is to be told, and remove it."""
    with suppress(RingBufferError, OSError):  # somebody else reads a ring
        SpanReader(ring_dir).clear()
    for emitter in list(PROCESS_RINGS.values()):
        if _lies_in(emitter.stats().path, ring_dir):
            emitter.close()
    shutil.rmtree(ring_dir, ignore_errors=True)


def _lies_in(path: Path | None, ring_dir: str) -> bool:
    return path is not None and path.parent == Path(ring_dir)


@pytest.fixture
def ringbuf_spans(pytestconfig: pytest.Config) -> SpanReader:
    """Return a reader of the spans that this test emits, through whichever emitter that is given no directory.

    It is the shared one, one that the program makes, or those of its child processes. Spans of the tests before are not
    seen.
    """
    if why := no_extension():
        pytest.skip(why)
    ring_dir = pytestconfig.stash.get(_RING_DIR, None)
    if ring_dir is None:
        pytest.fail('the fixture is part of a plugin: pytest_plugins = ["ringbuf.testing.fixtures"] in conftest.py')
    made = get_emitter().stats().path
    if made is not None and not _lies_in(made, ring_dir):
        pytest.fail(
            f"the shared emitter's ring lies in {made.parent}: it was given that directory, or made before this plugin "
            "was loaded; run pytest with -p ringbuf.testing.fixtures where conftest.py imports the program at its top"
        )
    reader = SpanReader(ring_dir)
    reader.clear()
    return reader
