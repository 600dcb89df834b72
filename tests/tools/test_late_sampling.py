"""What late sampling does, as `list`, `stat`, `top` and `report` show it."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from drain.sampling.hold.chunk import RingKey
from drain.sampling.hold.picture import OfRule, OfService, Picture, read_picture, write_picture
from drain.tools.looking.late_sampling import summary
from drain.tools.looking.observed_ring import ObservedRing
from drain.tools.looking.span_text import printable
from tests.consumer import rings_in
from tests.tools.running import OnTerminal, output_of

if TYPE_CHECKING:
    from pathlib import Path

    import ringbuf

PICTURE = Picture(
    drain_pid=7,
    time_unix_nano=time.time_ns(),
    dry_run=False,
    used_bytes=25 << 20,
    capacity_bytes=100 << 20,
    waiting_traces=40,
    waiting_spans=1_200,
    oldest_wait_seconds=1.25,
    services={"shop": OfService(waiting=1_234, kept=100, sampled_out=9_900, lost=3)},
    rules={
        "failures": OfRule(traces=5, kept_traces=5, kept_spans=50, sampled_out_spans=0, kept_ratio=1.0),
        "<rest>\x1b[31m": OfRule(traces=995, kept_traces=5, kept_spans=50, sampled_out_spans=9_900, kept_ratio=0.005),
    },
)


@pytest.fixture
def held(ring_dir: Path, shop: ringbuf.Emitter) -> Picture:
    """A ring of which 1,234 spans wait in the hold."""
    path = rings_in(ring_dir)[0]
    with ObservedRing(path) as ring:
        key = RingKey(path.stat().st_ino, int(ring.header.created_unix_nano))
    # Of tomorrow: however long this machine is held up, it is not shown as one of before.
    tomorrow = time.time_ns() + 86_400 * 10**9
    picture = replace(PICTURE, time_unix_nano=tomorrow, rings={key: 1_234, RingKey(1, 2): 9})
    (ring_dir / "hold").mkdir(mode=0o700)
    write_picture(ring_dir / "hold", picture)
    return picture


def test_it_is_read_as_it_was_written(held: Picture, ring_dir: Path) -> None:
    assert read_picture(ring_dir / "hold") == held


def test_list_has_a_column_of_what_waits(held: Picture, ring_dir: Path) -> None:
    head, row = output_of("list", "--ring-dir", ring_dir).splitlines()
    assert "held" in head.split()
    assert "1,234" in row.split()
    (entry,) = map(json.loads, output_of("list", "--ring-dir", ring_dir, "--json").splitlines())
    assert entry["held"] == 1_234
    assert "1,234 wait for late sampling" in output_of("stat", "--ring-dir", ring_dir, "shop")


def test_without_late_sampling_there_is_none(shop: ringbuf.Emitter, ring_dir: Path) -> None:
    assert "held" not in output_of("list", "--ring-dir", ring_dir).splitlines()[0].split()
    assert json.loads(output_of("list", "--ring-dir", ring_dir, "--json"))["held"] is None
    assert "held" not in output_of("top", "--ring-dir", ring_dir, "--once", "--interval", "0.1")
    assert "late sampling" not in output_of("top", "--ring-dir", ring_dir, "--once", "--interval", "0.1")


def test_a_terminal_is_told_more(held: Picture, ring_dir: Path) -> None:
    with OnTerminal("list", "--ring-dir", ring_dir, columns=200) as terminal:
        assert terminal.end() == 0
    assert (
        b"late sampling: kept 100 of 10,000 spans (1.00%); 1,200 spans of 40 traces wait; hold 25% full"
        in terminal.output
    )


def test_top_shows_what_each_rule_kept(held: Picture, ring_dir: Path) -> None:
    shown = output_of("top", "--ring-dir", ring_dir, "--once", "--interval", "0.1")
    assert "\x1b" not in shown
    assert summary(held) in shown
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line}
    assert rows["failures"] == ["5", "5", "50", "50", "0", "100.0000%"]
    assert rows[printable("<rest>\x1b[31m", 48)] == ["995", "5", "9,950", "50", "9,900", "0.5000%"]
    frame = json.loads(output_of("top", "--ring-dir", ring_dir, "--once", "--interval", "0.1", "--json"))
    assert frame["groups"][0]["held"] == 1_234
    assert frame["late_sampling"]["rules"]["failures"]["kept_spans"] == 50
    assert frame["late_sampling"]["services"]["shop"]["sampled_out"] == 9_900


def test_the_page_has_a_section(held: Picture, ring_dir: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    output_of("report", ring_dir, "--output", page)
    text = page.read_text()
    section = text[text.index('<section id="sampling">') :]
    assert "&lt;rest&gt;" in section
    assert "9,900" in section
    assert "dry run" not in section


def test_a_dry_run_is_said() -> None:
    line = summary(replace(PICTURE, dry_run=True))
    assert line.startswith("late sampling: would have kept 100 of 10,000 spans (1.00%), and delivers all: dry run; ")


def test_what_is_old_is_said_to_be() -> None:
    old = replace(PICTURE, time_unix_nano=time.time_ns() - 90 * 10**9)
    assert summary(old).endswith("; as of 1m ago")
    assert "as of" not in summary(replace(PICTURE, time_unix_nano=time.time_ns()))


DOCUMENT = {**PICTURE.to_json(), "rings": [[1, 2, 3]]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        json.dumps({**DOCUMENT, "rings": [[1, 2]]}).encode(),
        json.dumps({**DOCUMENT, "rings": 7}).encode(),
        json.dumps({**DOCUMENT, "waiting_spans": -1}).encode(),
        json.dumps({**DOCUMENT, "waiting_spans": 2**64}).encode(),
        json.dumps({**DOCUMENT, "waiting_spans": True}).encode(),
        json.dumps({**DOCUMENT, "oldest_wait_seconds": float("inf")}).encode(),
        json.dumps({**DOCUMENT, "oldest_wait_seconds": float("nan")}).encode(),
        json.dumps({**DOCUMENT, "rules": {"all": {"traces": 1}}}).encode(),
        json.dumps({**DOCUMENT, "services": {"shop": None}}).encode(),
    ],
)
def test_what_somebody_else_wrote_is_no_picture(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(content)
    assert read_picture(tmp_path) is None
    (tmp_path / "picture").write_text(json.dumps(DOCUMENT))
    assert read_picture(tmp_path) is not None


def test_a_link_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(json.dumps(DOCUMENT))
    (tmp_path / "picture").symlink_to("elsewhere")
    assert read_picture(tmp_path) is None
