"""What a record holds beside its core: attributes, their types, and where each lies."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ringbuf._ringbuf import lib
from ringbuf.layout.attribute_types import LENGTH_BYTES, TYPES, Shape, TypeRow
from ringbuf.wording import some

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ringbuf.layout.attribute_types import AttributeType

MAX_U8_LABELS: Final = 256
MAX_LABELS: Final = 65536
SLOT_ALIGNMENT: Final = 64


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a layout.

    Args:
        key: The OTLP attribute key.
        type: `bool`; `i8` to `i64`, `u8` to `u64`, `f64`; `label`, an index into `labels`; `hex`, raw bytes that are
            exported as lower-case hex digits; `str` and `bytes`, inline with their length; `otlp` and `scope`, the
            same with bytes of OTLP, which become parts of the span and its scope instead of an attribute: see
            `RB_TYPE_OTLP` in ringbuf.h.
        size: Bytes, for five types: exactly so many of a `hex`, at most so many of a `str` (in UTF-8) or the others.
        labels: The strings of a `label`, at most 65536. The index is a u8 up to 256 labels, else a u16.
        metric_label: Whether metrics of the drain may carry this attribute; only of a `label` or `bool`, since the
            others have no bound on their number of values.
        error_labels: Those of a `label`'s labels that make the status of a span ERROR.

    Raises:
        ValueError: Naming the key, when the arguments do not fit each other or a limit.
        TypeError: When key, size or labels are of another Python type.

    >>> Attribute("grafos.lease.id", "hex", 16).nbytes
    16
    >>> Attribute("grafos.outcome", "label", labels=("ok", "error")).format
    'B'
    """

    key: str
    type: AttributeType
    size: int | None = None
    labels: Sequence[str] | None = None
    metric_label: bool = False
    error_labels: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", checked_text(self.key, "an attribute's key"))
        if self.type not in TYPES:
            raise ValueError(f"attribute {self.key!r}: no such type as {self.type!r}; there are {', '.join(TYPES)}")
        self._check_size()
        self._check_labels()
        self._check_error_labels()
        if type(self.metric_label) is not bool:
            raise TypeError(f"attribute {self.key!r}: metric_label is a bool, not {self.metric_label!r}")
        if self.metric_label and not self.row.is_bounded:
            bounded = " or ".join(sorted((name for name, row in TYPES.items() if row.is_bounded), reverse=True))
            raise ValueError(f"attribute {self.key!r}: only a {bounded} may be a metric_label, not a {self.type}")

    @property
    def row(self) -> TypeRow:
        """What the code knows of its type."""
        return TYPES[self.type]

    def _check_size(self) -> None:
        if self.row.shape not in (Shape.EXACT, Shape.INLINE):
            if self.size is not None:
                raise ValueError(f"attribute {self.key!r}: a {self.type} takes no size")
            return
        if self.size is None:
            raise ValueError(f"attribute {self.key!r}: a {self.type} needs a size")
        if type(self.size) is not int:
            raise TypeError(f"attribute {self.key!r}: size is an int, not {self.size!r}")
        largest = lib.RB_MAX_SLOT_BYTES - lib.RB_CORE_BYTES - (LENGTH_BYTES if self.row.shape is Shape.INLINE else 0)
        if not 1 <= self.size <= largest:
            raise ValueError(f"attribute {self.key!r}: size {self.size} is not between 1 and {largest}")

    def _check_labels(self) -> None:
        if self.row.shape is not Shape.LABEL:
            if self.labels is not None:
                raise ValueError(f"attribute {self.key!r}: a {self.type} takes no labels")
            return
        if self.labels is None:
            raise ValueError(f"attribute {self.key!r}: a label needs labels")
        labels = checked_texts(self.labels, f"attribute {self.key!r}: labels")
        if not 1 <= len(labels) <= MAX_LABELS:
            raise ValueError(f"attribute {self.key!r}: {len(labels)} labels; there may be 1 to {MAX_LABELS}")
        object.__setattr__(self, "labels", labels)

    def _check_error_labels(self) -> None:
        errors = checked_texts(self.error_labels, f"attribute {self.key!r}: error_labels")
        for label in errors:
            if label not in (self.labels or ()):
                raise ValueError(
                    f"attribute {self.key!r}: error_labels: {label!r} is none of its labels, "
                    f"{some(self.labels) if self.labels else 'it has none'}"
                )
        object.__setattr__(self, "error_labels", errors)

    @property
    def format(self) -> str:
        """The value as `struct` has it, without the byte order; what is inline is a length and its data."""
        match self.row.shape:
            case Shape.NUMBER:
                return self.row.format
            case Shape.LABEL:
                return "B" if len(self.labels or ()) <= MAX_U8_LABELS else "H"
            case Shape.EXACT:
                return f"{self.size}s"
            case Shape.INLINE:
                return f"H{self.size}s"

    @property
    def nbytes(self) -> int:
        """What the value takes in a record, the length of what is inline included."""
        return struct.calcsize("<" + self.format)

    @property
    def alignment(self) -> int:
        """What the offset is a multiple of: natural, 1 for bytes, 2 for what is inline."""
        match self.row.shape:
            case Shape.EXACT:
                return 1
            case Shape.INLINE:
                return LENGTH_BYTES
            case _:
                return self.nbytes


@dataclass(frozen=True, slots=True)
class LayoutField:
    """An attribute in its place: `index` is its bit of `present`, `offset` and `nbytes` are bytes of the record."""

    attribute: Attribute
    index: int
    offset: int
    nbytes: int
    format: str


def place(attributes: Sequence[Attribute]) -> tuple[tuple[LayoutField, ...], int]:
    """Lay attributes out behind the core, the most strictly aligned first, else in their order; with the slot's bytes.

    Raises:
        ValueError: Naming the attribute that exceeds the largest slot.
    """
    end: int = lib.RB_CORE_BYTES
    fields = {}
    for index, attribute in sorted(enumerate(attributes), key=lambda pair: -pair[1].alignment):
        offset = round_up(end, attribute.alignment)
        end = offset + attribute.nbytes
        if end > lib.RB_MAX_SLOT_BYTES:
            raise ValueError(f"attribute {attribute.key!r} exceeds the largest slot, {lib.RB_MAX_SLOT_BYTES} bytes")
        fields[index] = LayoutField(attribute, index, offset, attribute.nbytes, attribute.format)
    return tuple(fields[index] for index in range(len(attributes))), round_up(end, SLOT_ALIGNMENT)


def check_placement(fields: Sequence[LayoutField], slot_bytes: int) -> None:
    """Refuse a placement, chosen by another program, that could not be read safely.

    Raises:
        ValueError: With the reason, naming the attribute.
    """
    core, largest = lib.RB_CORE_BYTES, lib.RB_MAX_SLOT_BYTES
    if not core <= slot_bytes <= largest or slot_bytes % SLOT_ALIGNMENT:
        raise ValueError(f"slot_bytes {slot_bytes} is not a multiple of {SLOT_ALIGNMENT} from {core} to {largest}")
    end, before = core, ""
    for field in sorted(fields, key=lambda field: field.offset):
        key, offset = field.attribute.key, field.offset
        if offset < core:
            raise ValueError(f"attribute {key!r}: offset {offset} lies in the record's core")
        if offset + field.nbytes > slot_bytes:
            raise ValueError(
                f"attribute {key!r}: {field.nbytes} bytes at offset {offset} end outside the slot of {slot_bytes}"
            )
        if offset % field.attribute.alignment:
            raise ValueError(f"attribute {key!r}: offset {offset} is no multiple of {field.attribute.alignment}")
        if offset < end:
            raise ValueError(f"attribute {key!r}: offset {offset} overlaps attribute {before!r}")
        end, before = offset + field.nbytes, key


def checked_text(value: object, what: str, *, may_be_empty: bool = False) -> str:
    """Return `value` as a plain str that UTF-8 can hold.

    Raises:
        TypeError: When it is no str.
        ValueError: When it is empty and may not be, or has a lone surrogate.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} is a str, not {value!r}")
    if not value and not may_be_empty:
        raise ValueError(f"{what} is empty")
    text = str.__str__(value)  # of an enum's member: its value, whatever the enum made of __str__
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} has a lone surrogate: {text!r}") from None
    return text


def checked_texts(values: object, what: str) -> tuple[str, ...]:
    """Return `values`, each as `checked_text` has it, no two the same.

    Raises:
        TypeError: When it is a single str, or not iterable, or one of them is no str.
        ValueError: When one is empty, there twice, or has a lone surrogate.
    """
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise TypeError(f"{what} is a sequence of str, not {values!r}")
    texts: dict[str, None] = {}
    for value in values:
        text = checked_text(value, f"{what}: one of them")
        if text in texts:
            raise ValueError(f"{what}: {text!r} is there twice")
        texts[text] = None
    return tuple(texts)


def round_up(number: int, multiple: int) -> int:
    """Return the least multiple that is not below `number`."""
    return -(-number // multiple) * multiple
