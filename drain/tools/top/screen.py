"""A picture of `ringbuf top` on a screen of any size, and as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from drain.tools.looking.late_sampling import RULES, rule_rows, summary
from drain.tools.looking.span_text import clock, duration, printable
from drain.tools.looking.table import Column, bar, percent, plain_table, rich_table
from ringbuf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drain.tools.top.frames import Frame

_KINDS: Final = (
    Column("span", is_text=True, keeps_end=True),
    Column("operation", rank=2, is_text=True, keeps_end=True),
    Column("seen", rank=3),
    Column("p50"),
    Column("p99"),
)
_LEAST_ROWS: Final = 3  # of the latencies, however many services there are
_OTHER_LINES: Final = 6  # titles, heads, and the line between
_SHARE_OF_RULES: Final = 4  # of the screen, at most, where there are rules of late sampling
_LINES_OF_RULES: Final = 3  # beside them


def plain_screen(frame: Frame, by: str, ring_dir: str, drain_pid: int | None) -> str:
    """Return the whole picture as text, nothing left out."""
    picture = frame.late_sampling
    parts = [
        _title(frame, ring_dir, drain_pid) + "\n",
        plain_table(_groups(frame, by), _group_rows(frame)),
        "\n",
        plain_table(_KINDS, _kind_rows(frame)) if frame.kinds else "",
    ]
    if picture is not None:
        parts += ["\n" if frame.kinds else "", summary(picture), "\n", plain_table(RULES, rule_rows(picture))]
    return "".join(parts)


def rich_screen(frame: Frame, by: str, ring_dir: str, drain_pid: int | None, width: int, height: int) -> Any:
    """Return as much of the picture as a screen has room for, the busiest first."""
    from rich.console import Group  # noqa: PLC0415 - 100 ms that a pipe does not pay
    from rich.text import Text  # noqa: PLC0415 - the same

    picture = frame.late_sampling
    of_rules = 0 if picture is None else min(len(picture.rules), max(1, (height - _OTHER_LINES) // _SHARE_OF_RULES))
    room = max(2, height - _OTHER_LINES - (of_rules + _LINES_OF_RULES if picture is not None else 0))
    for_groups = min(len(frame.groups), max(1, room - min(max(len(frame.kinds), 1), max(_LEAST_ROWS, room // 2))))
    for_kinds = min(len(frame.kinds), max(0, room - for_groups))
    lines: list[Any] = [
        Text(_title(frame, ring_dir, drain_pid), style="reverse", no_wrap=True, overflow="ellipsis"),
        rich_table(_groups(frame, by), _group_rows(frame)[:for_groups], width),
        *_rest(len(frame.groups) - for_groups, by),
    ]
    if frame.kinds:
        lines += [
            Text(),
            rich_table(_KINDS, _kind_rows(frame)[:for_kinds], width),
            *_rest(len(frame.kinds) - for_kinds, "kind"),
        ]
    if picture is not None:
        lines += [
            Text(),
            Text(summary(picture), no_wrap=True, overflow="ellipsis"),
            rich_table(RULES, rule_rows(picture)[:of_rules], width),
            *_rest(len(picture.rules) - of_rules, "rule"),
        ]
    return Group(*lines)


def _title(frame: Frame, ring_dir: str, drain_pid: int | None) -> str:
    served = f"drain pid {drain_pid}" if drain_pid is not None else "no drain"
    rings = sum(group.rings for group in frame.groups)
    rate = sum(group.rate for group in frame.groups)
    return f"{clock(frame.unix_nano)[:8]}Z {rate:,.0f} spans/s, {counted(rings, 'ring')}, {served}, {ring_dir}"


def _rest(count: int, what: str) -> list[Any]:
    from rich.text import Text  # noqa: PLC0415 - as above

    return [Text(f"… and {count} more {what}{'s' if count > 1 else ''}", style="dim")] if count else []


def _groups(frame: Frame, by: str) -> Sequence[Column]:
    held = () if frame.late_sampling is None else (Column("held", rank=2),)
    return (
        Column(by, is_text=True, style="bold", keeps_end=True),
        Column("rings", rank=5),
        Column("spans/s"),
        Column("", rank=6, is_text=True, style="cyan"),
        Column("fill"),
        Column("pending", rank=4),
        *held,
        Column("drops/s", rank=1),
        Column("lag", rank=3),
    )


def _group_rows(frame: Frame) -> list[list[str]]:
    return [
        [
            group.name,
            str(group.rings),
            f"{group.rate:,.0f}",
            bar(group.fill),
            percent(group.fill),
            f"{group.pending:,}",
            *([] if frame.late_sampling is None else [f"{group.held:,}"]),
            f"{group.drop_rate:,.0f}",
            duration(group.lag_nano) if group.lag_nano else "-",
        ]
        for group in frame.groups
    ]


def _kind_rows(frame: Frame) -> list[list[str]]:
    return [
        [
            printable(kind.name, 64, keep_end=True),
            printable(kind.operation, 32, keep_end=True),
            f"{kind.seen:,}",
            duration(kind.p50_nano),
            duration(kind.p99_nano),
        ]
        for kind in frame.kinds
    ]
