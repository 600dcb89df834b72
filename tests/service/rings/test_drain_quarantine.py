"""Whatever a ring file holds, the drain says what is wrong, sets the file aside, and goes on with the others."""

from __future__ import annotations

import json
import os
import struct
import zlib
from typing import TYPE_CHECKING, Any

import pytest

import ringbuf
from drain.accounting.sums import Sums
from ringbuf._ringbuf import ffi, lib
from tests.service.c_producer import CProducer
from tests.service.draining import LAYOUT, MemoryBackend, SteppedDrain, emit, quarantined, ring_files, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HEADER = {name: field.offset for name, field in ffi.typeof("rb_header").fields}
CAPACITY = 64


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def drain(ring_dir: Path, backend: MemoryBackend) -> Iterator[SteppedDrain]:
    with SteppedDrain(ring_dir, backend) as drain:
        yield drain


@pytest.fixture
def sound(ring_dir: Path) -> Iterator[ringbuf.Emitter]:
    """Return a sound producer of the service "sound", which must not notice anything."""
    with ringbuf.Emitter("sound", ring_dir=ring_dir, layout=LAYOUT, capacity=CAPACITY, lanes=1) as emitter:
        yield emitter


def bad_ring(ring_dir: Path, damage: Callable[[bytearray], None] = lambda _data: None, **made_with: Any) -> Path:
    """Return a ring of the service "shop" with five spans, whose producer is gone, after `damage` to its bytes."""
    before = set(ring_files(ring_dir))
    with CProducer(ring_dir, capacity=CAPACITY, **made_with) as producer:
        assert producer.emit(range(5)) == 5
    (path,) = set(ring_files(ring_dir)) - before
    data = bytearray(path.read_bytes())
    damage(data)
    path.write_bytes(data)
    return path


def put(name: str, form: str, value: int, *, with_crc: bool = True) -> Callable[[bytearray], None]:
    """Return a damage that writes a header field; the checksum fits afterwards if it is asked for."""

    def damage(data: bytearray) -> None:
        struct.pack_into(form, data, HEADER[name], value)
        if with_crc:
            (size,) = struct.unpack_from("<I", data, HEADER["header_bytes"])
            struct.pack_into("<I", data, HEADER["crc32"], 0)
            struct.pack_into("<I", data, HEADER["crc32"], zlib.crc32(data[:size]))

    return damage


def lane_word(offset: int, value: int) -> Callable[[bytearray], None]:
    def damage(data: bytearray) -> None:
        (header_bytes,) = struct.unpack_from("<I", data, HEADER["header_bytes"])
        struct.pack_into("<Q", data, header_bytes + offset, value)

    return damage


def cut(size: int) -> Callable[[bytearray], None]:
    def damage(data: bytearray) -> None:
        del data[size:]

    return damage


DAMAGES: dict[str, tuple[Callable[[bytearray], None], str]] = {
    "an empty file": (cut(0), "ends after 0 bytes"),
    "half a header": (cut(100), "ends after 100 bytes"),
    "a file that ends early": (cut(8192), "the file has 8192"),
    "another magic": (put("magic", "<B", 0), "magic"),
    "a version that never was": (put("abi_major", "<H", 0), "version 0"),
    "an unknown flag": (put("flags", "<I", 1), "flags 0x1"),
    "slots of no size": (put("slot_bytes", "<I", 0), "slot_bytes is 0"),
    "no lane": (put("lane_count", "<I", 0), "lane_count is 0"),
    "a capacity that is no power of two": (put("capacity_slots", "<I", 65), "capacity_slots is 65"),
    "a stride that is too short": (put("lane_stride_bytes", "<Q", 4096), "lane_stride_bytes is 4096"),
    "sizes that disagree": (put("file_bytes", "<Q", 1 << 20), "header and lanes have"),
    "a wrong checksum": (put("pid", "<I", 1, with_crc=False), "CRC-32"),
    "a layout outside the header": (put("layout_offset", "<I", 1 << 20), "lies outside the header"),
    "a resource outside the header": (put("resource_bytes", "<I", 1 << 20), "lies outside the header"),
    "a tail too far ahead": (lane_word(0, CAPACITY + 1), "tail 65"),
    "a head ahead of the tail": (lane_word(256, 6), "head 6"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_each_kind_of_damage_has_its_reason_and_the_others_go_on(
    name: str, ring_dir: Path, sound: ringbuf.Emitter, backend: MemoryBackend, drain: SteppedDrain
) -> None:
    damage, reason = DAMAGES[name]
    path = bad_ring(ring_dir, damage)
    emit(sound, range(100, 105))
    drain.until(lambda: sound.stats().pending == 0)
    assert backend.numbers == list(range(100, 105))
    assert quarantined(ring_dir).keys() == {path.name}
    assert reason in quarantined(ring_dir)[path.name]["reason"]
    assert not path.exists()
    assert len(list((ring_dir / "quarantine").glob("*.ring"))) == 1


def test_a_sparse_file_is_set_aside_and_not_filled(ring_dir: Path, drain: SteppedDrain) -> None:
    path = bad_ring(ring_dir)
    size = path.stat().st_size
    data = path.read_bytes()[:4096]
    path.unlink()
    path.write_bytes(data)
    os.truncate(path, size)
    drain.step()
    assert "are allocated" in quarantined(ring_dir)[path.name]["reason"]
    (kept,) = (ring_dir / "quarantine").glob("*.ring")
    assert kept.stat().st_blocks * 512 < size


DEEP = b'{"a":' * 50_000
LAYOUT_OBJECT = json.loads(LAYOUT.to_json())


def changed(**values: object) -> bytes:
    return json.dumps(LAYOUT_OBJECT | values).encode()


HOSTILE_LAYOUTS = {
    "nothing": b"",
    "no JSON": b"{",
    "no UTF-8": b'{"span_names":["\xff"]}',
    "a list": b"[]",
    "null": b"null",
    "a number that is too long": b"1" * 10_000,
    "NaN": b"NaN",
    "nested too deeply": DEEP,
    "an empty object": b"{}",
    "names that are no list": changed(span_names=7),
    "no names": changed(span_names=[]),
    "a name that is no text": changed(span_names=[None]),
    "a lone surrogate": changed(span_names=["\ud800"]),
    "attributes that are no list": changed(attributes="x"),
    "an attribute that is no object": changed(attributes=[7]),
    "an attribute of an unknown type": changed(attributes=[{"key": "a", "type": "f16", "offset": 64, "size": 2}]),
    "slots of another size": changed(slot_bytes=192),
    "slots of a negative size": changed(slot_bytes=-64),
    "slots of a size that is no number": changed(slot_bytes="128"),
}


@pytest.mark.parametrize("name", HOSTILE_LAYOUTS)
def test_a_layout_that_cannot_be_read_is_the_reason(
    name: str, ring_dir: Path, sound: ringbuf.Emitter, backend: MemoryBackend, drain: SteppedDrain
) -> None:
    path = bad_ring(ring_dir, layout=HOSTILE_LAYOUTS[name])
    emit(sound, range(100, 105))
    drain.until(lambda: sound.stats().pending == 0)
    assert backend.numbers == list(range(100, 105))
    assert quarantined(ring_dir)[path.name]["reason"].startswith("layout: ")


def test_an_attribute_outside_the_slot_is_the_reason(ring_dir: Path, drain: SteppedDrain) -> None:
    for offset in (124, 128, 1 << 40, -8, 56, 65):
        attribute = LAYOUT_OBJECT["attributes"][0] | {"offset": offset}
        path = bad_ring(ring_dir, layout=changed(attributes=[attribute]))
        drain.step()
        assert quarantined(ring_dir)[path.name]["reason"].startswith("layout: "), offset


@pytest.mark.parametrize(
    "resource", [b"", b"[]", b'{"a":1,"a":2}', b'{"a":NaN}', b'{"a":' + b"[" * 50_000, b'{"a":1e999}']
)
def test_a_resource_that_cannot_be_read_is_the_reason(resource: bytes, ring_dir: Path, drain: SteppedDrain) -> None:
    path = bad_ring(ring_dir, resource=resource)
    drain.step()
    assert quarantined(ring_dir)[path.name]["reason"].startswith("resource: ")


def test_a_position_that_jumps_while_the_ring_is_read_sets_it_aside(
    ring_dir: Path, sound: ringbuf.Emitter, backend: MemoryBackend, drain: SteppedDrain
) -> None:
    with CProducer(ring_dir, capacity=CAPACITY) as producer:
        producer.emit(range(5))
        (path,) = [path for path in ring_files(ring_dir) if path.name.startswith("shop")]
        drain.until(lambda: len(backend.numbers) == 5)
        drain.until(lambda: drain.sums().pending == 0)
        with path.open("r+b") as file:
            header_bytes = struct.unpack_from("<I", file.read(16), HEADER["header_bytes"])[0]
            file.seek(header_bytes)
            file.write(struct.pack("<Q", 10_000))
        drain.until(lambda: quarantined(ring_dir))
    emit(sound, range(100, 105))
    drain.until(lambda: sound.stats().pending == 0)
    assert quarantined(ring_dir)[path.name]["status"] == lib.RB_E_POSITION
    assert "lane 0: tail 10000, released 5, read 5" in quarantined(ring_dir)[path.name]["reason"]
    assert drain.sums() == Sums(rings=1, published=5, delivered=5)


def test_a_file_that_is_truncated_while_it_is_read_is_set_aside(
    ring_dir: Path, sound: ringbuf.Emitter, backend: MemoryBackend, drain: SteppedDrain
) -> None:
    path = bad_ring(ring_dir)
    drain.service._reader.scan()
    os.truncate(path, 4096)
    drain.until(lambda: quarantined(ring_dir))
    emit(sound, range(100, 105))
    drain.until(lambda: sound.stats().pending == 0)
    assert backend.numbers == list(range(100, 105))
    assert quarantined(ring_dir)[path.name]["status"] == lib.RB_E_TRUNCATED
    assert drain.sums() == Sums(rings=1, published=5, quarantined=5)


def test_what_was_on_its_way_when_a_ring_is_set_aside_is_delivered_and_the_rest_is_quarantined(
    ring_dir: Path, backend: MemoryBackend, drain: SteppedDrain
) -> None:
    backend.holds = lambda _request: True
    with CProducer(ring_dir, capacity=CAPACITY) as producer:
        producer.emit(range(5))
        drain.until(lambda: backend.waiting)
        (path,) = ring_files(ring_dir)
        producer.emit(range(5, 12))
        drain.service._reader.rings[0].poll()
        with path.open("r+b") as file:
            header_bytes = struct.unpack_from("<I", file.read(16), HEADER["header_bytes"])[0]
            file.seek(header_bytes)
            file.write(struct.pack("<Q", 10_000))
        drain.until(lambda: quarantined(ring_dir))
        assert drain.sums() == Sums(rings=1, published=12, quarantined=12)
        backend.let_go()
        drain.until(lambda: not drain.service._reader.rings)
    assert backend.numbers == list(range(5))
    assert drain.sums() == Sums(rings=1, published=12, delivered=5, quarantined=7)


def test_spans_released_before_a_file_is_cut_stay_delivered(
    ring_dir: Path, backend: MemoryBackend, drain: SteppedDrain
) -> None:
    path = bad_ring(ring_dir)
    service = drain.service
    service._reader.scan()
    (ring,) = service._reader.rings
    service._copier.serve(ring)  # finds it closed
    service._copier.serve(ring)
    until(lambda: backend.numbers, service._send_due)
    until(service._settle)
    assert ring.pending == 0  # released, and not polled since
    os.truncate(path, 4096)
    drain.until(lambda: quarantined(ring_dir))
    assert drain.sums() == Sums(rings=1, published=5, delivered=5)


def test_a_file_that_is_cut_before_the_release_loses_no_span(
    ring_dir: Path, backend: MemoryBackend, drain: SteppedDrain
) -> None:
    backend.holds = lambda _request: True
    path = bad_ring(ring_dir)
    drain.until(lambda: backend.waiting)
    backend.let_go()
    os.truncate(path, 4096)
    until(drain.service._settle)  # the release is what finds it
    assert quarantined(ring_dir)[path.name]["status"] == lib.RB_E_TRUNCATED
    assert drain.sums() == Sums(rings=1, published=5, delivered=5)


def test_the_producer_of_a_ring_that_was_set_aside_makes_another(
    ring_dir: Path, backend: MemoryBackend, drain: SteppedDrain
) -> None:
    with ringbuf.Emitter("shop", ring_dir=ring_dir, layout=LAYOUT, capacity=CAPACITY, lanes=1) as emitter:
        emit(emitter, range(5))
        drain.until(lambda: emitter.stats().pending == 0)
        (path,) = ring_files(ring_dir)
        with path.open("r+b") as file:
            header_bytes = struct.unpack_from("<I", file.read(16), HEADER["header_bytes"])[0]
            file.seek(header_bytes)
            file.write(struct.pack("<Q", 10_000))
        drain.until(lambda: quarantined(ring_dir))
        emit(emitter, [99])  # into the old ring, and learns of its end
        emit(emitter, range(5, 10))
        drain.until(lambda: len(backend.numbers) >= 10)
        assert len(ring_files(ring_dir)) == 1
        assert ring_files(ring_dir)[0] != path
    assert set(range(10)) <= set(backend.numbers)


def test_a_ring_that_cannot_be_moved_is_left_alone_and_said_once(
    ring_dir: Path, monkeypatch: pytest.MonkeyPatch, drain: SteppedDrain, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bad_ring(ring_dir, cut(100))

    def refuse(*_arguments: object, **_keywords: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("drain.rings.quarantine.os.rename", refuse)
    for _ in range(10):
        drain.step()
    assert path.exists()
    assert capsys.readouterr().out.count("ring cannot be moved to quarantine") == 1
