"""Records straight to gzip against the encoder: what a member decompresses to is the encoder's bodies, byte by byte."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import zlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from isal import isal_zlib

from drain.otlp.direct_gzip import DirectGzip
from drain.otlp.encoder import Encoder
from ringbuf._ringbuf import lib
from ringbuf.exceptions import LayoutError
from ringbuf.layout.layout import Attribute, SpanLayout
from tests.property.strategies import ALL_TYPES, any_records_for, layouts, records_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Records = np.ndarray[Any, np.dtype[np.void]]

WINDOW: Final = 32768
GZIP: Final = 31  # zlib's name for a window of 2^15 bytes, gzip's header and trailer
TEXT: Final = ("str", "bytes", "otlp", "scope")
DIRECT: Final = tuple(kind for kind in ALL_TYPES if kind not in TEXT)
pytestmark = pytest.mark.skipif(not DirectGzip.is_supported(), reason="this processor has no carry-less products")
thresholds = st.sampled_from([0, 1, 1 + (1 << 55)])

LAYOUT: Final = SpanLayout(
    span_names=["read", "w" * 300, "x"],
    attributes=[
        Attribute("lease", "hex", 16),
        Attribute("where", "label", labels=("memory", "block", "x" * 600)),
        Attribute("hit", "bool"),
        Attribute("bytes", "u64"),
        Attribute("delta", "i32"),
        Attribute("share", "f64"),
        Attribute("digest", "hex", 24),
        Attribute("port", "u16"),
    ],
    schema_url="https://example.org/schema",
    resource_schema_url="https://example.org/resource",
)


def expected(segments: list[tuple[Encoder, Records]]) -> bytes:
    return b"".join(encoder.encode(records).body for encoder, records in segments)


def check(writer: DirectGzip, segments: list[tuple[Encoder, Records]]) -> int:
    """Write a member and check it; return its size."""
    for encoder, records in segments:
        _body, spans, invalid = encoder.encode(records)
        assert writer.add(encoder, records) == (spans, invalid)
    member = writer.finish()
    body = expected(segments)
    decompressor = zlib.decompressobj(GZIP)
    assert decompressor.decompress(member.data) == body
    assert decompressor.eof  # the checksum and the size are right
    assert not decompressor.unused_data  # one member: receivers ignore or refuse a second
    assert isal_zlib.decompress(member.data, GZIP) == body
    assert member.plain_bytes == len(body)
    assert member.spans == sum(encoder.encode(records).spans for encoder, records in segments)
    return len(member.data)


def repeated(records: Records, count: int) -> Records:
    """Return so many records, made of some; numpy's own functions would move the fields together."""
    raw = bytearray(records.tobytes())
    return np.frombuffer((raw * (count // max(1, len(records)) + 1))[: count * records.dtype.itemsize], records.dtype)


def many(count: int, seed: int, *, values: int = 4, irregular: float = 0.02) -> Records:
    """Return records of LAYOUT: few values, ids that come again, and some records that are odd or invalid."""
    random = np.random.default_rng(seed)
    made = LAYOUT.empty(count)
    ids = random.integers(1, 256, (max(1, count // 3), 8))
    made["trace_id"] = np.repeat(random.integers(1, 256, (count // 4 + 1, 16)), 4, axis=0)[:count]
    made["span_id"] = random.integers(1, 256, (count, 8))
    made["parent_span_id"] = ids[random.integers(0, len(ids), count)] * random.integers(0, 2, (count, 1))
    made["start_unix_nano"] = 1_764_000_000_000_000_000 + np.cumsum(
        random.integers(1, 10 ** random.integers(2, 10), count)
    )
    made["end_unix_nano"] = made["start_unix_nano"] + random.integers(0, 10 ** random.integers(1, 12), count).astype(
        "u8"
    )
    made["name"] = random.integers(0, 3, count) * (random.integers(0, 20, count) == 0)
    made["kind"] = random.integers(0, 6, count)
    made["status"] = random.integers(0, 3, count)
    made["flags"] = random.choice([0, 0x101, 0x103, 2**32 - 1], count)
    children = lib.RB_PRESENT_ROOT_THRESHOLD * random.integers(0, 2, count)
    made["present"] = random.integers(0, 256, count) | 0b11 | children
    for name in ("lease", "digest"):
        size = LAYOUT.dtype[name].shape[0]
        made[name] = random.integers(0, 256, (values, size))[random.integers(0, values, count)]
    made["where"], made["hit"] = random.integers(0, 3, count), random.integers(0, 2, count)
    made["bytes"] = random.choice(np.array([0, 1, 127, 128, 2**63 - 1, 2**63, 10**19, 2**64 - 1], "u8"), count)
    made["delta"] = random.integers(-300, 300, count)
    made["share"] = random.choice([0.0, -0.5, 1e300], count)
    made["port"] = random.integers(0, values, count)
    odd = random.random(count) < irregular
    made["start_unix_nano"][odd & (random.random(count) < 0.5)] = 0
    made["end_unix_nano"][odd & (random.random(count) < 0.5)] = 0
    made["span_id"][odd & (random.random(count) < 0.3)] = 0
    made["name"][odd & (random.random(count) < 0.3)] = 3
    made["where"][odd & (random.random(count) < 0.3)] = 3
    return made


def plain(layout: SpanLayout, count: int) -> Records:
    """Return spans of which nothing is odd."""
    made = layout.empty(count)
    made["trace_id"], made["span_id"], made["kind"], made["flags"] = 1, 2, 1, 0x101
    made["present"] = 2 ** len(layout.fields) - 1
    made["start_unix_nano"] = 1_764_000_000_000_000_000 + np.arange(count)
    made["end_unix_nano"] = made["start_unix_nano"] + 1000
    return made


members = layouts(types=DIRECT, max_size=24).flatmap(
    lambda layout: st.tuples(
        st.just(layout),
        st.lists(records_for(layout, max_size=12) | any_records_for(layout, max_size=12), min_size=1, max_size=4),
        st.integers(1, 90),
        thresholds,
    )
)


@given(members, st.dictionaries(st.text(max_size=4), st.integers(0, 9) | st.booleans(), max_size=3))
def test_a_member_is_what_the_encoder_makes_of_any_layout_and_records(
    drawn: tuple[SpanLayout, list[Records], int, int], resource: dict[str, Any]
) -> None:
    layout, parts, times, threshold = drawn
    encoders = [Encoder(layout, resource | {"ring": index}, threshold) for index in range(len(parts))]
    # Records that come again are met again, and enough of them make a code of their own.
    segments = [(encoder, repeated(part, times)) for encoder, part in zip(encoders, parts, strict=True)]
    writer = DirectGzip()
    check(writer, segments)
    check(writer, segments[::-1])  # what was before the member is forgotten


@pytest.mark.parametrize("values", [1, 4, 1000])
@pytest.mark.parametrize("count", [1, 47, 48, 600, 5000])
def test_many_records_of_several_layouts_make_one_member(values: int, count: int) -> None:
    writer = DirectGzip()
    other = SpanLayout(span_names=["other"], attributes=[Attribute("on", "bool")])
    first, second = Encoder(LAYOUT, {"service.name": "one"}), Encoder(LAYOUT, {"service.name": "two"}, 1 + (1 << 55))
    third = Encoder(other, {})
    for seed in range(3):
        records = many(count, seed, values=values)
        few = other.empty(count)
        few["trace_id"], few["span_id"], few["start_unix_nano"], few["present"] = 1, 2, 3, 1
        few["end_unix_nano"] = np.arange(count)  # the first one is zero
        parts = [records[: count // 2], records[count // 2 :]]
        check(writer, [(first, parts[0]), (third, few), (second, parts[1]), (first, records)])


def test_what_stands_just_inside_and_just_outside_of_the_window_is_told_apart() -> None:
    # Between two spans alike lie others, all of one length that does not divide the window: each distance comes.
    writer = DirectGzip()
    layout = SpanLayout(span_names=["a", "b" * 61], attributes=[Attribute("id", "hex", 8), Attribute("n", "u32")])
    encoder = Encoder(layout, {})
    for between in range(180, 290, 3):
        records = layout.empty(600)
        records["trace_id"] = np.random.default_rng(between).integers(1, 256, (600, 16))
        records["span_id"] = records["trace_id"][:, :8]
        records["start_unix_nano"] = records["end_unix_nano"] = 10**18
        records["present"], records["n"] = 3, np.arange(600) % between
        records["id"] = (np.arange(600) % between).astype("u8").view("u1").reshape(600, 8)
        records["name"] = np.arange(600) % between == 0
        check(writer, [(encoder, records)])


def test_a_ring_without_a_sound_record_leaves_no_trace() -> None:
    writer, encoder = DirectGzip(), Encoder(LAYOUT, {"service.name": "one"})
    nothing = LAYOUT.empty(60)
    check(writer, [(encoder, nothing)])
    check(writer, [(encoder, many(9, 1)), (encoder, nothing), (encoder, many(99, 2)), (encoder, nothing[:0])])


def test_a_resource_that_fills_a_stored_block() -> None:
    writer, small = DirectGzip(), Encoder(LAYOUT, {})
    for size in (16_384, 64_900):
        large = Encoder(LAYOUT, {"text": "x" * size})
        check(writer, [(small, many(50, size)), (large, many(3, size)), (small, many(50, size))])


def test_a_resource_of_more_than_a_stored_block_is_refused_and_the_member_goes_on() -> None:
    writer, small, large = DirectGzip(), Encoder(LAYOUT, {}), Encoder(LAYOUT, {"text": "x" * 65_536})
    records = many(70, 1)
    writer.add(small, records)
    with pytest.raises(LayoutError, match="resource and scope take more than"):
        writer.add(large, records)
    assert zlib.decompress(writer.finish().data, GZIP) == small.encode(records).body


def test_lengths_of_lengths_that_are_not_as_expected() -> None:
    # The head's length is guessed from the spans before: here they become longer and shorter by far.
    writer, encoder = DirectGzip(), Encoder(LAYOUT, {"service.name": "one"})
    short, long = many(60, 1)[:1], many(60, 2)
    short["present"] = short["name"] = 0
    long["name"], long["present"] = 1, 255
    segments = [(encoder, repeated(records, count)) for count in (1, 60, 130) for records in (short, long, short)]
    check(writer, segments)


def test_matches_of_any_length() -> None:
    labels = tuple("x" * length for length in range(200, 560))
    layout = SpanLayout(span_names=["a"], attributes=[Attribute("text", "label", labels=labels)])
    records = repeated(plain(layout, len(labels)), 3 * len(labels))
    records["text"] = np.repeat(np.arange(len(labels)), 3)
    check(DirectGzip(), [(Encoder(layout, {}), records)])


def test_what_stood_before_at_the_edge_of_the_window() -> None:
    # One byte more between the two that are alike in each round, from where it is near to where it is too far.
    names = tuple("n" * length for length in range(1, 180))
    layout = SpanLayout(span_names=names, attributes=[Attribute("size", "u64"), Attribute("key", "hex", 16)])
    writer, encoder = DirectGzip(), Encoder(layout, {})
    few = plain(layout, 2)
    few["size"] = 7
    while len(encoder.encode(few).body) < WINDOW - 500:
        few = repeated(few, len(few) + 1)
    between = few[1:-1]
    between["size"] = 1000 + np.arange(len(between)) % 3
    between["key"] = np.random.default_rng(3).integers(0, 256, between["key"].shape)
    for more in range(700):
        between["name"] = 0
        between["name"][:4] = (more // 4, (more + 1) // 4, (more + 2) // 4, (more + 3) // 4)
        check(writer, [(encoder, few)])


def test_the_size_is_that_of_isal_where_the_values_are_few() -> None:
    random = np.random.default_rng(5)
    records = plain(LAYOUT, 4096)
    records["trace_id"] = np.repeat(random.integers(1, 256, (1024, 16)), 4, axis=0)
    records["span_id"] = random.integers(1, 256, (4096, 8))
    records["start_unix_nano"] += np.cumsum(random.integers(1000, 100_000, 4096)).astype("u8")
    records["end_unix_nano"] = records["start_unix_nano"] + random.integers(100, 100_000, 4096).astype("u8")
    records["present"] = 0b1001
    records["lease"] = random.integers(0, 256, (4, 16))[random.integers(0, 4, 4096)]
    records["bytes"] = 2 ** random.integers(0, 20, 4096)
    encoder = Encoder(LAYOUT, {"service.name": "one"})
    size = check(DirectGzip(), [(encoder, records)])
    assert size <= 1.05 * len(isal_zlib.compress(encoder.encode(records).body, 1, GZIP))


@pytest.mark.parametrize("kind", [*TEXT, "hex"])
def test_layouts_of_which_parts_may_be_alike_unseen_are_refused(kind: Any) -> None:
    layout = SpanLayout(span_names=["a"], attributes=[Attribute("on", "bool"), Attribute("text", kind, 25)])
    with pytest.raises(LayoutError, match="attribute 1 is text, OTLP, or a hex of more than 24 bytes"):
        DirectGzip().add(Encoder(layout, {}), layout.empty(1))


def test_spans_that_may_be_too_large_are_refused() -> None:
    layout = SpanLayout(span_names=["a" * 9000], attributes=[])
    with pytest.raises(LayoutError, match="more than 4096"):
        DirectGzip().add(Encoder(layout, {}), layout.empty(1))


def test_layouts_that_would_take_each_writer_megabytes_are_refused() -> None:
    labels = [f"{number:04}" for number in range(4096)]
    layout = SpanLayout(span_names=["a"], attributes=[Attribute("one", "label", labels=labels[:4095])])
    assert DirectGzip().refusal(Encoder(layout, {})) is None
    layout = SpanLayout(
        span_names=["a"], attributes=[Attribute("one", "label", labels=labels), Attribute("on", "bool")]
    )
    assert DirectGzip().refusal(Encoder(layout, {})) == "labels and lengths are 4098 pieces, more than 4096"


def test_records_of_another_layout_are_refused() -> None:
    with pytest.raises(ValueError, match="dtype"):
        DirectGzip().add(Encoder(LAYOUT, {}), np.zeros(3, "u8"))


# Readers of one member that say whether something follows it, beside zlib and ISA-L above.
GO: Final = """package main
import ("bytes"; "compress/gzip"; "io"; "os")
func main() { data, _ := io.ReadAll(os.Stdin); in := bytes.NewReader(data)
 r, e := gzip.NewReader(in); if e != nil { panic(e) }
 r.Multistream(false)
 if _, e = io.Copy(os.Stdout, r); e != nil { panic(e) }
 if in.Len() != 0 { panic("more than one member") } }
"""
JAVA: Final = """import java.util.zip.GZIPInputStream;
public class Gunzip { public static void main(String[] a) throws Exception {
 new GZIPInputStream(System.in).transferTo(System.out); System.out.flush(); } }
"""
NODE: Final = "process.stdout.write(require('zlib').gunzipSync(require('fs').readFileSync(0)))"


def read_back(command: list[str]) -> None:
    writer, encoder = DirectGzip(), Encoder(LAYOUT, {"service.name": "one"})
    segments = [(encoder, many(count, count)) for count in (5, 900, 60)]
    for each, records in segments:
        writer.add(each, records)
    data = writer.finish().data
    done = subprocess.run(command, input=data, capture_output=True, check=True, timeout=300)
    assert done.stdout == expected(segments) == gzip.decompress(data)


def test_gzip_reads_it(debian_program: Callable[[str], str]) -> None:
    read_back([debian_program("gzip"), "-dc"])


@pytest.mark.prove
def test_go_reads_it(debian_program: Callable[[str], str], tmp_path: Path) -> None:
    # What collectors are written in. GCC's Go has the same package; Debian's golang takes 450 MB.
    source, program = tmp_path / "main.go", tmp_path / "gunzip"
    source.write_text(GO)
    subprocess.run([debian_program("gccgo"), "-O1", source, "-o", program], check=True, timeout=300)
    read_back([str(program)])


@pytest.mark.prove
@pytest.mark.parametrize("reader", ["java", "node"])
def test_other_readers_read_it(reader: str, tmp_path: Path) -> None:
    if shutil.which(reader) is None:
        pytest.skip(f"{reader} is not installed, and make deps leaves it out: it is large, and reads by zlib")
    (tmp_path / "Gunzip.java").write_text(JAVA)
    read_back({"java": ["java", str(tmp_path / "Gunzip.java")], "node": ["node", "-e", NODE]}[reader])
