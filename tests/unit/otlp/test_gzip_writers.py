"""Gzip straight from records is used where it is right, and where it is not nobody is told anything wrong."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from drain.otlp import copied_batch, direct_gzip, gzip_writers
from drain.otlp.copied_batch import CopiedBatch
from drain.otlp.copied_records import CopiedRecords
from drain.otlp.direct_gzip import DirectGzip, Member
from drain.otlp.encoder import Encoded, Encoder
from drain.otlp.gzip_members import gunzip, gzip
from drain.otlp.gzip_writers import GzipWriters
from drain.otlp.request import Request
from ringbuf._ringbuf import lib
from ringbuf.exceptions import RingBufferError
from ringbuf.layout.layout import Attribute, SpanLayout
from tests.clocks import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 30.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def writers(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> GzipWriters:
    """Return the writers that this test has for itself."""
    if not DirectGzip.is_supported():
        pytest.skip("this processor has no carry-less product")
    writers = GzipWriters(clock)
    monkeypatch.setattr(copied_batch, "WRITERS", writers)
    monkeypatch.setattr(gzip_writers, "_FEWEST", 9)
    monkeypatch.setattr(gzip_writers, "_FEWEST_OF_RING", 3)
    monkeypatch.setattr(gzip_writers, "_LARGE", 2)
    return writers


def layout(name: str = "work") -> SpanLayout:
    attributes = [Attribute("number", "u64"), Attribute("where", "label", labels=("here", "there"))]
    return SpanLayout(span_names=[name, "rest"], attributes=attributes)


def records(of: SpanLayout, count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    made = of.empty(count)
    made["trace_id"], made["span_id"] = random.integers(1, 256, (count, 16)), random.integers(1, 256, (count, 8))
    made["start_unix_nano"] = made["end_unix_nano"] = 1_764_000_000_000_000_000 + np.arange(count)
    made["number"], made["where"], made["present"] = np.arange(count) % 4, random.integers(0, 2, count), 3
    return made


def request(*parts: tuple[Encoder, np.ndarray]) -> Request:
    copied = [CopiedRecords(encoder, part) for encoder, part in parts]
    return Request.of_records(CopiedBatch(copied), sum(part.spans for part in copied))


def body_of(*parts: tuple[Encoder, np.ndarray]) -> bytes:
    return b"".join(encoder.encode(part).body for encoder, part in parts)


def test_the_first_member_of_a_layout_is_checked(writers: GzipWriters, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = []
    encode = Encoder.encode

    def noted_encode(self: Encoder, part: np.ndarray) -> Encoded:
        encoded.append(self)
        return encode(self, part)

    monkeypatch.setattr(Encoder, "encode", noted_encode)
    first, second = Encoder(layout(), {"service.name": "one"}), Encoder(layout(), {"service.name": "two"})
    other = Encoder(layout("other"), {})
    for encoder in (first, second, first):
        assert request((encoder, records(layout(), 9))).gzip_from == ""
        request((encoder, records(layout(), 9))).gzip()
    assert encoded == [first], "rings of one layout share what is known of it"
    request((other, records(layout("other"), 9)), (first, records(layout(), 9))).gzip()
    assert encoded == [first, other, first], "of several layouts all are checked where one is new"
    assert writers.mistrusted == 0


def test_one_of_some_members_is_checked_after_the_first_too(
    writers: GzipWriters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gzip_writers, "_CHECKED_OF", 4)
    encoder = Encoder(layout(), {})
    finish = DirectGzip.finish
    made = []
    for number in range(5):
        if number == 2:  # what the writer has learnt misleads it from here on
            monkeypatch.setattr(DirectGzip, "finish", lambda self: wrong_bytes(finish(self)))
        sent = request((encoder, records(layout(), 9)))
        sent.gzip()
        made.append(sent.gzip_from)
    assert made == ["records", "records", "records", "body", "body"]
    assert writers.mistrusted == 1


def test_few_spans_in_all_or_of_each_ring_are_encoded_first(writers: GzipWriters) -> None:
    encoders = [Encoder(layout(), {"service.name": str(number)}) for number in range(5)]

    def made_from(*counts: int) -> str:
        sent = request(*((encoder, records(layout(), count)) for encoder, count in zip(encoders, counts, strict=False)))
        sent.gzip()
        return sent.gzip_from

    assert (made_from(8), made_from(9)) == ("body", "records")
    assert (made_from(10, 1, 1, 1, 1), made_from(11, 1, 1, 1, 1)) == ("body", "records")
    assert writers.mistrusted == 0


def wrong_bytes(member: Member) -> Member:
    return member._replace(data=gzip(gunzip(member.data)[:-1] + b"?"))


def cut(member: Member) -> Member:
    return member._replace(data=member.data[:-1])


def wrong_count(member: Member) -> Member:
    return member._replace(spans=member.spans - 1)


def wrong_size(member: Member) -> Member:
    return member._replace(plain_bytes=member.plain_bytes + 1)


@pytest.mark.parametrize("spoil", [wrong_bytes, cut, wrong_count, wrong_size])
def test_a_member_that_is_wrong_is_not_sent_and_the_layout_is_encoded_from_then_on(
    writers: GzipWriters, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Member], Member]
) -> None:
    encoder, sound = Encoder(layout(), {}), Encoder(layout("sound"), {})
    request((sound, records(layout("sound"), 9))).gzip()
    finish = DirectGzip.finish
    monkeypatch.setattr(DirectGzip, "finish", lambda self: spoil(finish(self)))
    parts = [(encoder, records(layout(), 20, seed)) for seed in range(3)]
    with capture_logs() as logs:
        for part in parts:
            sent = request(part)
            assert gunzip(sent.gzip()) == body_of(part)
            assert sent.gzip_from == "body"
    assert [line["log_level"] for line in logs] == ["error"], "once"
    assert writers.mistrusted == 1
    assert not writers.takes(encoder)
    assert writers.takes(sound)


@pytest.mark.parametrize("spoil", [wrong_count, wrong_size])
def test_what_is_counted_is_checked_of_each_member(
    writers: GzipWriters, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Member], Member]
) -> None:
    encoder = Encoder(layout(), {})
    assert request((encoder, records(layout(), 9))).gzip()
    finish = DirectGzip.finish
    monkeypatch.setattr(DirectGzip, "finish", lambda self: spoil(finish(self)))
    part = encoder, records(layout(), 9, 1)
    sent = request(part)
    assert gunzip(sent.gzip()) == body_of(part)
    assert (sent.gzip_from, writers.mistrusted) == ("body", 1)


def test_a_writer_that_has_no_memory_is_no_reason_to_mistrust_a_layout(
    writers: GzipWriters, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder(layout(), {})
    part = encoder, records(layout(), 9)
    add, made = DirectGzip.add, []

    def planted_add(self: DirectGzip, *more: Any) -> tuple[int, int]:
        if self not in made:
            made.append(self)
        if len(made) == 1:
            raise RingBufferError("no memory")
        return add(self, *more)

    monkeypatch.setattr(DirectGzip, "add", planted_add)
    for made_from in ("body", "records"):
        sent = request(part)
        assert gunzip(sent.gzip()) == body_of(part)
        assert sent.gzip_from == made_from
    assert len(made) == 2, "one that has raised is not used again"
    assert writers.mistrusted == 0


class ShortOfMemory:
    """The library, one of whose functions finds no memory."""

    def __init__(self, function: str) -> None:
        self._function = function

    def __getattr__(self, name: str) -> Any:
        return (lambda *_: lib.RB_E_SYSTEM) if name == self._function else getattr(lib, name)


@pytest.mark.parametrize("function", ["rb_gzip_new", "rb_gzip_layout_new"])
def test_a_ring_that_comes_when_there_is_no_memory_is_encoded_meanwhile(
    writers: GzipWriters, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    encoder = Encoder(layout(), {})
    with monkeypatch.context() as patch:
        patch.setattr(direct_gzip, "lib", ShortOfMemory(function))
        assert not writers.takes(encoder)
    assert writers.takes(encoder)


@pytest.fixture
def make_large(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Return a function that says whether members are large from now on."""
    finish, is_large = DirectGzip.finish, False

    def planted_finish(self: DirectGzip) -> Member:
        member = finish(self)
        if not is_large:
            return member
        return member._replace(data=member.data + gzip(b"") * len(member.data))  # which decompresses to the same

    def make(answer: bool) -> None:
        nonlocal is_large
        is_large = answer

    monkeypatch.setattr(DirectGzip, "finish", planted_finish)
    return make


def made_from(encoder: Encoder, count: int = 50) -> str:
    part = encoder, records(encoder.layout, count)
    sent = request(part)
    assert gunzip(sent.gzip()) == body_of(part)
    return sent.gzip_from


def test_a_layout_whose_first_member_is_large_is_encoded_for_a_minute_and_then_tried_again(
    writers: GzipWriters, clock: Clock, make_large: Callable[[bool], None]
) -> None:
    encoder, other = Encoder(layout(), {}), Encoder(layout("other"), {})
    make_large(True)
    with capture_logs() as logs:
        for _ in range(3):  # the third time as the first: what is large stays so
            assert writers.takes(encoder)
            assert (made_from(encoder), made_from(encoder)) == ("records", "body")
            assert not writers.takes(encoder)
            clock.now += 59.9
            assert not writers.takes(encoder)
            clock.now += 0.2
    assert [line["log_level"] for line in logs] == ["info"], "once"
    make_large(False)
    assert (made_from(other), writers.takes(other)) == ("records", True), "another layout is none of it"
    with capture_logs() as logs:
        assert [made_from(encoder) for _ in range(3)] == ["records"] * 3
    assert [line["log_level"] for line in logs] == ["info"], "once"
    assert writers.mistrusted == 0


def test_a_layout_whose_members_become_large_is_found_out(
    writers: GzipWriters, clock: Clock, make_large: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gzip_writers, "_CHECKED_OF", 2)
    monkeypatch.setattr(gzip_writers, "_MEASURED_OF", 4)
    encoder = Encoder(layout(), {})
    assert writers.takes(encoder)
    made = []
    for number in range(1, 7):
        make_large(number > 1)
        made.append(made_from(encoder))
    assert made == ["records"] * 4 + ["body"] * 2
    make_large(False)
    clock.now += 60
    assert made_from(encoder) == "records"


def test_of_a_large_member_the_layouts_are_encoded_first_that_are_tried(
    writers: GzipWriters, clock: Clock, make_large: Callable[[bool], None]
) -> None:
    old, new = Encoder(layout(), {}), Encoder(layout("new"), {})
    assert (writers.takes(old), writers.takes(new), made_from(old)) == (True, True, "records")
    make_large(True)
    request((old, records(layout(), 50)), (new, records(layout("new"), 50))).gzip()
    assert (writers.takes(old), writers.takes(new)) == (True, False)
    assert (made_from(old), made_from(new)) == ("records", "body")
    clock.now += 60
    assert writers.takes(new)


def test_it_is_told_how_gzip_is_made_of_each_layout(
    writers: GzipWriters, clock: Clock, make_large: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert writers.ways() == (0, 0, 0, 0)
    text = Encoder(SpanLayout(span_names=["page"], attributes=[Attribute("path", "str", 20)]), {})
    rings = [Encoder(layout(), {"service.name": name}) for name in ("one", "two")]
    large, wrong = Encoder(layout("large"), {}), Encoder(layout("wrong"), {})
    assert [writers.takes(encoder) for encoder in (*rings, text, large, wrong)] == [True, True, False, True, True]
    assert writers.ways()._asdict() == {"straight": 3, "unfit": 1, "large": 0, "mistrusted": 0}
    make_large(True)
    assert made_from(large) == "records"
    make_large(False)
    finish = DirectGzip.finish
    with monkeypatch.context() as patch:
        patch.setattr(DirectGzip, "finish", lambda self: wrong_count(finish(self)))
        assert made_from(wrong) == "body"
    assert writers.ways()._asdict() == {"straight": 1, "unfit": 1, "large": 1, "mistrusted": 1}
    clock.now += 60
    assert made_from(large) == "records"
    assert writers.ways().straight == 2
    del rings
    gc.collect()
    assert writers.ways()._asdict() == {"straight": 1, "unfit": 1, "large": 0, "mistrusted": 1}


def test_threads_write_at_the_same_time(writers: GzipWriters) -> None:
    encoders = [Encoder(layout(), {"service.name": name}) for name in ("one", "two")]
    start, faults = threading.Barrier(8), []

    def work(seed: int) -> None:
        start.wait(SECONDS)
        for count in (6, 700, 2000):
            parts = [(encoder, records(layout(), count, seed)) for encoder in encoders]
            sent = request(*parts)
            if gunzip(sent.gzip()) != body_of(*parts) or sent.gzip_from != "records":
                faults.append((seed, count))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert writers.mistrusted == 0
