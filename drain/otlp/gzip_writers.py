"""Who writes records straight to gzip (`drain.otlp.direct_gzip`): as many writers as threads write at the same time.

The first member of a layout is decompressed, and must be what the encoder makes; so is one of 64 after it, since a
writer learns as it goes. Each has as many spans and bytes as were counted before. Records of a layout of which that
was ever not so are encoded first, and so are those of a layout whose first member is large.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary, WeakSet

import structlog

from drain.log import RepeatedTrouble
from drain.otlp.direct_gzip import DirectGzip
from drain.otlp.gzip_members import gunzip, gzip
from ringbuf.exceptions import RingBufferError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drain.otlp.copied_records import CopiedRecords
    from drain.otlp.direct_gzip import Member
    from drain.otlp.encode_plan import EncodePlan
    from drain.otlp.encoder import Encoder

# Of fewer spans, in all and of a ring, a member is larger than gzip of what was encoded: by 4 and by 6 % here, and by
# 40 % of ten. So few cost little either way.
_FEWEST: Final = 500
_FEWEST_OF_RING: Final = 64
_LARGE: Final = 1.1  # beside gzip of what was encoded
_CHECKED_OF: Final = 64  # of so many members one


class GzipWriters:
    """Writers for any number of threads.

    Attributes:
        mistrusted: how many layouts were written wrongly.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[DirectGzip] = []
        self._takes: WeakKeyDictionary[Encoder, bool] = WeakKeyDictionary()
        self._trusted: WeakSet[EncodePlan] = WeakSet()
        self._refused: WeakSet[EncodePlan] = WeakSet()
        self._log = structlog.get_logger()
        self._trouble = RepeatedTrouble(self._log)
        self._members = 0
        self.mistrusted = 0

    def takes(self, encoder: Encoder) -> bool:
        """Return whether records of a ring may be written straight to gzip, and that pays on this processor."""
        with self._lock:
            if encoder not in self._takes:
                try:
                    self._takes[encoder] = DirectGzip.is_supported() and self._may_write(encoder)
                except RingBufferError:  # no memory: to be asked again
                    return False
            return self._takes[encoder] and encoder.plan not in self._refused

    def member(self, parts: Sequence[CopiedRecords]) -> bytes | None:
        """Return the gzip member of what the encoder makes of the parts; None where that is to be encoded first."""
        plans = {part.encoder.plan for part in parts}
        expected = sum(part.spans for part in parts), sum(part.body_bytes for part in parts)
        with self._lock:
            new = plans - {*self._trusted}
            is_refused = not self._refused.isdisjoint(plans)
            self._members += 1
            is_checked = bool(new) or self._members % _CHECKED_OF == 0
        if is_refused or expected[0] < max(_FEWEST, _FEWEST_OF_RING * len(parts)):
            return None
        try:
            member = self._written(parts)
        except RingBufferError as error:  # no memory
            self._trouble.warn("records cannot be written straight to gzip", reason=str(error))
            return None
        found = member.spans, member.plain_bytes
        if found != expected:
            self._mistrust(plans, f"{found[0]} spans in {found[1]} bytes, not {expected[0]} in {expected[1]}")
            return None
        return member.data if not is_checked or self._is_right(plans, new, member, parts) else None

    def _may_write(self, encoder: Encoder) -> bool:
        writer = self._writer()
        refusal = writer.refusal(encoder)
        self._free.append(writer)  # with what it has made of the layout
        return refusal is None

    def _writer(self) -> DirectGzip:
        try:
            return self._free.pop()
        except IndexError:
            return DirectGzip()

    def _written(self, parts: Sequence[CopiedRecords]) -> Member:
        writer = self._writer()
        for part in parts:
            writer.add(part.encoder, part.records)
        member = writer.finish()
        self._free.append(writer)  # not one that has raised
        return member

    def _is_right(
        self, plans: set[EncodePlan], new: set[EncodePlan], member: Member, parts: Sequence[CopiedRecords]
    ) -> bool:
        """Check a member, and remember what came of it for the layouts that are new."""
        body = b"".join([part.body for part in parts])
        try:
            why = "" if gunzip(member.data) == body else "it is not what the encoder makes"
        except ValueError as error:
            why = str(error)
        if why:
            self._mistrust(plans, why)
            return False
        if new:
            self._trust(new, len(member.data), len(gzip(body)))
        return True

    def _trust(self, new: set[EncodePlan], size: int, encoded_size: int) -> None:
        is_large = size > _LARGE * encoded_size
        with self._lock:
            self._trusted |= new
            is_news = is_large and not new <= {*self._refused}
            if is_large:
                self._refused |= new
        if is_news:
            self._log.info(
                "gzip straight from records is large: they are encoded first from now on",
                bytes=size,
                encoded_first=encoded_size,
            )

    def _mistrust(self, plans: set[EncodePlan], why: str) -> None:
        with self._lock:
            newly = plans - {*self._refused}
            self._refused |= newly
            self.mistrusted += len(newly)
        if newly:  # else another thread has said it
            self._log.error("gzip was not written rightly from records: they are encoded first from now on", reason=why)


WRITERS: Final = GzipWriters()
"""Those of this process."""
