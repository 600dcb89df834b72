"""The spans that are pending in a ring as a file of OTLP JSON lines, and what the ring counts; nothing is consumed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from drain.otlp.encode_plan import stated_threshold
from drain.otlp.encoder import Encoder
from drain.tools.looking.observed_ring import ObservedRing

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

RING_MAGIC: Final = b"ringbuf\0"


class RingCount(NamedTuple):
    """What a ring counts; `published` = `pending` + `taken`.

    Attributes:
        service: of its producer.
        name: of the ring.
        published: spans written to it.
        pending: spans that no drain has released.
        taken: spans that a drain has released.
        dropped: spans not written for want of room: full, contended.
        unsampled: spans not written since their trace is not sampled.
        missed: spans that a drain released while they were being read.
        invalid: records that are no spans.
    """

    service: str
    name: str
    published: int
    pending: int
    taken: int
    dropped: int
    unsampled: int
    missed: int
    invalid: int


def write_json_lines(path: Path, file: IO[bytes]) -> RingCount:
    """Write the spans of a ring that are pending as the command looks, one line for each look at a lane.

    Args:
        path: of the ring.
        file: where they go.

    Raises:
        RingFormatError: the file is no sound ring.
        OSError: it cannot be read, or `file` not be written.
    """
    with ObservedRing(path) as ring:
        encoder = Encoder(ring.layout, ring.resource, stated_threshold(ring.header))
        sums = ring.sums()
        missed = invalid = 0
        for lane in ring.lanes:
            for peeked in ring.rest(lane):
                encoded = encoder.encode_json(peeked.records)
                missed += peeked.missed
                invalid += encoded.invalid
                if encoded.spans:
                    file.write(b'{"resourceSpans":[' + encoded.body + b"]}\n")
    return RingCount(
        ring.service,
        ring.name,
        sums.published,
        sums.pending,
        sums.published - sums.pending,
        sums.full + sums.contended,
        sums.unsampled,
        missed,
        invalid,
    )
