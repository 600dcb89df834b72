"""A span's partition is what the Collector, librdkafka and Java choose for the same key."""

from __future__ import annotations

import ctypes
import random
import secrets
from typing import Literal

import numpy as np
import pytest

from drain.exporters.kafka.partition import FUNCTIONS, KafkaPartitioner, key_partition, trace_partitions
from ringbuf._ringbuf import lib
from tests.seeds import drawn_seed
from tests.service.draining import LAYOUT

MANY = 1 << 30  # with so many, a partition tells nearly all of the hash


@pytest.mark.parametrize(
    ("key", "murmur2"),
    [  # of Kafka's own UtilsTest
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_that_of_java(key: bytes, murmur2: int) -> None:
    assert key_partition(key, MANY, "murmur2") == (murmur2 & 0x7FFFFFFF) % MANY
    assert key_partition(key, 12, "murmur2") == (murmur2 & 0x7FFFFFFF) % 12


@pytest.mark.parametrize(
    ("key", "fnv1a"),
    [(b"", 0x811C9DC5), (b"a", 0xE40C292C), (b"b", 0xE70C2DE5), (b"foobar", 0xBF9CF968)],  # of draft-eastlake-fnv
)
def test_fnv1a_is_signed_and_its_remainder_is_not(key: bytes, fnv1a: int) -> None:
    signed = fnv1a - (1 << 32 if fnv1a >> 31 else 0)
    for partitions in (1, 2, 3, 7, 12, 50, 65536):
        # Go's remainder has the sign of the number: math.fmod's, and not Python's.
        remainder = -(-signed % partitions) if signed < 0 else signed % partitions
        assert key_partition(key, partitions) == abs(remainder)


def test_the_key_is_the_trace_id_as_hex_digits() -> None:
    records = np.zeros(100, LAYOUT.dtype)
    for function in FUNCTIONS:
        records["trace_id"] = np.frombuffer(secrets.token_bytes(1600), np.uint8).reshape(100, 16)
        wanted = [key_partition(bytes(record["trace_id"]).hex().encode(), 17, function) for record in records]
        assert trace_partitions(records, 17, function).tolist() == wanted
        assert len(set(wanted)) > 10
        assert trace_partitions(records[::3], 17, function).tolist() == wanted[::3]
    assert trace_partitions(records[:0], 17).tolist() == []


def test_the_golden_values_of_one_trace() -> None:
    records = np.zeros(1, LAYOUT.dtype)
    records["trace_id"] = np.frombuffer(bytes.fromhex("0af7651916cd43dd8448eb211c80319c"), np.uint8)
    assert [trace_partitions(records, n)[0] for n in (3, 12, 64)] == [1, 7, 59]
    assert [trace_partitions(records, n, "murmur2")[0] for n in (3, 12, 64)] == [1, 7, 47]


@pytest.mark.parametrize("partitions", [0, (1 << 16) + 1])
def test_a_number_of_partitions_that_cannot_be_is_refused(partitions: int) -> None:
    with pytest.raises(ValueError, match="partitions"):
        trace_partitions(np.zeros(1, LAYOUT.dtype), partitions)


def test_a_record_that_is_too_short_is_refused() -> None:
    assert lib.rb_trace_partitions(0, b"", 0, 8, 3, [0]) == lib.RB_E_ARGUMENT


@pytest.mark.parametrize("function", FUNCTIONS)
def test_librdkafka_chooses_the_same(function: str) -> None:
    pytest.importorskip("confluent_kafka", reason="needs confluent-kafka, the extra [kafka]")
    from tests.kafka.cluster import library  # noqa: PLC0415 - with the library

    choose = getattr(library(), f"rd_kafka_msg_partitioner_{function}")
    choose.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int32, *[ctypes.c_void_p] * 2]
    choose.restype = ctypes.c_int32
    dice = random.Random(drawn_seed())  # noqa: S311 - a seed is what is wanted
    for _ in range(2000):
        key = dice.randbytes(dice.randrange(1, 40)).hex().encode()[: dice.randrange(1, 40)]
        partitions = dice.randrange(1, 1000)
        assert key_partition(key, partitions, function) == choose(None, key, len(key), partitions, None, None), key  # type: ignore[arg-type]  # it is one of the two


@pytest.mark.parametrize("by", ["trace", "service"])
def test_one_span_goes_where_it_goes_among_others(by: Literal["trace", "service"]) -> None:
    """What is cut after it was encoded, of a file or of a drain of before, is asked for span by span."""
    trace_ids = [number.to_bytes(16, "big") for number in range(50)]
    records = np.zeros(len(trace_ids), LAYOUT.dtype)
    records["trace_id"] = np.frombuffer(b"".join(trace_ids), np.uint8).reshape(records["trace_id"].shape)
    made = KafkaPartitioner(by, "fnv1a", 12)
    names = [made.names[at] for at in made.assign(records, "shop")]
    assert [made.home(trace_id, "shop") for trace_id in trace_ids] == names
