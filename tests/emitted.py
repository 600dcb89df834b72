"""One span through a site of a layout, and the record that came of it."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import ringbuf
from ringbuf._ringbuf import lib
from tests.conftest import SESSION, SHM
from tests.consumer import records_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_ALONE = np.uint32(lib.RB_PRESENT_ALONE)


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
        """Emit a root and return its record, without the bit that says that it is alone."""
        assert self._site.emit(start, end, *values)
        records = records_in(self._ring_dir)
        if len(self._emitter.layout.attributes) < lib.RB_MAX_ATTRIBUTES:
            assert records["present"][0] & _ALONE
            # By bytes: numpy's copy leaves out what lies between the fields.
            records = np.frombuffer(bytearray(records.tobytes()), records.dtype)
            records["present"] ^= _ALONE
        (found,) = records
        return found  # type: ignore[no-any-return] # numpy's types say Any

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
