"""Which partition a span goes to: by its trace, or by its service, as others that write to the topic choose it."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np

from ringbuf._ringbuf import ffi, lib

Function = Literal["fnv1a", "murmur2"]
FUNCTIONS: Final[dict[Function, int]] = {"fnv1a": lib.RB_PARTITION_FNV1A, "murmur2": lib.RB_PARTITION_MURMUR2}
MOST_PARTITIONS: Final = 1 << 16


def key_partition(key: bytes, partitions: int, function: Function = "fnv1a") -> int:
    """Return a key's partition.

    Args:
        key: of a message; of a service its name in UTF-8.
        partitions: of the topic, at least 1.
        function: "fnv1a" as the Collector's exporter (`sarama_compat`), or "murmur2" as Java's producers.

    Example:
        >>> key_partition(b"checkout", 12), key_partition(b"checkout", 12, "murmur2")
        (1, 10)
    """
    partition: int = lib.rb_key_partition(FUNCTIONS[function], key, len(key), partitions)
    return partition


def trace_partitions(records: np.ndarray, partitions: int, function: Function = "fnv1a") -> np.ndarray:
    """Return the partition of each record's trace: uint16, shape (n,).

    Args:
        records: of one layout, one dimension.
        partitions: of the topic, 1 to `MOST_PARTITIONS`.
        function: as of `key_partition`; the key is the trace id as 32 hex digits.

    Raises:
        ValueError: there are too few or too many partitions.
    """
    contiguous, to = np.ascontiguousarray(records), np.empty(len(records), np.uint16)
    status = lib.rb_trace_partitions(
        FUNCTIONS[function],
        ffi.from_buffer("uint8_t[]", contiguous.view(np.uint8)),
        len(contiguous),
        contiguous.dtype.itemsize,
        partitions,
        ffi.from_buffer("uint16_t[]", to),
    )
    if status != lib.RB_OK:
        raise ValueError(f"a topic of {partitions} partitions: 1 to {MOST_PARTITIONS} are possible")
    return to


class KafkaPartitioner:
    """Sorts spans by partition; see `drain.exporters.protocol.Partitioner`.

    Args:
        by: what decides on the partition.
        function: of its key.
        partitions: of the topic, at least 1.

    Attributes:
        names: of the partitions.
    """

    def __init__(self, by: Literal["trace", "service"], function: Function, partitions: int) -> None:
        self._by = by
        self._function = function
        self.names = tuple(map(str, range(partitions)))

    def assign(self, records: np.ndarray, service: str) -> np.ndarray:
        """Return the partition of each record: uint16, shape (n,)."""
        if self._by == "trace":
            return trace_partitions(records, len(self.names), self._function)
        return np.full(len(records), self.partition_of(b"", service), np.uint16)

    def home(self, trace_id: bytes, service: str) -> str:
        """Return the name of the partition of one span."""
        return str(self.partition_of(trace_id, service))

    def partition_of(self, trace_id: bytes, service: str) -> int:
        """Return the partition of one span."""
        key = trace_id.hex() if self._by == "trace" else service
        return key_partition(key.encode(), len(self.names), self._function)
