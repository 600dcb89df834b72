"""What late sampling does in a ring directory, as its drain last said it: for the tables of the tools."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from drain.sampling.hold.chunk import RingKey
from drain.sampling.hold.files import HOLD_FOLDER
from drain.sampling.hold.picture import Picture, read_picture
from drain.tools.looking.span_text import age, printable
from drain.tools.looking.table import Column, percent
from ringbuf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from drain.tools.looking.observed_ring import ObservedRing

_STALE_NANO: Final = 5_000_000_000  # a drain says it once a second
_MOST_NAME: Final = 48

RULES: Final[Sequence[Column]] = (
    Column("rule", is_text=True, style="bold", keeps_end=True),
    Column("traces", rank=2),
    Column("kept", rank=3),
    Column("spans"),
    Column("kept"),
    Column("sampled out", rank=1),
    Column("keeps now"),
)


def picture_in(ring_dir: Path) -> Picture | None:
    """Return what late sampling does in a directory; None where it does nothing, or nobody may see it."""
    return read_picture(ring_dir / HOLD_FOLDER)


def waiting_of(ring: ObservedRing, picture: Picture) -> int:
    """Return how many spans of a ring wait in the hold."""
    key = RingKey(ring.identity[1], int(ring.header.created_unix_nano))
    return picture.rings.get(key, 0)


def summary(picture: Picture) -> str:
    """Return one line about it."""
    kept, decided = picture.kept_spans, picture.decided_spans
    of_them = f"{kept:,} of {counted(decided, 'span')}" + (f" ({kept / decided:.2%})" if decided else "")
    words = [
        f"late sampling: {'would have kept' if picture.dry_run else 'kept'} {of_them}",
        f"{counted(picture.waiting_spans, 'span')} of {counted(picture.waiting_traces, 'trace')} wait",
        f"hold {percent(picture.used_bytes / max(picture.capacity_bytes, 1))} full",
    ]
    if picture.dry_run:
        words[0] = f"{words[0]}, and delivers all: dry run"
    if (ago := time.time_ns() - picture.time_unix_nano) > _STALE_NANO:
        words.append(f"as of {age(ago)} ago")
    return "; ".join(words)


def rule_rows(picture: Picture) -> list[list[str]]:
    """Return the rows of `RULES`."""
    return [
        [
            printable(name, _MOST_NAME, keep_end=True),
            f"{rule.traces:,}",
            f"{rule.kept_traces:,}",
            f"{rule.kept_spans + rule.sampled_out_spans:,}",
            f"{rule.kept_spans:,}",
            f"{rule.sampled_out_spans:,}",
            f"{rule.kept_ratio:.4%}",
        ]
        for name, rule in picture.rules.items()
    ]
