"""SpanLayout: the schema of a ring's records, as JSON for the header, as numpy dtype, and as offsets for C."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from ringbuf._ringbuf import ffi, lib
from ringbuf.exceptions import LayoutError
from ringbuf.layout.attribute import Attribute, LayoutField, checked_text, checked_texts, place
from ringbuf.layout.attribute_types import TYPES, AttributeType, Shape
from ringbuf.layout.layout_json import Content, dump, parse
from ringbuf.layout.value import unpack_value
from ringbuf.wording import some

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

__all__ = ["CORE_OFFSETS", "Attribute", "AttributeType", "LayoutField", "SpanLayout"]

# cffi compares a struct with the compiler's at its first use: a header that drifted from the extension fails here.
for _struct in ("rb_header", "rb_lane", "rb_record"):
    ffi.sizeof(_struct)

_CORE: Final = dict(ffi.typeof("rb_record").fields)

CORE_OFFSETS: Final[Mapping[str, int]] = MappingProxyType({name: field.offset for name, field in _CORE.items()})
"""Byte offsets of the fields that every record has."""

MAX_SPAN_NAMES: Final = 65535
MAX_REASON: Final = 500  # characters: a hostile key may be as long as the whole header


ERROR_ATTRIBUTES: Final = (Attribute("error.type", "str", 48), Attribute("error.message", "str", 76))
"""What `record_errors` adds: with their lengths two cache lines."""


@dataclass(frozen=True, slots=True, init=False, eq=False, repr=False)
class SpanLayout:
    """The schema of a record: the core that every record has, and the attributes of this ring's spans.

    Args:
        span_names: The names that spans may have, 1 to 65535; a record holds an index into them.
        attributes: At most 32. Attribute i has bit i of the record's `present`.
        scope_name: The instrumentation scope in OTLP.
        scope_version: Its version.
        schema_url: Where the meaning of the attributes is published.
        resource_schema_url: The same for the attributes of the resource.
        record_errors: Add `error.type` (48 bytes) and `error.message` (76) where they are not among the attributes:
            what an exception that passes a `with` block sets, cut to its place. Both take 128 bytes of the record.

    Attributes:
        fields: The attributes in their places, in their order.
        offsets: Byte offset in the record by attribute key.
        slot_bytes: Bytes of a record, a multiple of 64.

    Raises:
        ValueError: Naming the field that is empty, there twice, named like a field of the core, too long or too many.
        TypeError: When one of them is of another type.

    Two layouts are equal when their JSON is.

    >>> layout = SpanLayout(
    ...     span_names=["read", "write"],
    ...     attributes=[Attribute("lease", "hex", 16), Attribute("bytes", "u64")],
    ... )
    >>> layout.slot_bytes, dict(layout.offsets)
    (128, {'lease': 72, 'bytes': 64})
    >>> SpanLayout.from_json(layout.to_json()) == layout
    True
    """

    span_names: tuple[str, ...]
    attributes: tuple[Attribute, ...]
    scope_name: str
    scope_version: str
    schema_url: str
    resource_schema_url: str
    fields: tuple[LayoutField, ...]
    offsets: Mapping[str, int]
    slot_bytes: int
    _name_indices: Mapping[str, int]
    _indices: Mapping[str, int]
    _json: bytes
    _dtype: np.dtype[np.void] | None

    def __init__(
        self,
        *,
        span_names: Iterable[str],
        attributes: Iterable[Attribute],
        scope_name: str = "",
        scope_version: str = "",
        schema_url: str = "",
        resource_schema_url: str = "",
        record_errors: bool = False,
    ) -> None:
        if not isinstance(attributes, Iterable):
            raise TypeError(f"attributes is a sequence of Attribute, not {attributes!r}")
        attributes = tuple(attributes)
        for attribute in attributes:
            if not isinstance(attribute, Attribute):
                raise TypeError(f"attributes: {attribute!r} is no Attribute")
        if record_errors:
            keys = {attribute.key for attribute in attributes}
            attributes += tuple(attribute for attribute in ERROR_ATTRIBUTES if attribute.key not in keys)
        if len(attributes) > lib.RB_MAX_ATTRIBUTES:
            raise ValueError(f"attributes: {len(attributes)} of them; there may be {lib.RB_MAX_ATTRIBUTES}")
        texts = (scope_name, scope_version, schema_url, resource_schema_url)
        self._set(Content(span_names, *place(attributes), *texts))

    @classmethod
    def from_json(cls, data: bytes) -> SpanLayout:
        """Read a layout from a ring's header, whoever wrote it; the offsets stay as they are given there.

        Raises:
            LayoutError: With the reason why records could not be read by it.
        """
        layout = cls.__new__(cls)
        try:
            layout._set(parse(data))  # noqa: SLF001 - its own
        except ValueError as error:  # LayoutError is one
            raise LayoutError(str(error)[:MAX_REASON]) from None
        return layout

    def _set(self, content: Content) -> None:
        names = checked_texts(content.span_names, "span_names")
        content = content._replace(span_names=names)
        if not 1 <= len(names) <= MAX_SPAN_NAMES:
            raise ValueError(f"span_names: {len(names)} of them; there may be 1 to {MAX_SPAN_NAMES}")
        indices: dict[str, int] = {}
        for field in content.fields:
            key = field.attribute.key
            if key in CORE_OFFSETS:
                raise ValueError(f"attribute {key!r}: a field of the record's core has this name")
            if key in indices:
                raise ValueError(f"attribute {key!r} is there twice")
            indices[key] = field.index
        for kind in (name for name, row in TYPES.items() if row.is_carried):
            if sum(field.attribute.type == kind for field in content.fields) > 1:
                raise ValueError(f"attributes: there may be one of type {kind}")
        values = {
            "span_names": names,
            "attributes": tuple(field.attribute for field in content.fields),
            "scope_name": checked_text(content.scope_name, "scope_name", may_be_empty=True),
            "scope_version": checked_text(content.scope_version, "scope_version", may_be_empty=True),
            "schema_url": checked_text(content.schema_url, "schema_url", may_be_empty=True),
            "resource_schema_url": checked_text(content.resource_schema_url, "resource_schema_url", may_be_empty=True),
            "fields": content.fields,
            "offsets": MappingProxyType({field.attribute.key: field.offset for field in content.fields}),
            "slot_bytes": content.slot_bytes,
            "_name_indices": {name: index for index, name in enumerate(names)},
            "_indices": indices,
            "_dtype": None,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        json = dump(content)
        if len(json) > lib.RB_MAX_JSON_BYTES:
            raise ValueError(
                f"span_names and labels make {len(json)} bytes of JSON; {lib.RB_MAX_JSON_BYTES} fit a ring"
            )
        object.__setattr__(self, "_json", json)

    def to_json(self) -> bytes:
        """Return the layout as a ring's header has it, compact JSON in UTF-8; `layout_json.py` says how."""
        return self._json

    def index(self, key: str) -> int:
        """Return the attribute's index: its bit of `present`.

        Raises:
            ValueError: When the layout has no such attribute.
        """
        try:
            return self._indices[key]
        except KeyError:
            raise ValueError(
                f"the layout has no attribute {key!r}; it has {', '.join(self._indices) or 'none'}"
            ) from None

    def name_index(self, span_name: str) -> int:
        """Return the span name's index: what a record's `name` holds.

        Raises:
            ValueError: When the layout has no such span name.
        """
        try:
            return self._name_indices[span_name]
        except KeyError:
            raise ValueError(f"span_names has no {span_name!r}; it has {some(self.span_names)}") from None

    @property
    def dtype(self) -> np.dtype[np.void]:
        """The record as a numpy structured dtype of `slot_bytes` bytes; numpy is loaded by the first use.

        Fields of the core have the names of `rb_record`, attributes their keys. A `label` is its u1 or u2 index, a
        `hex` an array of u1; a `str`, `bytes`, `otlp` or `scope` has the fields `length` (u2) and `data` (an array of
        u1).
        """
        if self._dtype is None:
            object.__setattr__(self, "_dtype", self._make_dtype())
        assert self._dtype is not None  # noqa: S101 - for the type checker
        return self._dtype

    def _make_dtype(self) -> np.dtype[np.void]:
        numpy = numpy_for("the dtype of a layout")
        formats = [_core_format(field.type) for field in _CORE.values()]
        for field in self.fields:
            match field.attribute.row.shape:
                case Shape.EXACT:
                    formats.append(("u1", (field.nbytes,)))
                case Shape.INLINE:
                    formats.append(numpy.dtype([("length", "<u2"), ("data", "u1", (field.attribute.size,))]))
                case _:
                    formats.append("<" + field.format)
        dtype: np.dtype[np.void] = numpy.dtype(
            {
                "names": [*CORE_OFFSETS, *self.offsets],
                "formats": formats,
                "offsets": [*CORE_OFFSETS.values(), *self.offsets.values()],
                "itemsize": self.slot_bytes,
            }
        )
        return dtype

    def empty(self, count: int) -> np.ndarray[tuple[int], np.dtype[np.void]]:
        """Return `count` records that are all zero: no attribute is present, no id is valid yet."""
        records: np.ndarray[tuple[int], np.dtype[np.void]] = numpy_for("an array of records").zeros(count, self.dtype)
        return records

    def values(self, record: bytes | np.void) -> dict[str, bool | int | float | str | bytes]:
        """Return the attributes that a record has set, by key and in their order, as OTLP has them.

        A label is its string, a `hex` its digits; bytes of a `str` that are not UTF-8 become U+FFFD. An `otlp` or
        `scope` is its bytes, checked by nobody.

        Args:
            record: One record of `slot_bytes` bytes, from anywhere.

        Raises:
            ValueError: Naming the attribute whose label or length is out of bounds: the record is invalid.

        >>> layout = SpanLayout(span_names=["read"], attributes=[Attribute("bytes", "u64"), Attribute("hit", "bool")])
        >>> records = layout.empty(1)
        >>> records["bytes"] = 4096
        >>> records["present"] = 1 << layout.index("bytes")
        >>> layout.values(records[0])
        {'bytes': 4096}
        """
        raw = record if isinstance(record, bytes) else record.tobytes()
        if len(raw) != self.slot_bytes:
            raise ValueError(f"a record of {len(raw)} bytes, where the layout has {self.slot_bytes}")
        present = ffi.from_buffer("rb_record *", raw).present
        return {field.attribute.key: unpack_value(field, raw) for field in self.fields if present >> field.index & 1}

    def __eq__(self, other: object) -> bool:
        return self._json == other._json if isinstance(other, SpanLayout) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._json)

    def __reduce__(self) -> tuple[Any, ...]:
        return SpanLayout.from_json, (self._json,)

    def __repr__(self) -> str:
        return f"SpanLayout(scope_name={self.scope_name!r}, slot_bytes={self.slot_bytes}, keys={list(self.offsets)})"


def numpy_for(what: str) -> Any:
    """Return the module numpy, which a producer of single spans need not have: 90 ms to load and 70 MB.

    Raises:
        ImportError: it is not installed; the message says what needs it.
    """
    try:
        return import_module("numpy")
    except ModuleNotFoundError as error:
        if error.name != "numpy":
            raise
        raise ImportError(f"{what} needs numpy: pip install 'ringbuf-spans[numpy]'", name="numpy") from error


def _core_format(kind: Any) -> Any:
    """Return the numpy format of a member of rb_record: unsigned integers, and arrays of bytes."""
    if kind.kind == "array":
        return ("u1", (kind.length,))
    return f"<u{ffi.sizeof(kind)}"
