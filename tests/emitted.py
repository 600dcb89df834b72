"""One span through a site of a layout, and the record that came of it."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ringbuf
from tests.conftest import SESSION, SHM
from tests.consumer import records_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np


class Emitted:
    """A site with a ring of its own.

    Attributes:
        cuts: values that were cut so far, as the ring counts them.
        attempts: spans that were tried so far.
    """

    def __init__(self, emitter: ringbuf.Emitter, site: Any, ring_dir: Path) -> None:
        self._emitter = emitter
        self._site = site
        self._ring_dir = ring_dir

    def record(self, start: Any, end: Any, *values: Any) -> np.void:
        """Emit a span and return its record."""
        assert self._site.emit(start, end, *values)
        (record,) = records_in(self._ring_dir)
        return record  # type: ignore[no-any-return] # numpy's types say Any

    def spanned(self, *values: Any) -> np.void:
        """Write a span with a block and return its record."""
        with self._site.span(*values):
            pass
        (record,) = records_in(self._ring_dir)
        return record  # type: ignore[no-any-return] # the same

    @property
    def cuts(self) -> int:
        return self._emitter.stats().truncated

    @property
    def attempts(self) -> int:
        return self._emitter.stats().attempts


@contextmanager
def emitted(
    layout: ringbuf.SpanLayout,
    varying: Sequence[str],
    *,
    name: str | None = None,
    constants: Mapping[str, Any] | None = None,
) -> Iterator[Emitted]:
    """Make a ring of a layout and a site for these values, and remove it after."""
    folder = Path(tempfile.mkdtemp(prefix=f"{SESSION}-", dir=SHM))
    try:
        with ringbuf.Emitter("service", ring_dir=folder, layout=layout, capacity=4) as emitter:
            site = emitter.site(name or layout.span_names[0], constants=constants, varying=varying)
            yield Emitted(emitter, site, folder)
    finally:
        shutil.rmtree(folder)
