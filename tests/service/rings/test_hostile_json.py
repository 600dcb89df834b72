"""Layouts and resources of a hostile producer, on the whole way to OTLP bytes, beside a ring that is sound.

Whatever a header holds, its ring is served as the JSON says, or set aside with a reason that fits on a line of a log.
"""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

import ringbuf
from ringbuf._hot import lib as hot
from ringbuf._ringbuf import ffi, lib
from ringbuf.layout.layout import CORE_OFFSETS
from tests.conftest import SESSION, SHM
from tests.examples import ABOUT_CHANCE, examples
from tests.property.strategies import layouts
from tests.service.c_producer import CProducer
from tests.service.draining import LAYOUT, MemoryBackend, SteppedDrain, emit, quarantined, ring_files, spans_of
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MEBIBYTE = 1 << 20
MOST_REASON = 600
MOST = lib.RB_MAX_JSON_BYTES

junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-1, 0, 63, 64, 65, 128, 2**16, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400])
    | st.floats()  # NaN and the infinities: JSON has no such numbers, Python writes them
    | st.text(max_size=20)
    | st.sampled_from(
        ["\ud800", "\0", "\x1b[2J", "é" * 300, "label", "str", "f64", "hex", "x" * 70_000, "service.name"]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def changed(draw: st.DrawFn, value: Any) -> Any:
    """Return a value of JSON in which some part is another."""
    if draw(st.integers(0, 5)) == 0 or not isinstance(value, dict | list) or not value:
        return draw(junk)
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    at = draw(st.sampled_from(sorted(copy))) if isinstance(copy, dict) else draw(st.integers(0, len(copy) - 1))
    how = draw(st.integers(0, 9))
    if how == 0:
        del copy[at]
    elif how == 1 and isinstance(copy, list):
        copy *= draw(st.sampled_from([2, 33, 3000]))
    elif how == 1:
        copy[draw(st.text(max_size=6))] = draw(junk)
    else:
        copy[at] = draw(changed(copy[at]))
    return copy


@st.composite
def documents(draw: st.DrawFn, sound: Any) -> bytes:
    """Return JSON like `sound`, changed in places, and sometimes no JSON."""
    for _ in range(draw(st.integers(1, 3))):
        sound = draw(changed(sound))
    text = json.dumps(sound, ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")
    how = draw(st.integers(0, 11))
    if how == 0:
        text = draw(st.binary(max_size=200))
    elif how == 1:
        text = text[: draw(st.integers(0, len(text)))]
    elif how == 2:
        text = text.replace(b"{", b'{"key":1,"key":2,' if b"}" in text else b"{{", 1)
    elif how == 3:
        opening = draw(st.sampled_from([b"[", b'{"a":']))
        text = opening * draw(st.sampled_from([100, 990, 40_000])) + text
    return text[:MOST]


resources = documents({"service.name": "shop", "a": [1, 2], "b": 1.5, "c": True, "d": ["x"]})
layout_documents = layouts(max_attributes=4).flatmap(lambda layout: documents(json.loads(layout.to_json())))


class House:
    """One drain for all examples, so that what one leaves behind meets the next, and a ring that is sound."""

    def __init__(self) -> None:
        self.ring_dir = Path(tempfile.mkdtemp(prefix=f"{SESSION}-", dir=SHM))
        self.backend = MemoryBackend()
        self.drain = SteppedDrain(self.ring_dir, self.backend)
        self.sound = ringbuf.Emitter("sound", ring_dir=self.ring_dir, layout=LAYOUT, capacity=64, lanes=1)
        self.drain.step()

    def serve(
        self, *, layout: bytes | None = None, resource: bytes | None = None
    ) -> tuple[str | None, list[TracesData]]:
        """Serve a hostile ring of five records and the sound one; return why it was set aside, and the requests."""
        before = set(ring_files(self.ring_dir))
        slot_bytes = slot_bytes_of(layout)
        with CProducer(self.ring_dir, layout=layout, resource=resource, slot_bytes=slot_bytes) as producer:
            records = bytearray(5 * slot_bytes)
            pointer = ffi.cast("rb_record *", ffi.from_buffer(records))
            hot.rb_fill_ids(producer._producer, pointer, 5, slot_bytes)
            for at in range(0, len(records), slot_bytes):
                struct.pack_into("<I", records, at + CORE_OFFSETS["present"], 0xFFFFFFFF)
                struct.pack_into("<I", records, at + CORE_OFFSETS["flags"], lib.RB_SPAN_SAMPLED)
            assert hot.rb_emit_batch(producer._producer, pointer, 5) == 5
        (path,) = set(ring_files(self.ring_dir)) - before
        self.backend.requests.clear()
        emit(self.sound, range(5))
        self.drain.until(lambda: self.sound.stats().pending == 0 and not path.exists())
        reasons = quarantined(self.ring_dir)
        for file in (self.ring_dir / "quarantine").iterdir():
            file.unlink()
        reason = reasons[path.name]["reason"] if path.name in reasons else None
        return reason, [TracesData.FromString(request.body) for request in self.backend.requests]

    def close(self) -> None:
        self.drain.until(lambda: self.sound.stats().pending == 0)
        self.sound.close()
        self.drain.close()
        shutil.rmtree(self.ring_dir)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    house = House()
    yield house
    house.close()


def slot_bytes_of(layout: bytes | None) -> int:
    """Return slots that fit the layout, where it says of which size they are."""
    try:
        size = json.loads(layout or b"")["slot_bytes"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return LAYOUT.slot_bytes
    is_size = type(size) is int and size % 64 == 0 and lib.RB_CORE_BYTES <= size <= lib.RB_MAX_SLOT_BYTES
    return size if is_size else LAYOUT.slot_bytes


def check(served: tuple[str | None, list[TracesData]]) -> None:
    reason, requests = served
    services = [
        next((pair.value.string_value for pair in spans.resource.attributes if pair.key == "service.name"), "")
        for request in requests
        for spans in request.resource_spans
    ]
    assert "sound" in services
    assert reason is None or (reason.startswith(("layout: ", "resource: ")) and len(reason) < MOST_REASON)
    # The hostile ring's five are all there, or it was set aside before any of them was sent.
    assert sum(len(spans_of(request)) for request in requests) == (10 if reason is None else 5)


SETTINGS = settings(max_examples=examples(120), suppress_health_check=ABOUT_CHANCE)


@SETTINGS
@given(layout_documents)
def test_any_layout_is_served_or_set_aside(house: House, layout: bytes) -> None:
    check(house.serve(layout=layout))


@SETTINGS
@given(resources)
def test_any_resource_is_served_or_set_aside(house: House, resource: bytes) -> None:
    check(house.serve(resource=resource))


LAYOUT_OBJECT = json.loads(LAYOUT.to_json())
LABELS = [f"{number:x}" for number in range(30_000)]
LABEL = {"key": "l", "type": "label", "offset": 72, "bytes": 2, "labels": LABELS}
LONG_KEY = {"key": "k" * 100_000, "type": "u64", "bytes": 8}
ABSURD: dict[str, Callable[[], dict[str, bytes]]] = {
    "30000 labels": lambda: {"layout": with_attribute(LABEL)},
    "a long key with 10000 labels": lambda: {
        "layout": with_attribute(LABEL | {"key": "k" * 60_000, "labels": LABELS[:10_000]})
    },
    "a key of 100 kB that is there twice": lambda: {
        "layout": dump(LAYOUT_OBJECT | {"attributes": [LONG_KEY | {"offset": 64}, LONG_KEY | {"offset": 72}]})
    },
    "20000 span names": lambda: {"layout": dump(LAYOUT_OBJECT | {"span_names": LABELS[:20_000]})},
    "a span name of 250 kB": lambda: {"layout": dump(LAYOUT_OBJECT | {"span_names": ["n" * 250_000]})},
    "a scope of 250 kB": lambda: {"layout": dump(LAYOUT_OBJECT | {"scope_name": "s" * 250_000})},
    "20000 attributes": lambda: {"layout": dump(LAYOUT_OBJECT | {"attributes": [LABEL | {"labels": ["a"]}] * 2500})},
    "10000 resource attributes": lambda: {"resource": dump({f"key-{number}": number for number in range(10_000)})},
    "a service name of 250 kB": lambda: {"resource": dump({"service.name": "s" * 250_000})},
    "an array of 20000 numbers": lambda: {"resource": dump({"a": [1] * 20_000})},
    "brackets": lambda: {"resource": b"[" * 250_000},
    "a number of 250000 digits": lambda: {"resource": b'{"a":' + b"9" * 250_000 + b"}"},
    "quotes": lambda: {"layout": b'"' * 250_000},
}


def dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def with_attribute(attribute: dict[str, Any]) -> bytes:
    return dump(LAYOUT_OBJECT | {"attributes": [*LAYOUT_OBJECT["attributes"], attribute]})


@pytest.mark.prove
@pytest.mark.parametrize("name", ABSURD)
def test_an_absurd_ring_takes_a_bounded_amount_of_memory_and_gives_it_back(house: House, name: str) -> None:
    hostile = ABSURD[name]()
    assert all(len(document) <= MOST for document in hostile.values())
    check(house.serve(**hostile))  # what is made once is made now
    house.backend.requests.clear()
    tracemalloc.start()
    try:
        for _ in range(5):
            check(house.serve(**hostile))
        house.backend.requests.clear()
        # The log and the audit grow a little; documents that were kept would be a quarter of a MiB each. A thread of
        # the delivery that has settled a batch may still have it in hand, and with it the ring.
        until(lambda: tracemalloc.get_traced_memory()[0] < MEBIBYTE)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * MEBIBYTE


def test_a_long_service_name_is_cut_where_the_drain_keeps_it(house: House) -> None:
    name = "long " + "é" * 40_000
    reason, requests = house.serve(resource=dump({"service.name": name}))
    assert reason is None
    names = [
        pair.value.string_value
        for request in requests
        for spans in request.resource_spans
        for pair in spans.resource.attributes
        if pair.key == "service.name"
    ]
    assert name in names  # the backend gets what the producer said
    kept = [service for service in house.drain.service.accounts.sums() if service.startswith("long ")]
    assert [len(service) for service in kept] == [120]
