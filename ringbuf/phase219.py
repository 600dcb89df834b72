"""The vocabulary of grafOS Phase 219: names, enumerations and the layout of data-plane spans, and lease ids."""

from __future__ import annotations

import sys
from enum import Enum, IntEnum
from typing import Final, Self, assert_never

from ringbuf.layout.layout import Attribute, SpanLayout
from ringbuf.wording import counted

__all__ = [
    "DATAPLANE_LAYOUT",
    "PHASE_219_SPAN_NAMES",
    "DataplaneSpanKind",
    "LeaseId",
    "OpType",
    "Outcome",
    "ResourceKind",
    "dataplane_operation_label",
    "dataplane_span_kind_for_op_type",
]

LEASE_BYTES: Final = 16
STATUS_UNSET: Final = 0
STATUS_ERROR: Final = 2


class DataplaneSpanKind(Enum):
    """The family of a data-plane operation; each has one span name."""

    FBMU = "grafos.dataplane.fbmu"
    FBBU = "grafos.dataplane.fbbu"
    GPU_SESSION = "grafos.dataplane.gpu_session"
    CAPABILITY_CACHE = "grafos.dataplane.capability_cache"

    @property
    def span_name(self) -> str:
        """The span's name in OTLP."""
        return self.value


PHASE_219_SPAN_NAMES: Final = tuple(kind.span_name for kind in DataplaneSpanKind)
"""The four span names, in the order of their indices in a record."""


class _Labelled(IntEnum):
    """Members whose value is their index in the layout's label table, and whose label is their name in lower case."""

    label: str

    def __init__(self, _index: int) -> None:
        self.label = sys.intern(self.name.lower())

    def __str__(self) -> str:
        return self.label

    def __format__(self, spec: str) -> str:
        return format(self.label, spec)


class OpType(_Labelled):
    """What was done. TASKLET_SUBMIT belongs to the control plane: it has a label, but no data-plane span.

    Attributes:
        family: what `dataplane_span_kind_for_op_type` says.
        resource_kind: what the family's leases are for; None where a lease of any kind may be meant (CAPABILITY_…), and
            where there is no family.
    """

    family: DataplaneSpanKind | None
    resource_kind: ResourceKind | None

    FBMU_READ = 0
    FBMU_WRITE = 1
    FBBU_READ = 2
    FBBU_WRITE = 3
    FBBU_FLUSH = 4
    GPU_SESSION_OPEN = 5
    GPU_SESSION_SUBMIT = 6
    GPU_SESSION_CLOSE = 7
    CAPABILITY_LOOKUP = 8
    CAPABILITY_REFRESH = 9
    CAPABILITY_INVALIDATE = 10
    TASKLET_SUBMIT = 11
    GPU_MEM_ALLOC = 12
    GPU_MEM_WRITE = 13
    GPU_MEM_READ = 14
    GPU_MODULE_LOAD = 15
    GPU_LAUNCH = 16
    GPU_SYNC = 17


class ResourceKind(_Labelled):
    """What the lease is for: the kinds of grafOS's own `ResourceKind`, in its order and with its labels."""

    MEM = 0
    BLOCK = 1
    NET = 2
    CPU = 3
    GPU = 4
    GPU_MEM = 5
    TASKLET = 6

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.label = sys.intern(self.label.replace("_", ""))  # `gpumem`, in one word


class Outcome(_Labelled):
    """How the operation ended."""

    OK = 0
    HIT = 1
    MISS = 2
    ERROR = 3
    TIMEOUT = 4
    DENIED = 5
    EXPIRED = 6
    CANCELLED = 7
    REVOKED = 8
    FENCED = 9

    @property
    def status(self) -> int:
        """The OTLP status code of the span: ERROR (2) for failures, UNSET (0) for all else, CANCELLED included."""
        return STATUS_ERROR if self in _FAILURES else STATUS_UNSET


_FAILURES: Final = frozenset(
    {Outcome.ERROR, Outcome.TIMEOUT, Outcome.DENIED, Outcome.EXPIRED, Outcome.REVOKED, Outcome.FENCED}
)


def dataplane_operation_label(op: OpType) -> str:
    """Return the operation's label: the interned string that `str(op)` is too, nothing is allocated.

    >>> dataplane_operation_label(OpType.FBMU_READ)
    'fbmu_read'
    """
    return op.label


def dataplane_span_kind_for_op_type(op: OpType) -> DataplaneSpanKind | None:
    """Return the family of an operation, None for TASKLET_SUBMIT, which is a control-plane submission.

    >>> dataplane_span_kind_for_op_type(OpType.FBBU_FLUSH)
    <DataplaneSpanKind.FBBU: 'grafos.dataplane.fbbu'>
    """
    match op:
        case OpType.FBMU_READ | OpType.FBMU_WRITE:
            return DataplaneSpanKind.FBMU
        case OpType.FBBU_READ | OpType.FBBU_WRITE | OpType.FBBU_FLUSH:
            return DataplaneSpanKind.FBBU
        case (
            OpType.GPU_SESSION_OPEN
            | OpType.GPU_SESSION_SUBMIT
            | OpType.GPU_SESSION_CLOSE
            | OpType.GPU_MEM_ALLOC
            | OpType.GPU_MEM_WRITE
            | OpType.GPU_MEM_READ
            | OpType.GPU_MODULE_LOAD
            | OpType.GPU_LAUNCH
            | OpType.GPU_SYNC
        ):
            return DataplaneSpanKind.GPU_SESSION
        case OpType.CAPABILITY_LOOKUP | OpType.CAPABILITY_REFRESH | OpType.CAPABILITY_INVALIDATE:
            return DataplaneSpanKind.CAPABILITY_CACHE
        case OpType.TASKLET_SUBMIT:
            return None
        case _:
            assert_never(op)


_RESOURCE_KIND: Final = {
    DataplaneSpanKind.FBMU: ResourceKind.MEM,
    DataplaneSpanKind.FBBU: ResourceKind.BLOCK,
    DataplaneSpanKind.GPU_SESSION: ResourceKind.GPU,
    DataplaneSpanKind.CAPABILITY_CACHE: None,
    None: None,
}
_ON_GPU_MEMORY: Final = frozenset({OpType.GPU_MEM_ALLOC, OpType.GPU_MEM_WRITE, OpType.GPU_MEM_READ})

for _op in OpType:
    _op.family = dataplane_span_kind_for_op_type(_op)
    _op.resource_kind = ResourceKind.GPU_MEM if _op in _ON_GPU_MEMORY else _RESOURCE_KIND[_op.family]


def _labels(members: type[_Labelled]) -> tuple[str, ...]:
    return tuple(member.label for member in members)


DATAPLANE_LAYOUT: Final = SpanLayout(
    span_names=PHASE_219_SPAN_NAMES,
    attributes=[
        Attribute("grafos.lease.id", "hex", LEASE_BYTES),
        Attribute("grafos.resource.kind", "label", labels=_labels(ResourceKind)),
        Attribute("grafos.operation", "label", labels=_labels(OpType), metric_label=True),
        Attribute("grafos.outcome", "label", labels=_labels(Outcome), metric_label=True),
        Attribute("grafos.bytes", "u64"),
    ],
    scope_name="grafos.dataplane",
    scope_version="219",
)


class LeaseId(bytes):
    """A lease id, 16 bytes: make it once per lease, not once per span.

    Args:
        value: a `uuid.UUID`, 16 bytes, an int from 0 to 2**128 - 1 (big-endian), 32 hex digits, or a LeaseId.

    Raises:
        TypeError: it is of none of these types.
        ValueError: it has another length, another character or another range.

    >>> LeaseId("000102030405060708090a0b0c0d0e0f") == LeaseId(0x000102030405060708090A0B0C0D0E0F)
    True
    """

    __slots__ = ()

    def __new__(cls, value: object) -> Self:
        """Take any of the forms."""
        return super().__new__(cls, lease_bytes(value))

    @property
    def raw(self) -> bytes:
        """The 16 bytes as plain `bytes`."""
        return bytes(self)

    def __repr__(self) -> str:
        return f"LeaseId({self.hex()!r})"

    __str__ = __repr__

    def __reduce__(self) -> tuple[type[LeaseId], tuple[bytes]]:
        return LeaseId, (self.raw,)


def lease_bytes(value: object) -> bytes:
    """Return the 16 bytes of a lease id in any of the forms that `LeaseId` takes; raises as `LeaseId` does."""
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        if len(data) != LEASE_BYTES:
            raise ValueError(f"lease id: {counted(len(data), 'byte')}, where {LEASE_BYTES} are needed")
        return data
    if isinstance(value, str):
        # bytes.fromhex skips white space, and so would take 32 characters that are fewer digits.
        if len(value) != 2 * LEASE_BYTES or not value.isascii() or not value.isalnum():
            raise ValueError(f"lease id: {value[:64]!r} is not {2 * LEASE_BYTES} hex digits")
        try:
            return bytes.fromhex(value)
        except ValueError:
            raise ValueError(f"lease id: {value!r} is not {2 * LEASE_BYTES} hex digits") from None
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return value.to_bytes(LEASE_BYTES, "big")
        except OverflowError:
            raise ValueError("lease id: the int is not between 0 and 2**128 - 1") from None
    # Whoever has a UUID has imported its module, which `import ringbuf` need not pay for.
    uuid = sys.modules.get("uuid")
    if uuid is not None and isinstance(value, uuid.UUID):
        return bytes(value.bytes)
    raise TypeError(
        f"lease id: {type(value).__name__} is none of uuid.UUID, {LEASE_BYTES} bytes, int, {2 * LEASE_BYTES} hex digits"
    )
