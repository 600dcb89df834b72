"""What late sampling does, in a file of the hold: `ringbuf list`, `top` and `report` show it without asking the drain.

The drain writes it once a second and when it ends. Who reads it believes nothing that is in it.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from drain.sampling.hold.chunk import RingKey
from drain.sampling.hold.files import whole_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PICTURE: Final = "picture"
"""In the folder of a hold."""

_MOST_BYTES: Final = 16 << 20
_MOST: Final = 1 << 64
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class OfService:
    """Held spans of a service, since the drain began.

    Attributes:
        waiting: in the hold.
        kept: that were delivered, or went where what is delivered may go: spool, dead letters.
        sampled_out: by the rules; those too that were decided before they were held.
        lost: not readable any more.
    """

    waiting: int = 0
    kept: int = 0
    sampled_out: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class OfRule:
    """What a rule decided since the drain began; in a dry run, what it would have decided.

    Attributes:
        traces: that it decided.
        kept_traces: of these.
        kept_spans: of its traces.
        sampled_out_spans: the same.
        kept_ratio: share of its traces that it keeps now, 0 to 1.
    """

    traces: int = 0
    kept_traces: int = 0
    kept_spans: int = 0
    sampled_out_spans: int = 0
    kept_ratio: float = 0.0


@dataclass(frozen=True, slots=True)
class Picture:
    """Late sampling at one moment.

    Attributes:
        drain_pid: of the drain that says it.
        time_unix_nano: when.
        dry_run: all is delivered, the rules only count.
        used_bytes: of the hold's memory.
        capacity_bytes: that it may have.
        waiting_traces: that are not decided.
        waiting_spans: of these.
        oldest_wait_seconds: of these traces.
        rings: spans in the hold by ring.
        services: by `service.name`.
        rules: those in effect, by name.
    """

    drain_pid: int
    time_unix_nano: int
    dry_run: bool
    used_bytes: int
    capacity_bytes: int
    waiting_traces: int
    waiting_spans: int
    oldest_wait_seconds: float
    rings: Mapping[RingKey, int] = field(default_factory=dict)
    services: Mapping[str, OfService] = field(default_factory=dict)
    rules: Mapping[str, OfRule] = field(default_factory=dict)

    @property
    def kept_spans(self) -> int:
        """Spans that the rules decided to keep, or would have."""
        return sum(rule.kept_spans for rule in self.rules.values())

    @property
    def decided_spans(self) -> int:
        """Spans that they decided on."""
        return self.kept_spans + sum(rule.sampled_out_spans for rule in self.rules.values())

    def to_json(self) -> dict[str, Any]:
        """Return it as `--json` has it, rings left out, as those are rows of their own."""
        shown = asdict(self)
        del shown["rings"]
        return shown


def write_picture(folder: Path, picture: Picture) -> None:
    """Put it into the folder of a hold.

    Raises:
        OSError: there is no room; what was there is as it was.
    """
    document = picture.to_json() | {
        "rings": [[key.inode, key.created_unix_nano, spans] for key, spans in picture.rings.items()]
    }
    content = json.dumps(document).encode()
    with whole_file(folder / PICTURE, len(content)) as fd:
        os.pwrite(fd, content, 0)


def read_picture(folder: Path) -> Picture | None:
    """Return what the folder of a hold says; None where it says nothing that can be read.

    Args:
        folder: of the hold, of any user.
    """
    try:
        found = json.loads(_content(folder / PICTURE))
        numbers = {name: _number(found[name]) for name in _NUMBERS}
        return Picture(
            **numbers,
            dry_run=found["dry_run"] is True,
            oldest_wait_seconds=_share(found["oldest_wait_seconds"], 1e12),
            rings={RingKey(_number(inode), _number(made)): _number(spans) for inode, made, spans in found["rings"]},
            services={
                str(name): OfService(**{key: _number(one[key]) for key in OfService.__slots__})
                for name, one in found["services"].items()
            },
            rules={
                str(name): OfRule(
                    **{key: _number(one[key]) for key in OfRule.__slots__ if key != "kept_ratio"},
                    kept_ratio=_share(one["kept_ratio"], 1.0),
                )
                for name, one in found["rules"].items()
            },
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


_NUMBERS: Final = ("drain_pid", "time_unix_nano", "used_bytes", "capacity_bytes", "waiting_traces", "waiting_spans")


def _content(path: Path) -> bytes:
    fd = os.open(path, _FLAGS)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
            raise OSError(0, "not a file of a hold", str(path))
        return os.pread(fd, _MOST_BYTES, 0)
    finally:
        os.close(fd)


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MOST:
        raise ValueError("no count")
    return value


def _share(value: Any, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ValueError("no share")
    return float(value)
