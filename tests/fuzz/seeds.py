"""Writes what fuzzing begins with: real rings in several states, calls to make on them, and inputs at limits.

    .venv/bin/python -m tests.fuzz.seeds FOLDER

The format of an input is in fuzz_ring.c, fuzz_encode.c, fuzz_otlp.c and fuzz_hold.c. Those at limits stay in the
corpus: there one step too far is all that is wrong.
"""

from __future__ import annotations

import struct
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import structlog
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span, Status

import ringbuf
from drain.sampling.hold.chunk import Fate, RingKey
from drain.sampling.hold.hold import Hold
from ringbuf._ringbuf import ffi
from tests.consumer import Consumer, rings_in

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDED, FIX_CRC, FIX_SIZE, FILL, HOLES = 1, 2, 4, 8, 16
POLL, COPY, RELEASE, STATE, SLEEPING, SCAN, SLEEP, WORD, BYTE, CUT, GROW, OBSERVE, AGAIN = range(13)
TAIL, HEAD = 0, 256 // 8
CAPACITY = 4

SCRIPTS = (
    bytes([]),
    bytes([STATE, 1, SCAN, POLL, COPY, 0, 2, RELEASE, 0, 1, COPY, 0, 9, RELEASE, 0, 0x81, SLEEPING, 1, SLEEPING, 0]),
    bytes([COPY, 1, 4, RELEASE, 1, 0x29, OBSERVE, 1, 4, 8, AGAIN, COPY, 1, 4, RELEASE, 1, 1, SLEEP, STATE, 2]),
    bytes([WORD, 0, TAIL, 1, COPY, 0, 8, WORD, 0, TAIL, 128, POLL, WORD, 0, HEAD, 254, RELEASE, 0, 1]),
    bytes([COPY, 0, 3, CUT, 64, POLL, COPY, 0, 3, GROW, 0, SCAN, RELEASE, 0, 3, AGAIN]),
    bytes([WORD, 0, HEAD + 1, 2, AGAIN, COPY, 0, 3, RELEASE, 0, 1, RELEASE, 0, 0x80, BYTE, 0, 0x11, 7, POLL]),
)


def layouts() -> Iterator[ringbuf.SpanLayout]:
    """Return a layout for each of some slot sizes."""
    for size in (0, 40, 90):
        attributes = [ringbuf.Attribute("text", "str", size)] if size else []
        yield ringbuf.SpanLayout(span_names=["a", "b"], attributes=attributes)


def rings(folder: Path) -> Iterator[bytes]:
    """Return the files of rings in several states."""
    for layout in layouts():
        for lanes in (1, 2):
            emitter = ringbuf.Emitter("seed", ring_dir=folder, layout=layout, capacity=CAPACITY, lanes=lanes)
            (path,) = rings_in(folder)
            records = layout.empty(CAPACITY - 1)
            records["start_unix_nano"], records["end_unix_nano"], records["flags"] = 1, 2, 0x101
            records["present"], records["kind"], records["status"] = 0xFFFFFFFF, 3, 2
            emitter.fill_ids(records)
            yield path.read_bytes()
            emitter.emit_batch(records)
            yield path.read_bytes()
            with Consumer(path) as consumer:
                consumer.set_state(1)
                consumer.copy()
                consumer.release(1, rejected=1)
            emitter.emit_batch(records)
            yield path.read_bytes()
            emitter.close()
            yield path.read_bytes()
            path.unlink()


def folded(ring: bytes) -> bytes:
    """Return a ring without layout, resource, and the zeros around them: fuzz_ring.c puts it together again."""
    header = ffi.from_buffer("rb_header *", ring)
    lane_bytes = 384 + header.capacity_slots * header.slot_bytes
    lanes = b"".join(
        ring[header.header_bytes + lane * header.lane_stride_bytes :][:lane_bytes] for lane in range(header.lane_count)
    )
    return ring[:128] + lanes.rstrip(b"\0")


def real_rings(folder: Path) -> Iterator[bytes]:
    """Return inputs of fuzz_ring.c."""
    for number, ring in enumerate(rings(folder)):
        for script in SCRIPTS[number % 2 :: 2]:
            yield bytes([FOLDED | FIX_CRC, len(script)]) + script + folded(ring)
        if number % 12 == 1:
            yield bytes([0, 0]) + ring
            yield bytes([FILL, 0]) + ring.rstrip(b"\0")
            yield bytes([FILL | HOLES, 0]) + ring[:4200]
            yield bytes([FIX_CRC | FIX_SIZE, 0]) + ring


def ring(
    script: bytes = b"", *, how: int = FOLDED | FIX_CRC, lane: dict[str, int] | None = None, **header: int
) -> bytes:
    """Return an input of fuzz_ring.c: one lane of four slots of 64 bytes with three records, but for what is given."""
    made = ffi.new(
        "rb_header *",
        {
            "magic": b"ringbuf",
            "abi_major": 1,
            "header_bytes": 4096,
            "slot_bytes": 64,
            "lane_count": 1,
            "capacity_slots": 4,
            "lane_stride_bytes": 4096,
            "file_bytes": 8192,
            "layout_offset": 128,
            "resource_offset": 128,
            **header,
        },
    )
    words = ffi.new("rb_lane *", {"tail": 3, **(lane or {})})
    records = b"".join(record(name=number) for number in range(4))
    return bytes([how, len(script)]) + script + bytes(ffi.buffer(made)) + bytes(ffi.buffer(words)) + records


def ring_limits() -> Iterator[bytes]:
    """Return rings of which one thing is wrong, and calls on rings that are cut before."""
    for call in ([POLL], [COPY, 0, 3], [STATE, 1], [SLEEPING, 1], [SLEEPING, 0], [SCAN], [SLEEP], [AGAIN]):
        yield ring(bytes([CUT, 0, *call]))
        yield ring(bytes([COPY, 0, 2, CUT, 128, *call]))
    yield ring(bytes([COPY, 0, 2, CUT, 0, RELEASE, 0, 1]))
    yield ring(bytes([COPY, 0, 2, RELEASE, 0, 3]))
    yield ring(bytes([COPY, 0, 2, RELEASE, 0, 2, RELEASE, 0, 0x80]))
    yield ring(bytes([COPY, 1, 2, RELEASE, 1, 1]))
    yield ring(bytes([COPY, 0, 2, WORD, 0, TAIL, 129, POLL, COPY, 0, 3, WORD, 0, TAIL, 4, POLL, COPY, 0, 8]))
    for lane in (
        {"tail": 5},
        {"tail": 4},
        {"head": 4},
        {"delivered": 3},
        {"delivered": 4},
        {"head": 2, "delivered": 1},
        {"head": 2**64 - 1, "delivered": 2**64 - 1},
    ):
        yield ring(lane=lane)
    yield ring(lane={"delivered": 2**64 - 1, "spooled": 1})
    yield ring(capacity_slots=64)
    yield ring(slot_bytes=1024)
    yield ring(lane_count=2)
    yield ring(layout_bytes=4096 - 128)
    yield ring(layout_bytes=4097 - 128)
    yield ring(resource_offset=4096, resource_bytes=1)
    # The lane's words are there, its last slots are not.
    yield ring(how=FIX_CRC, capacity_slots=64, lane_stride_bytes=8192, file_bytes=12288)
    whole = ring(how=FIX_CRC, capacity_slots=64, lane_stride_bytes=8192, file_bytes=12288)
    yield whole[: 2 + 128] + bytes(4096 - 128) + whole[2 + 128 :] + bytes(3000)


def record(values: bytes = b"", **core: int) -> bytes:
    """Return a record: a sound core but for what is given, then the values."""
    ids = {"trace_id": b"\1" * 16, "span_id": b"\2" * 8}
    made = ffi.new("rb_record *", {**ids, "present": 0xFFFFFFFF, **core})
    return bytes(ffi.buffer(made)) + values


def plan(
    kind: int, size: int, records: list[bytes], *, offset: int = 0, labels: int = 0, how: int = 0, slots: int = 1
) -> bytes:
    """Return an input of fuzz_encode.c: one attribute, slots of `slots` + 1 times 64 bytes, one name."""
    texts = b"".join(b"\2l" + bytes([65 + number]) for number in range(labels))
    attribute = bytes([how + kind]) + struct.pack("<HH", offset, size) + b"\1k" + (bytes([labels]) if labels else b"")
    whole = b"".join(b"\1\0" + record.ljust(64 + 64 * slots, b"\0") for record in records)
    return bytes([slots, 0]) + b"\1n" + b"\1" + attribute + texts + whole


def plan_limits() -> Iterator[bytes]:
    """Return plans with records at the bounds of names, labels and lengths, and text that grows the most."""
    text, data, label, number = 12, 13, 10, 8
    for core in ({"name": 1}, {"kind": 5}, {"kind": 6}, {"status": 2}, {"status": 3}, {"reserved": 1}, {}):
        yield plan(number, 0, [record(bytes(8), **core)])
    for value in (0, 9, 10**8, 10**16 - 1, 2**63 - 1, 2**63, 10**19, 2**64 - 1):
        yield plan(number, 0, [record(value.to_bytes(8, "little"))])
    for index in (0, 1, 2, 255):
        yield plan(label, 0, [record(bytes([index]))], labels=2)
        yield plan(label, 1, [record(bytes([index, 0]))], labels=2)
        yield plan(label, 1, [record(bytes([0, index]))], labels=2)
    for kind in (text, data):
        for length in (0, 62, 63, 65535):
            yield plan(kind, 62, [record(length.to_bytes(2, "little") + b"x" * 62)])
        for content in (b"\1", b"\xff", b'"', b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\xe2\x82"):
            whole = (content * 62)[:62]
            yield plan(kind, 62, [record(b"\x3e\0" + whole), record(b"\5\0" + whole)])
        yield plan(kind, 900, [record(b"\x84\3" + b"\1" * 900), record(b"\x84\3" + b"\xff" * 900)], slots=15)
    # Where an attribute may end: within the slot, and one byte behind it. 234 and 238: no number is mended.
    for kind, how in ((text, 252 - 12), (number, 242 - 8)):
        for offset in (64, 65, 120, 121, 127, 128):
            yield plan(kind, 62 if kind == text else 8, [record(bytes(64))], offset=offset, how=how)


def direct_plan(attributes: list[tuple[int, int, int, int]], records: list[bytes], *, name_bytes: int = 1) -> bytes:
    """Return an input of fuzz_encode.c: slots of 128 bytes, attributes of (kind, offset, size, labels)."""
    made = b""
    for number, (kind, offset, size, labels) in enumerate(attributes):
        made += bytes([kind]) + struct.pack("<HH", offset, size) + b"\1" + bytes([97 + number])
        made += bytes([labels]) + b"".join(b"\2l" + bytes([65 + label]) for label in range(labels)) if labels else b""
    name = (b"\xff" + struct.pack("<H", name_bytes) if name_bytes >= 255 else bytes([name_bytes])) + b"n" * name_bytes
    whole = b"".join(b"\1\0" + record.ljust(128, b"\0") for record in records)
    return bytes([1, 0]) + name + bytes([len(attributes)]) + made + whole


def direct_limits() -> Iterator[bytes]:
    """Return plans and spans at the bounds of what is written straight to gzip: only one with both times is."""
    times = {"start_unix_nano": 10**18, "end_unix_nano": 10**18 + 1}
    label, number, hexadecimal = 10, 8, 11
    for index in (1, 2, 3):  # of two labels; behind the last attribute's pieces is nothing
        yield direct_plan([(label, 0, 0, 2)], [record(bytes([index]), **times)])
        yield direct_plan([(number, 8, 0, 0), (label, 0, 1, 2)], [record(bytes([index, 0]), **times)])
    for size in (1, 16, 17, 24, 25, 32, 63, 64):  # at the end of the slot, where a key's last word is
        yield direct_plan([(hexadecimal, 64 - size, size - 1, 0)], [record(bytes(range(1, 65)), **times)])
    for name_bytes in (254, 255, 258, 300, 520, 3900, 4096):  # longer than a match, than a span may be
        spans = [record(bytes([some, 0]), **times) for some in (1, 2)]
        yield direct_plan([(number, 0, 0, 0)], spans, name_bytes=name_bytes)
    for size in (25, 32):  # of which a key has the first 24 bytes alone
        alike = [record(bytes(range(1, 25)) + bytes([some] * 40), **times) for some in (1, 2)]
        yield direct_plan([(hexadecimal, 0, size - 1, 0)], alike)
    # Spans of 3,641 bytes, so that what comes again with the ninth stood one byte before the window.
    ninth = [record(bytes([some == 0, 0]), **times) for some in range(9)]
    yield direct_plan([(label, 0, 1, 2)], ninth, name_bytes=3578)
    # Without a time all is literals, and so few are written by the fixed code: the member outgrows its first room.
    yield direct_plan([(number, 0, 0, 0)], [record()] * 12, name_bytes=1500)


def messages() -> Iterator[bytes]:
    """Return inputs of fuzz_otlp.c: OTLP that a producer may have written, in protobuf's own bytes."""
    values = [
        AnyValue(string_value="x"),
        AnyValue(kvlist_value=KeyValueList(values=[KeyValue(key="b", value=AnyValue(bytes_value=b"\0\xff"))])),
        AnyValue(double_value=float("nan")),
        AnyValue(int_value=-1),
    ]
    attributes = [KeyValue(key="n", value=AnyValue(array_value=ArrayValue(values=values)))]
    event = Span.Event(time_unix_nano=5, name="e", attributes=attributes, dropped_attributes_count=1)
    link = Span.Link(trace_id=b"1" * 16, span_id=b"2" * 8, trace_state="c=d", flags=0x301, attributes=attributes)
    spans = [
        Span(name="x"),
        Span(status=Status(message="m")),
        Span(trace_state="a=b", name='\u00e9"\n', attributes=attributes, events=[event], links=[link]),
        Span(dropped_attributes_count=3, dropped_events_count=1, dropped_links_count=9, status=Status(message="bad")),
    ]
    scope = InstrumentationScope(name="n", version="v", attributes=attributes, dropped_attributes_count=2)
    for number, span in enumerate(spans):
        yield bytes([2 * number]) + span.SerializeToString()
    for scope_spans in (ScopeSpans(scope=scope, schema_url="u"), ScopeSpans(schema_url="u")):
        yield b"\1" + scope_spans.SerializeToString()


def growing_messages() -> Iterator[bytes]:
    """Return inputs of fuzz_otlp.c that fill a slot of 16 KiB with what grows the most in one form or the other."""
    repeated = 0x80
    empty = KeyValue()
    for event in (
        Span.Event(attributes=[empty], dropped_attributes_count=127),  # 49 characters for 6 bytes
        Span.Event(dropped_attributes_count=1),
        Span.Event(attributes=[empty, empty]),
        Span.Event(name="\1"),
        Span.Event(time_unix_nano=2**64 - 1),
    ):
        yield bytes([repeated]) + Span(events=[event]).SerializeToString()
    for value in (
        AnyValue(bool_value=False),
        AnyValue(int_value=-1),
        AnyValue(double_value=-1.7976931348623157e308),
        AnyValue(string_value=""),
        AnyValue(bytes_value=b"x"),
        AnyValue(array_value=ArrayValue(values=[AnyValue(bool_value=False)])),
        AnyValue(kvlist_value=KeyValueList(values=[empty])),
    ):
        yield bytes([repeated]) + Span(attributes=[KeyValue(value=value)]).SerializeToString()
    link = Span.Link(trace_id=b"1" * 16, span_id=b"2" * 8, dropped_attributes_count=127)
    yield bytes([repeated]) + Span(links=[link]).SerializeToString()
    for text in ("\1", "\n", "\u00e9", "x"):
        yield b"\0" + Span(trace_state=text * 300).SerializeToString()
        yield b"\0" + Span(name=text * 300).SerializeToString()
        yield b"\2" + Span(status=Status(message=text * 300)).SerializeToString()


FIX_CHAIN, HOLD_HOLES, LONGER = 1, 2, 4
SETTLE, COPY_AT, WORDS, BEGIN, APPEND, GO_ON, CUT_CHUNK, ASK = range(8)
HOLD_SCRIPTS = (
    bytes([SETTLE, 0, 1, SETTLE, 0, 5, SETTLE, 3, 7, SETTLE, 255, 1, WORDS, 0, 4, WORDS, 2, 9]),
    bytes([COPY_AT, 1, 0, COPY_AT, 132, 3, COPY_AT, 0, 7, ASK, 1, ASK, 200]),
    bytes([BEGIN, 1, APPEND, 3, 0, APPEND, 200, 1, SETTLE, 1, 4, GO_ON, 0, SETTLE, 2, 4, ASK, 0, GO_ON, 0]),
    bytes([BEGIN, 1, *([APPEND, 64, 3] * 6), APPEND, 64, 0, GO_ON, 0]),
    bytes([CUT_CHUNK, 128, SETTLE, 0, 1, CUT_CHUNK, 0, SETTLE, 1, 1, WORDS, 0, 1, BEGIN, 2, APPEND, 1, 0, ASK, 1]),
)
CHUNK_BYTES = 65536


def real_chunks(folder: Path) -> Iterator[bytes]:
    """Return inputs of fuzz_hold.c: chunks with looks of several rings, settled in part, some of them moved."""
    hold = Hold(folder, 4 * CHUNK_BYTES, chunk_bytes=CHUNK_BYTES, log=structlog.get_logger())
    places = []
    for number, layout in enumerate([*layouts()] * 2):
        origin = hold.origin(layout.to_json(), b"{}", 0)
        records = layout.empty(2 + number)
        first = hold.append(origin, RingKey(5 + number, 1), number, 0, len(records) + 1, records, invalid=1)
        places.append(np.arange(first, first + len(records), dtype=np.uint64))
    hold.settle(np.concatenate(places)[::3], Fate.DELIVERED)
    hold.close()
    for path in sorted(folder.glob("chunk-*")):
        whole = path.read_bytes()
        slots = sum(map(len, places))
        words = [whole[len(whole) - 4 * (slot + 1) :][:4] for slot in range(slots)]
        body = whole[: len(whole) - 4 * slots].rstrip(b"\0")
        for script in HOLD_SCRIPTS:
            yield bytes([0, len(script), slots]) + script + b"".join(words) + body


def segment(**fields: int) -> bytes:
    """Return a segment of two records of 64 bytes, but for what is given; its checksum is for FIX_CHAIN."""
    given = {"number": 9, "bytes": 256, "count": 2, "slot_bytes": 64, "upto": 2, "is_of_ring": 1, **fields}
    return bytes(ffi.buffer(ffi.new("rb_segment *", given)))


def chunk(
    *segments: bytes, script: bytes = b"", how: int = FIX_CHAIN, words: tuple[int, ...] = (), **head: int
) -> bytes:
    """Return an input of fuzz_hold.c."""
    made = ffi.new(
        "rb_chunk_head *", {"magic": b"rb-hold", "version": 1, "file_bytes": CHUNK_BYTES, "number": 9, **head}
    )
    numbers = b"".join(word.to_bytes(4, "little") for word in words)
    return bytes([how, len(script), len(words)]) + script + numbers + bytes(ffi.buffer(made)) + b"".join(segments)


def chunk_limits() -> Iterator[bytes]:
    """Return chunks of which one thing is wrong, and such as are just full."""
    records = b"\1" * 128
    good = segment() + records
    most = (CHUNK_BYTES - 128 - 128) // (64 + 4)
    for count in (most - 1, most, most + 1, CHUNK_BYTES, 2**32 - 1):
        yield chunk(segment(count=count, bytes=(128 + 64 * count) % 2**32), script=HOLD_SCRIPTS[1])
    for slot_bytes in (0, 32, 96, 16384, 16448, 2**32 - 64):
        yield chunk(segment(count=1, slot_bytes=slot_bytes, bytes=(128 + slot_bytes) % 2**32))
    for fields in ({"bytes": 192}, {"bytes": 320}, {"first_slot": 1}, {"lane": 64}, {"lane": 63}, {"count": 0}):
        yield chunk(good, segment(**{"first_slot": 2, **fields}) + records, segment(first_slot=4) + records)
    for first_slot in (4, 5, 5000, 16000):  # behind one that is unsound
        yield chunk(good, segment(first_slot=2, lane=64) + records, segment(first_slot=first_slot) + records)
    yield chunk(good, segment(first_slot=2, number=8) + records, how=0)
    for moved in (1, 9):
        sources = struct.pack("<II", 0, 2**32 - 1).ljust(64, b"\0")
        yield chunk(
            good, segment(first_slot=2, moved_from=moved, bytes=320) + sources + records, words=(7, 9, 0, 2**32 - 1)
        )
    # One that moved from somewhere begins where the words of the others are.
    full = segment(count=most - 2, bytes=128 + 64 * (most - 2)) + bytes(64 * (most - 2))
    yield chunk(full, segment(count=1, first_slot=most - 2, moved_from=1, bytes=256))
    yield chunk(full, segment(count=1, first_slot=most - 2, bytes=192), script=HOLD_SCRIPTS[0])
    for head in ({"version": 0}, {"version": 2}, {"number": 0}, {"file_bytes": 2**32 - 1}, {"magic": 0}):
        given = {key: b"" if key == "magic" else value for key, value in head.items()}
        yield chunk(good, **given)  # type: ignore[arg-type]  # a magic is bytes
    yield chunk(good, how=FIX_CHAIN | LONGER)
    yield chunk(good, how=FIX_CHAIN | HOLD_HOLES)
    for script in HOLD_SCRIPTS:
        yield chunk(good, segment(first_slot=2) + records, script=script, words=(1, 0, 8, 9))


def main() -> None:
    """Write one file for each input, by target."""
    to = Path(sys.argv[1])
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for name, inputs in {
            "ring/real": real_rings(Path(folder)),
            "ring/limit": ring_limits(),
            "encode/limit": plan_limits(),
            "encode/direct": direct_limits(),
            "otlp/real": messages(),
            "otlp/limit": growing_messages(),
            "hold/real": real_chunks(Path(folder) / "hold"),
            "hold/limit": chunk_limits(),
        }.items():
            for number, content in enumerate(inputs):
                path = to / f"{name}-{number:03}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)


if __name__ == "__main__":
    main()
