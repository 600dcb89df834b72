"""Layouts of many rings: equal ones are read and kept once, and no owner's fill the drain's memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog

import ringbuf
from drain.accounting.audit import Audit
from drain.rings.admission import Admission
from drain.rings.directory import RingDirectory
from drain.rings.documents import Documents
from drain.rings.reader import Reader
from drain.rings.ring import OPEN_FLAGS, Ring, Scratch
from ringbuf._ringbuf import lib
from ringbuf.exceptions import LayoutError, RingFormatError
from ringbuf.layout.layout import Attribute, SpanLayout
from tests.service.draining import SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

ME, OTHER = 1000, 1001


def layout(*names: str) -> SpanLayout:
    return SpanLayout(span_names=names, attributes=[Attribute("number", "u64")])


def test_equal_layouts_are_read_once_and_kept_until_their_last_ring_ends() -> None:
    read: list[bytes] = []

    def note(data: bytes) -> SpanLayout:
        read.append(data)
        return SpanLayout.from_json(data)

    documents = Documents(read=note)
    json = layout("work").to_json()
    first, second = documents.hold(ME, json, b"{}"), documents.hold(OTHER, json, b"{}")
    assert first.layout is second.layout
    assert read == [json]
    assert documents.hold(ME, layout("rest").to_json(), b"{}").layout is not first.layout
    first.let_go()
    third = documents.hold(ME, json, b"{}")
    assert third.layout is second.layout
    second.let_go()
    third.let_go()
    assert documents.hold(ME, json, b"{}").layout == first.layout
    assert len(read) == 3


def test_an_owner_has_half_of_the_room_and_there_is_always_some_for_another() -> None:
    documents = Documents(8000, read=lambda _data: layout("work"))
    held = [documents.hold(ME, b"%03d" % number * 300, b"x" * 100) for number in range(4)]
    with pytest.raises(MemoryError, match="uid 1000 take 4000 bytes: no room for 1000 more"):
        documents.hold(ME, b"one" * 300, b"x" * 100)
    for number in range(2):
        documents.hold(OTHER, b"%03d" % (number + 10) * 300, b"x" * 100)
    with pytest.raises(MemoryError, match="uid 1001"):
        documents.hold(OTHER, b"one" * 300, b"x" * 100)
    documents.hold(OTHER + 1, b"%03d" % 20 * 100, b"")
    for one in held[:3]:
        one.let_go()
    documents.hold(ME, b"one" * 300, b"x" * 100)


def test_what_is_no_layout_is_not_counted() -> None:
    documents = Documents(100_000)
    for _ in range(100):
        with pytest.raises(LayoutError):
            documents.hold(ME, b"nonsense" * 1000, b"{}")
    documents.hold(ME, layout("work").to_json(), b"{}")
    assert documents._bytes_by_owner.total() == len(layout("work").to_json()) + 2


def test_rings_give_their_documents_back(ring_dir: Path) -> None:
    documents, scratch = Documents(), Scratch(1 << 16)
    with (
        ringbuf.Emitter("shop", ring_dir=ring_dir, layout=layout("work"), capacity=64, lanes=1),
        ringbuf.Emitter("bank", ring_dir=ring_dir, layout=layout("work"), capacity=64, lanes=1),
    ):
        rings = [attached(path, documents, scratch) for path in sorted(ring_dir.glob("*.ring"))]
        assert rings[0].layout is rings[1].layout
        assert rings[0].service != rings[1].service
        header = lib.rb_consumer_header(rings[0].consumer)
        assert (header.layout_bytes, header.resource_bytes) == (0, 0), "the copy of the header has none of it any more"
        assert header.lane_count == 1
        for ring in rings:
            ring.close()
        path = next(iter(ring_dir.glob("*.ring")))
        with pytest.raises(RingFormatError):
            attached(path, Documents(read=refuse), scratch)
    assert not documents._shared
    assert not documents._bytes_by_owner


def test_a_ring_that_is_cut_while_it_is_taken_in_keeps_no_descriptor(
    ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = Documents()
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=layout("a"), capacity=64, lanes=1):
        (path,) = ring_dir.glob("*.ring")
        before = sorted(Path("/proc/self/fd").iterdir())

        def cut(ring: Ring) -> None:
            raise RingFormatError(str(ring.path), "cut")

        monkeypatch.setattr(Ring, "_counted_before", cut)
        with pytest.raises(RingFormatError, match="cut"):
            attached(path, documents, Scratch(1 << 20))
        assert sorted(Path("/proc/self/fd").iterdir()) == before
    assert not documents._bytes_by_owner


def attached(path: Path, documents: Documents, scratch: Scratch) -> Ring:
    descriptor = os.open(path, OPEN_FLAGS)
    return Ring(path.name, path, descriptor, max_bytes=0, encoding="protobuf", scratch=scratch, documents=documents)


def refuse(_data: bytes) -> Any:
    raise LayoutError("no")


def test_a_ring_for_whose_layout_there_is_no_room_waits_and_the_others_go_on(
    ring_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drain.rings.reader.Documents", lambda: Documents(20_000))
    names = [[f"{ring} {number}" for number in range(700)] for ring in "ab"]  # 6 kB of JSON and more
    now = 0.0
    first = ringbuf.Emitter("first", ring_dir=ring_dir, layout=layout(*names[0]), capacity=64, lanes=1)
    reader = started(ring_dir, lambda: now)
    try:
        reader.look()
        assert [ring.service for ring in reader.rings] == ["first"]
        with ringbuf.Emitter("second", ring_dir=ring_dir, layout=layout(*names[1]), capacity=64, lanes=1):
            now += SECONDS
            reader.look()
            assert [ring.service for ring in reader.rings] == ["first"]
            assert (reader.quarantined, reader.left_alone) == (0, 0)
            first.close()
            (ring,) = reader.rings
            reader.retire(ring)
            now += SECONDS
            reader.look()
            assert [ring.service for ring in reader.rings] == ["second"]
    finally:
        first.close()
        reader.close()


def started(ring_dir: Path, clock: Callable[[], float]) -> Reader:
    return Reader(
        RingDirectory(ring_dir),
        Admission(frozenset(), frozenset(), 1 << 30),
        "protobuf",
        Audit(),
        batch_spans=100,
        log=structlog.get_logger(),
        spans=None,
        clock=clock,
    )
