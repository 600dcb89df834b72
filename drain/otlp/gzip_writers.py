"""Who writes records straight to gzip (`drain.otlp.direct_gzip`): as many writers as threads write at the same time.

The first member of a layout is decompressed, and must be what the encoder makes; so is one of 64 after it, since a
writer learns as it goes. Each has as many spans and bytes as were counted before. Records of a layout of which that
was ever not so are encoded first from then on.

So are those of a layout whose member is large beside gzip of what was encoded. That is looked at with the first member
and with one of 256 after it, and holds for a minute: spans that were unlike the others once need not be so again.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple
from weakref import WeakKeyDictionary, WeakSet

import structlog

from drain.log import RepeatedTrouble
from drain.otlp.direct_gzip import DirectGzip
from drain.otlp.gzip_members import gunzip, gzip
from ringbuf.exceptions import RingBufferError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
_MEASURED_OF: Final = 256
_LARGE_SECONDS: Final = 60.0


class Ways(NamedTuple):
    """How gzip of the layouts is made of which records were read: the number of layouts by way.

    Attributes:
        straight: from their records.
        unfit: encoded first, for what the layout is.
        large: encoded first, since it was large otherwise.
        mistrusted: encoded first, since it was wrong otherwise.
    """

    straight: int
    unfit: int
    large: int
    mistrusted: int


class GzipWriters:
    """Writers for any number of threads.

    Args:
        clock: seconds that never go back.

    Attributes:
        mistrusted: how many layouts were written wrongly.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._free: list[DirectGzip] = []
        self._takes: WeakKeyDictionary[Encoder, bool] = WeakKeyDictionary()
        self._trusted: WeakSet[EncodePlan] = WeakSet()
        self._refused: WeakSet[EncodePlan] = WeakSet()
        self._large_until: WeakKeyDictionary[EncodePlan, float] = WeakKeyDictionary()
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
            return self._takes[encoder] and not self._is_encoded_first(encoder.plan)

    def ways(self) -> Ways:
        """Return how gzip of the records is made that were asked about."""
        with self._lock:
            of_plans: dict[EncodePlan, str] = {}
            for encoder, is_taken in self._takes.items():
                plan = encoder.plan
                if plan in self._refused:
                    of_plans[plan] = "mistrusted"
                elif plan in self._large_until:
                    of_plans[plan] = "large"
                elif is_taken:
                    of_plans[plan] = "straight"
                else:  # unless another ring of the same layout is taken
                    of_plans.setdefault(plan, "unfit")
        counts = Counter(of_plans.values())
        return Ways(*(counts[way] for way in Ways._fields))

    def member(self, parts: Sequence[CopiedRecords]) -> bytes | None:
        """Return the gzip member of what the encoder makes of the parts; None where that is to be encoded first."""
        plans = {part.encoder.plan for part in parts}
        expected = sum(part.spans for part in parts), sum(part.body_bytes for part in parts)
        with self._lock:
            tried = {plan for plan in plans if plan not in self._trusted or plan in self._large_until}
            is_encoded_first = any(map(self._is_encoded_first, plans))
            self._members += 1
            is_checked = bool(tried) or self._members % _CHECKED_OF == 0
            is_measured = bool(tried) or self._members % _MEASURED_OF == 0
        if is_encoded_first or expected[0] < max(_FEWEST, _FEWEST_OF_RING * len(parts)):
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
        if is_checked:
            body = b"".join([part.body for part in parts])
            if why := _why_wrong(member, body):
                self._mistrust(plans, why)
                return None
            if is_measured:
                self._measure(tried or plans, len(member.data), len(gzip(body)))
        return member.data

    def _is_encoded_first(self, plan: EncodePlan) -> bool:
        return plan in self._refused or self._clock() < self._large_until.get(plan, -math.inf)

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

    def _measure(self, plans: set[EncodePlan], size: int, encoded_size: int) -> None:
        """Remember of layouts that a member was right, and whether it was large."""
        is_large = size > _LARGE * encoded_size
        with self._lock:
            self._trusted |= plans
            were_large = plans.intersection(self._large_until)
            for plan in plans:
                if is_large:
                    self._large_until[plan] = self._clock() + _LARGE_SECONDS
                else:
                    self._large_until.pop(plan, None)
        sizes = {"bytes": size, "encoded_first": encoded_size}
        if is_large and were_large != plans:
            self._log.info("gzip straight from records is large: they are encoded first for a while", **sizes)
        elif were_large and not is_large:
            self._log.info("gzip straight from records is no longer large", **sizes)

    def _mistrust(self, plans: set[EncodePlan], why: str) -> None:
        with self._lock:
            newly = plans - {*self._refused}
            self._refused |= newly
            self.mistrusted += len(newly)
        if newly:  # else another thread has said it
            self._log.error("gzip was not written rightly from records: they are encoded first from now on", reason=why)


def _why_wrong(member: Member, body: bytes) -> str:
    try:
        return "" if gunzip(member.data) == body else "it is not what the encoder makes"
    except ValueError as error:
        return str(error)


WRITERS: Final = GzipWriters()
"""Those of this process."""
