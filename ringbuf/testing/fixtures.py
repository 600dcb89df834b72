"""A pytest fixture for programs that emit spans.

In `conftest.py`:

    pytest_plugins = ["ringbuf.testing.fixtures"]

and in a test:

    def test_a_checkout_is_traced(ringbuf_spans):
        checkout()
        (span,) = ringbuf_spans.finished_spans()
        assert span["name"] == "shop.checkout"

Where no ring can be made (macOS, Windows) the test is skipped.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from ringbuf.ring.settings import no_extension
from ringbuf.shared import get_emitter
from ringbuf.testing.in_memory import SpanReader, make_ring_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ringbuf_spans"]


@pytest.fixture(scope="session")
def _ringbuf_dir() -> Iterator[str]:
    if why := no_extension():
        pytest.skip(why)
    # For the whole session: sites are bound at import, and the shared emitter keeps its ring.
    if get_emitter().has_ring():
        pytest.fail("the shared emitter has a ring already: configure it in the tests, or with RINGBUF_DIR unset")
    before = os.environ.get("RINGBUF_DIR")
    os.environ["RINGBUF_DIR"] = ring_dir = make_ring_dir()
    yield ring_dir
    get_emitter().close()
    shutil.rmtree(ring_dir, ignore_errors=True)
    if before is None:
        del os.environ["RINGBUF_DIR"]
    else:
        os.environ["RINGBUF_DIR"] = before


@pytest.fixture
def ringbuf_spans(_ringbuf_dir: str) -> SpanReader:
    """Return a reader of the spans that this test emits, through whichever emitter that is given no directory.

    It is the shared one, one that the program makes, or those of its child processes. Spans of the tests before are not
    seen. The shared emitter must not have a ring of its own before the first test that asks for this.
    """
    reader = SpanReader(_ringbuf_dir)
    reader.clear()
    return reader
