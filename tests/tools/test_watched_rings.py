"""Rings under watch of which one becomes unsound: that one is reported, and the others are shown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import ringbuf
from drain.tools.looking.ring_selection import ring_paths
from drain.tools.looking.span_filter import SpanFilter
from drain.tools.looking.watched_rings import WatchedRings
from drain.tools.tail import _Tail, json_line
from drain.tools.top.frames import Frames, as_json
from tests.service.c_producer import CProducer
from tests.service.draining import LAYOUT, emit
from tests.tools.test_observed_ring import write_word

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORDS = ("tail", "head", "full", "contended", "unsampled", "truncated", "delivered", "invalid")
WATCHERS = ("top", "tail")


@pytest.fixture
def watched(ring_dir: Path) -> Iterator[WatchedRings]:
    with (
        ringbuf.Emitter("sound", ring_dir=ring_dir, layout=LAYOUT, capacity=64, lanes=1) as sound,
        CProducer(ring_dir) as producer,
    ):
        emit(sound, range(3))
        producer.emit(range(5))
        rings = WatchedRings(ring_paths(ring_dir), ring_dir)
        yield rings
        rings.close()


@pytest.mark.parametrize("watcher", WATCHERS)
@pytest.mark.parametrize("value", [2**40, 2**63, 2**64 - 1000])
@pytest.mark.parametrize("word", WORDS)
def test_a_word_that_cannot_be_stops_no_watcher(
    watched: WatchedRings, ring_dir: Path, watcher: str, word: str, value: int
) -> None:
    (path,) = ring_dir.glob("shop-*.ring")
    if watcher == "top":
        frames = Frames(watched, lambda ring: ring.service)
        frames.look()
        write_word(path, word, value)
        frames.look()
        shown = {group["name"] for group in as_json(frames.take(), None)["groups"]}
    else:
        tailing = _Tail(watched, SpanFilter(), json_line)
        write_word(path, word, value)
        shown = {json.loads(span.text)["service"] for span in tailing.next()}
    assert "sound" in shown
    if word in ("tail", "head"):
        assert [complaint for complaint in watched.complaints if complaint.startswith(path.name)]
        assert shown == {"sound"}
