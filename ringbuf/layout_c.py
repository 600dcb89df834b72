"""A layout as a header for C11 and C++17: struct, enumerations, setters, static assertions, and the JSON for the ring.

    python -m ringbuf.layout_c LAYOUT [NAME] > NAME_layout.h

LAYOUT is FILE.py or MODULE, with :ATTRIBUTE where it has several layouts; a layout's JSON; or a ring. NAME is what the
header's identifiers begin with, without it the scope's name.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

from ringbuf._ringbuf import lib
from ringbuf.layout.attribute_types import Shape
from ringbuf.layout.c_names import Identifiers, identifier

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ringbuf.layout.layout import LayoutField, SpanLayout

__all__ = ["to_c_header"]

_JSON_LINE_BYTES: Final = 100
_LITERAL_BYTES: Final = 4095  # what C11 promises of a string literal
_COMMENT_CHARACTERS: Final = 80
_USAGE: Final = 2
_INTEGERS: Final = tuple(f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64))
_ESCAPES: Final = {ord(character): f"\\{character}" for character in '"\\?'}  # ? is what trigraphs begin with


class _Member(NamedTuple):
    """An attribute in the struct: `name` of its value, `length` of a str's or bytes' length, `kind` in C."""

    field: LayoutField
    name: str
    length: str
    kind: str
    present: str
    labels: tuple[str, ...]


def to_c_header(layout: SpanLayout, name: str | None = None) -> str:
    """Return the text of a header with which a C or C++ program writes records of the layout.

    It has, for the name `kv`: `kv_record` with every attribute at its offset; enumerations of the span names and of the
    labels; `KV_PRESENT_…`, the bits of `present`; `kv_init` and one `kv_set_…` for each attribute, which also sets its
    bit (and the status ERROR, for one of `error_labels`); `kv_config`, which fills the layout's part of `rb_config`;
    and the layout's JSON. It needs `ringbuf.h` alone.

    Args:
        layout: Any layout, also one whose offsets another program has chosen.
        name: What all identifiers begin with; None: made from the scope's name, or `spans` where that is empty.

    Raises:
        ValueError: The name is no identifier in lower case, or begins with `rb`, as those of ringbuf.h do.

    >>> from ringbuf import Attribute, SpanLayout
    >>> layout = SpanLayout(span_names=["get"], attributes=[Attribute("kv.bytes", "u64")], scope_name="kv")
    >>> [line for line in to_c_header(layout).splitlines() if "kv_set_bytes" in line]
    ['static inline void kv_set_bytes(kv_record *record, uint64_t value)']
    """
    if name is None:
        name = identifier(layout.scope_name) or "spans"
    if not name or identifier(name) != name or name.startswith("rb"):
        raise ValueError(f"name: {name!r} is no lower-case identifier of its own (rb is ringbuf.h's); choose another")
    return "\n".join(_Header(layout, name).lines()) + "\n"


class _Header:
    """The header of one layout; the methods give its parts, in their order."""

    def __init__(self, layout: SpanLayout, name: str) -> None:
        self._layout = layout
        self._name = name
        self._upper = name.upper()
        # Enumerators and macros are of one kind to a reader, so they share a namespace here.
        self._constants = Identifiers(
            *(f"{self._upper}_{word}" for word in ("LAYOUT_H", "SPAN_NAME_COUNT", "SLOT_BYTES", "LAYOUT_BYTES"))
        )
        self._tags = Identifiers(f"{name}_span_name", f"{name}_record")
        self._span_names = self._enumerators("name", layout.span_names)
        self._pads = Identifiers()
        self._members = self._make_members()

    def _short(self, text: str) -> str:
        """Return the identifier of a key or span name, less the dotted words with which the scope's name begins too."""
        words = text.split(".")
        for word in self._layout.scope_name.split("."):
            if len(words) == 1 or words[0] != word:
                break
            del words[0]
        return identifier(".".join(words))

    def _enumerators(self, group: str, texts: Sequence[str]) -> tuple[str, ...]:
        start = f"{self._upper}_{group.upper()}_"
        return tuple(
            self._constants.take(start + (self._short(text).upper() or f"{index}"), index)
            for index, text in enumerate(texts)
        )

    def _make_members(self) -> list[_Member]:
        # In C++ a member has neither the name of its struct nor that of a type which the struct uses.
        names = Identifiers("core", "rb_record", f"{self._name}_record", *_INTEGERS)
        members = []
        for field in self._layout.fields:
            attribute = field.attribute
            name = names.take(self._short(attribute.key) or f"attribute_{field.index}", field.index)
            length = names.take(f"{name}_length", field.index) if _has_length(field) else ""
            present = self._constants.take(f"{self._upper}_PRESENT_{name.upper()}", field.index)
            kind = _c_type(field)
            labels: tuple[str, ...] = ()
            if attribute.labels is not None:
                kind = self._tags.take(f"{self._name}_{name}", field.index)
                labels = self._enumerators(name, attribute.labels)
            members.append(_Member(field, name, length, kind, present, labels))
        self._pads = names
        return members

    def lines(self) -> Iterator[str]:
        """Yield the header's lines."""
        yield from self._opening()
        yield from self._enumerations()
        yield from self._struct()
        yield from self._assertions()
        yield from self._json()
        yield from self._functions()
        yield f"#endif /* {self._upper}_LAYOUT_H */"

    def _opening(self) -> Iterator[str]:
        yield f"/* The layout of scope {_quoted(self._layout.scope_name)}, written by `ringbuf layout`: do not edit. */"
        yield f"#ifndef {self._upper}_LAYOUT_H"
        yield f"#define {self._upper}_LAYOUT_H"
        yield ""
        yield "#include <assert.h>"
        yield "#include <ringbuf.h>"
        yield "#include <string.h>"
        yield "#ifndef __cplusplus"
        yield "#include <stdbool.h>"
        yield "#endif"
        yield ""

    def _enumerations(self) -> Iterator[str]:
        yield "/* Indices of the span names: rb_record.name. */"
        yield from _enum(f"{self._name}_span_name", self._span_names, self._layout.span_names)
        yield f"#define {self._upper}_SPAN_NAME_COUNT {len(self._span_names)}u"
        yield ""
        for member in self._members:
            if member.labels:
                yield f"/* Labels of {_quoted(member.field.attribute.key)}. */"
                yield from _enum(member.kind, member.labels, member.field.attribute.labels or ())
                yield ""
        if self._members:
            # No enumeration: bit 31 is no int, and so no enumerator in C11.
            yield "/* Bits of rb_record.present: which attributes are set. */"
            yield from (f"#define {m.present} UINT32_C(0x{1 << m.field.index:08x})" for m in self._members)
            yield ""

    def _struct(self) -> Iterator[str]:
        yield f"typedef struct {self._name}_record {{"
        yield "    rb_record core;"
        end: int = lib.RB_CORE_BYTES
        for member in sorted(self._members, key=lambda member: member.field.offset):
            field = member.field
            yield from self._pad(field.offset - end, end)
            comment = f" /* {_quoted(field.attribute.key)}, at {field.offset} */"
            if member.length:
                yield f"    uint16_t {member.length};"
            yield f"    {_declaration(member)};{comment}"
            end = field.offset + field.nbytes
        yield from self._pad(self._layout.slot_bytes - end, end)
        yield f"}} {self._name}_record;"
        yield f"#define {self._upper}_SLOT_BYTES {self._layout.slot_bytes}u"
        yield ""

    def _pad(self, count: int, offset: int) -> Iterator[str]:
        if count:
            yield f"    uint8_t {self._pads.take(f'pad_{offset}', 0)}[{count}];"

    def _assertions(self) -> Iterator[str]:
        record = f"{self._name}_record"
        yield "/* What ringbuf.h and the layout say of these bytes is what this compiler makes of them. */"
        yield f'static_assert(RB_ABI_MAJOR == {lib.RB_ABI_MAJOR}, "another version of the ring file");'
        yield f'static_assert(sizeof(rb_record) == RB_CORE_BYTES && RB_CORE_BYTES == {lib.RB_CORE_BYTES}, "core");'
        yield f'static_assert(sizeof({record}) == {self._upper}_SLOT_BYTES, "slot_bytes");'
        yield f'static_assert({self._upper}_SLOT_BYTES <= RB_MAX_SLOT_BYTES, "slot_bytes");'
        yield f'static_assert({len(self._members)} <= RB_MAX_ATTRIBUTES, "attributes");'
        for member in self._members:
            name, field = member.name, member.field
            size = field.nbytes
            if member.length:
                yield f'static_assert(offsetof({record}, {member.length}) == {field.offset}, "{member.length}");'
                size -= 2
            yield f'static_assert(offsetof({record}, {name}) == {field.offset + field.nbytes - size}, "{name}");'
            yield f'static_assert(sizeof((({record} *)0)->{name}) == {size}, "{name}");'
        yield ""

    def _json(self) -> Iterator[str]:
        data = self._layout.to_json()
        is_long = len(data) > _LITERAL_BYTES
        yield "/* The layout as the ring's header carries it: rb_config.layout_json. */"
        if is_long:
            yield "#pragma GCC diagnostic push"
            yield '#pragma GCC diagnostic ignored "-Woverlength-strings"'
        yield f"static const char {self._name}_layout_json[] ="
        pieces = [data[start : start + _JSON_LINE_BYTES] for start in range(0, len(data), _JSON_LINE_BYTES)]
        for piece in pieces:
            yield f'    "{_literal(piece)}"' + (";" if piece is pieces[-1] else "")
        if is_long:
            yield "#pragma GCC diagnostic pop"
        yield f"#define {self._upper}_LAYOUT_BYTES {len(data)}u"
        yield f'static_assert(sizeof {self._name}_layout_json - 1 == {self._upper}_LAYOUT_BYTES, "layout_json");'
        yield f'static_assert({self._upper}_LAYOUT_BYTES <= RB_MAX_JSON_BYTES, "layout_json");'
        yield ""

    def _functions(self) -> Iterator[str]:
        name = self._name
        yield "/* Fills the layout's part of a config. */"
        yield f"static inline void {name}_config(rb_config *config)"
        yield "{"
        yield f"    config->layout_json = {name}_layout_json;"
        yield f"    config->layout_bytes = {self._upper}_LAYOUT_BYTES;"
        yield f"    config->slot_bytes = {self._upper}_SLOT_BYTES;"
        yield f"    config->span_name_count = {self._upper}_SPAN_NAME_COUNT;"
        left = {31: "RB_PRESENT_ALONE", 30: "RB_PRESENT_ROOT_THRESHOLD"}
        if bits := [name for bit, name in left.items() if bit >= len(self._layout.attributes)]:
            yield f"    config->present_bits = {' | '.join(bits)};"
        yield "}"
        yield ""
        yield "/* A sampled root without times, ids and attributes. */"
        yield f"static inline void {name}_init({name}_record *record, enum {name}_span_name name)"
        yield "{"
        yield "    memset(record, 0, sizeof *record);"
        yield "    record->core.name = (uint16_t)name;"
        yield "    record->core.kind = RB_KIND_INTERNAL;"
        yield "    record->core.flags = RB_SPAN_SAMPLED | RB_SPAN_HAS_IS_REMOTE;"
        yield "}"
        yield ""
        for member in self._members:
            yield from self._setter(member)

    def _setter(self, member: _Member) -> Iterator[str]:
        attribute = member.field.attribute
        head = f"{self._name}_set_{member.name}({self._name}_record *record"
        if member.length:
            is_cut = attribute.row.is_cut
            why = "was cut to its field" if is_cut else "does not fit, and is left out: half of a message is none"
            yield f"/* Returns 1 where the value {why} (tell rb_count_truncated), else 0. */"
            yield f"static inline int {head}, const char *data, size_t bytes)"
            yield "{"
            yield f"    size_t kept = bytes <= {attribute.size} ? bytes : {attribute.size};"
            if attribute.row.python is str:
                yield "    while (kept < bytes && kept > 0 && ((unsigned char)data[kept] & 0xC0) == 0x80)"
                yield "        kept--; /* UTF-8: not within a character */"
            if not is_cut:
                yield "    if (kept < bytes)"
                yield "        return 1;"
            yield "    if (kept > 0)"
            yield f"        memcpy(record->{member.name}, data, kept);"
            yield f"    record->{member.length} = (uint16_t)kept;"
            yield f"    record->core.present |= {member.present};"
            yield "    return kept < bytes;"
        elif attribute.row.shape is Shape.EXACT:
            yield f"static inline void {head}, const uint8_t value[{attribute.size}])"
            yield "{"
            yield f"    memcpy(record->{member.name}, value, {attribute.size});"
            yield f"    record->core.present |= {member.present};"
        else:
            kind = f"enum {member.kind}" if member.labels else member.kind
            cast = f"({_c_type(member.field)})" if member.labels else ""
            yield f"static inline void {head}, {kind} value)"
            yield "{"
            yield f"    record->{member.name} = {cast}value;"
            yield f"    record->core.present |= {member.present};"
            if attribute.error_labels:
                named = zip(member.labels, attribute.labels or (), strict=True)
                errors = [f"value == {name}" for name, label in named if label in attribute.error_labels]
                yield f"    if ({' || '.join(errors)})"
                yield "        record->core.status = RB_STATUS_ERROR;"
        yield "}"
        yield ""


def _has_length(field: LayoutField) -> bool:
    return field.attribute.row.shape is Shape.INLINE


def _c_type(field: LayoutField) -> str:
    return field.attribute.row.c_type or f"uint{8 * field.nbytes}_t"  # of a label: that of the index


def _declaration(member: _Member) -> str:
    size = member.field.attribute.size
    return f"{_c_type(member.field)} {member.name}" + ("" if size is None else f"[{size}]")


def _enum(tag: str, names: Sequence[str], texts: Sequence[str]) -> Iterator[str]:
    yield f"enum {tag} {{"
    for index, (name, text) in enumerate(zip(names, texts, strict=True)):
        yield f"    {name} = {index}, /* {_quoted(text)} */"
    yield "};"


def _quoted(text: str) -> str:
    """Return a text for a comment: nothing in it ends the comment, the line, or makes the preprocessor look."""
    shown = json.dumps(text[:_COMMENT_CHARACTERS]).replace("*", "\\u002a").replace("?", "\\u003f")
    return shown + ("..." if len(text) > _COMMENT_CHARACTERS else "")


def _literal(data: bytes) -> str:
    """Return bytes for the inside of a string literal: octal escapes end after three digits, whatever follows."""
    return "".join(_ESCAPES.get(byte) or (chr(byte) if 0x20 <= byte <= 0x7E else f"\\{byte:03o}") for byte in data)  # noqa: PLR2004 - ASCII


def main(arguments: Sequence[str]) -> int:
    """Print the header of a layout; return the exit code."""
    from ringbuf.layout_source import load_layout  # noqa: PLC0415 - of no use to who imports the function

    if {"-h", "--help"} & {*arguments}:
        sys.stdout.write(__doc__ or "")
        return 0
    if not 1 <= len(arguments) <= 2:  # noqa: PLR2004 - LAYOUT and NAME
        sys.stderr.write(__doc__ or "")
        return _USAGE
    try:
        text = to_c_header(load_layout(arguments[0]), *arguments[1:])
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return _USAGE
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
