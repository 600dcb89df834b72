"""Segments become batches within their bounds, and each segment learns what became of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from drain.accounting.outcome import Outcome
from drain.delivery.batch import Batch, Batcher, Share
from drain.delivery.job import Job
from drain.otlp.copied_records import CopiedRecords
from drain.otlp.destinations import grouped
from drain.otlp.encoder import Encoded, Encoder
from drain.otlp.request import Request
from drain.rings.segment import Segment
from ringbuf.layout.layout import Attribute, SpanLayout

NOBODY: Any = None  # these tests release nothing


def segment(spans: int, invalid: int = 0, service: str = "shop") -> Segment:
    ring: Any = SimpleNamespace(service=service)
    return Segment(ring, NOBODY, spans, invalid)


def add(batcher: Batcher, body: bytes, spans: int, now: float = 0.0) -> Segment:
    added = segment(spans)
    batcher.add(added, [("", Encoded(body, spans, 0))], now)
    return added


def request(**services: int) -> Request:
    return Request(b"", sum(services.values()), "protobuf", services=services)


def test_a_batch_is_full_at_max_spans() -> None:
    batcher = Batcher("protobuf", max_spans=10, max_bytes=1000)
    add(batcher, b"a", 4)
    assert not batcher.full
    add(batcher, b"b", 6)
    assert [batch.parts for batch in batcher.full] == [[Request(b"ab", 10, "protobuf")]]
    assert batcher.spans == 0


def test_of_a_part_that_is_cut_behind_a_first_verdict_that_verdict_counts_once() -> None:
    shop = segment(5)
    batch = Batch([request(shop=5)], [shop])
    job = Job(batch.parts[0], 0.0, batch, 0)
    job.so_far = Outcome(rejected=2)  # an error had kept its pieces from being jobs of their own
    job.left.clear()
    job.left.extend((request(shop=2), request(shop=1)))
    numbers = batch.divide(job.number, len(job.left), job.so_far)
    pieces = [job.piece(one, number) for one, number in zip(job.left, numbers, strict=True)]
    assert [piece.so_far for piece in pieces] == [Outcome()] * 2
    assert not batch.decide(pieces[0].number, Outcome(delivered=2))
    assert batch.decide(pieces[1].number, Outcome(delivered=1))
    assert shop.outcome == Outcome(delivered=3, rejected=2)


def test_the_room_is_what_the_open_batch_still_takes() -> None:
    batcher = Batcher("protobuf", max_spans=16, max_bytes=1000)
    rooms = [batcher.room(0)]
    for spans in (4, 10, 1, 1):
        add(batcher, b"a" * spans, spans)
        rooms.append(batcher.room(1))
    assert rooms == [16, 12, 2, 16, 16], "where it is less than an eighth of a batch another is begun"
    add(batcher, b"a" * 600, 4)
    assert [batcher.room(size) for size in (0, 1, 50, 100, 400, 2000)] == [12, 12, 8, 4, 1, 1]
    batcher.max_spans = 3  # by a backend that is slow
    assert batcher.room(1) == 3


def test_a_batch_is_full_at_max_bytes() -> None:
    batcher = Batcher("protobuf", max_spans=100, max_bytes=10)
    add(batcher, b"a" * 10, 1)
    assert [batch.parts[0].body for batch in batcher.full] == [b"a" * 10]


RECORDS_OF = SpanLayout(span_names=["work"], attributes=[Attribute("number", "u64")])


def copied(spans: int, invalid: int = 0, layout: SpanLayout = RECORDS_OF) -> CopiedRecords:
    records = layout.empty(spans + invalid)
    records["trace_id"][:spans], records["span_id"][:spans] = 1, 2
    return CopiedRecords(Encoder(layout, {"service.name": "shop"}), records)


def test_what_is_encoded_and_what_is_not_are_two_requests_to_a_destination() -> None:
    batcher = Batcher("protobuf", max_spans=12, max_bytes=1 << 20)
    first, second, third = copied(3, 1), Encoded(b"body", 4, 0), copied(5)
    segments = [segment(3, 1), segment(4), segment(5)]
    shares: list[Share] = [first, second, third]
    for share, of_it in zip(shares, segments, strict=True):
        batcher.add(of_it, [("", share)], 0.0)
    (batch,) = batcher.full
    assert [part.spans for part in batch.parts] == [8, 4]
    assert [part.services for part in batch.parts] == [{"shop": 8}, {"shop": 4}]
    assert [part.body for part in batch.parts] == [first.body + third.body, b"body"]
    numbers = [part.batch for part in batch.parts]
    assert [(number.first, number.spans) for number in numbers if number is not None] == [(0, 12), (8, 12)]
    assert not batch.decide(0, Outcome(delivered=8))
    assert batch.decide(1, Outcome(rejected=4))
    assert sum((of_it.outcome or Outcome()).delivered for of_it in segments) == 8
    assert sum((of_it.outcome or Outcome()).invalid for of_it in segments) == 1


@pytest.mark.parametrize("present", [0, 31], ids=["records are larger", "the body is larger"])
def test_copies_count_as_much_as_the_larger_of_them_and_their_body(present: int) -> None:
    layout = SpanLayout(span_names=["work"], attributes=[Attribute(f"digest {n}", "hex", 24) for n in range(5)])
    records = layout.empty(10)
    records["trace_id"], records["span_id"], records["present"] = 1, 2, present
    part = CopiedRecords(Encoder(layout, {}), records)
    assert (part.size == part.body_bytes) is bool(present)
    assert part.size == max(part.body_bytes, 10 * layout.slot_bytes)
    batcher = Batcher("protobuf", max_spans=100, max_bytes=part.size)
    batcher.add(segment(10), [("", part)], 0.0)
    assert [batch.spans for batch in batcher.full] == [10]


@pytest.mark.parametrize("destinations", [1, 2, 50])
def test_what_waits_for_one_of_several_destinations_keeps_no_memory_of_the_others(destinations: int) -> None:
    """Fifty gateways, of which one is away: what waits for it kept fifty times what it counted."""
    records = RECORDS_OF.empty(1000)
    records["trace_id"], records["span_id"] = 1, np.arange(1, 8001).reshape(1000, 8) % 255 + 1
    of = np.arange(1000, dtype=np.uint16) % destinations
    encoder, spans = Encoder(RECORDS_OF, {}), 0
    for destination, part in grouped(records, of, destinations):
        kept = CopiedRecords(encoder, part)
        whole = kept.records.base
        held = whole.nbytes if isinstance(whole, np.ndarray) else kept.records.nbytes
        assert held <= kept.size
        assert kept.body == encoder.encode(records[of == destination]).body
        spans += kept.spans
    assert spans == len(records)


def test_a_segment_that_does_not_fit_begins_the_next_batch() -> None:
    batcher = Batcher("protobuf", max_spans=10, max_bytes=10)
    first = add(batcher, b"a" * 6, 1)
    second = add(batcher, b"b" * 6, 1)
    assert [batch.segments for batch in batcher.full] == [[first]]
    batcher.close()
    assert [batch.segments for batch in batcher.full] == [[first], [second]]
    third = add(batcher, b"c", 6)
    fourth = add(batcher, b"d", 6)
    assert [batch.segments for batch in batcher.full][2:] == [[third]]
    batcher.close()
    assert batcher.full[-1].segments == [fourth]


def test_json_bodies_become_one_line() -> None:
    batcher = Batcher("json", max_spans=10, max_bytes=1000)
    add(batcher, b'{"a":1}', 1)
    add(batcher, b'{"b":2}', 1)
    batcher.close()
    assert batcher.full[0].parts[0].body == b'{"resourceSpans":[{"a":1},{"b":2}]}\n'


def test_age_counts_from_the_first_segment_of_the_open_batch() -> None:
    batcher = Batcher("protobuf", max_spans=10, max_bytes=1000)
    assert batcher.age(5.0) == 0
    add(batcher, b"a", 1, now=5.0)
    add(batcher, b"b", 1, now=6.0)
    assert batcher.age(7.5) == 2.5
    batcher.close()
    assert batcher.age(9.0) == 0


def test_closing_without_a_segment_makes_no_empty_request() -> None:
    batcher = Batcher("protobuf", max_spans=10, max_bytes=1000)
    batcher.close()
    assert not batcher.full


def test_a_batch_says_which_services_its_spans_are_of() -> None:
    batcher = Batcher("protobuf", max_spans=10, max_bytes=1000)
    for spans, service in ((3, "shop"), (2, "bank"), (1, "shop")):
        batcher.add(segment(spans, service=service), [("", Encoded(b"", spans, 0))], 0.0)
    batcher.close()
    assert [part.services for part in batcher.full[0].parts] == [{"shop": 4, "bank": 2}]


def test_an_outcome_is_shared_out_so_that_each_segment_and_each_kind_adds_up() -> None:
    segments = [segment(3, invalid=2), segment(5), segment(2, invalid=1)]
    batch = Batch([request(shop=10)], segments)
    assert batch.decide(0, Outcome(delivered=3, spooled=1, rejected=4, dead_lettered=2))
    outcomes = [s.outcome for s in segments if s.outcome is not None]
    assert [sum(outcome) for outcome in outcomes] == [5, 5, 3]
    assert Outcome(*map(sum, zip(*outcomes, strict=True))) == Outcome(3, 1, 4, 2, invalid=3)


def test_a_batch_is_settled_by_the_last_of_its_parts_with_the_sum_of_each_service() -> None:
    shop, bank, shop_again = segment(4), segment(3, invalid=1, service="bank"), segment(2)
    batch = Batch([request(shop=1, bank=3), request(shop=2), request(shop=3)], [shop, bank, shop_again])
    assert not batch.decide(2, Outcome(spooled=3))
    assert not batch.decide(0, Outcome(dead_lettered=4))
    assert [one.outcome for one in batch.segments] == [None, None, None], "the records wait for the last part"
    assert batch.decide(1, Outcome(delivered=2))
    assert bank.outcome == Outcome(dead_lettered=3, invalid=1), "of which it is known, though others come first"
    assert shop.outcome == Outcome(dead_lettered=1, spooled=3)
    assert shop_again.outcome == Outcome(delivered=2)


@pytest.mark.parametrize("other", [Outcome(rejected=1), Outcome(dead_lettered=1), Outcome(spooled=1)])
def test_that_all_were_delivered_is_said_of_no_segment_where_a_span_of_the_batch_was_not(other: Outcome) -> None:
    """The counts are shared out by order: which spans they are of, they do not say."""
    for verdict, is_delivered in ((other, False), (Outcome(delivered=1), True)):
        segments = [segment(2), segment(2, service="bank", invalid=1)]
        batch = Batch([request(shop=2, bank=1), request(bank=1)], segments)
        assert not batch.decide(0, Outcome(delivered=3))
        numbers = batch.divide(1, 1, Outcome())
        assert not any(one.is_delivered for one in segments)
        assert batch.decide(numbers[0], verdict)
        assert [one.is_delivered for one in segments] == [is_delivered] * 2


def test_a_part_that_is_decided_once_more_is_counted_once() -> None:
    only = segment(5)
    batch = Batch([request(shop=2), request(shop=3)], [only])
    for _ in range(2):
        assert not batch.decide(0, Outcome(delivered=2))
    for _ in range(2):
        assert batch.decide(1, Outcome(rejected=3))
    assert only.outcome == Outcome(delivered=2, rejected=3)


def test_a_batch_without_a_part_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one part"):
        Batch([], [segment(1)])
