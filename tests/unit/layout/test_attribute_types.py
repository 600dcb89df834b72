"""An attribute type is declared once: the row in the table, and what C says of it."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, get_args

import pytest

from ringbuf._ringbuf import lib
from ringbuf.layout.attribute_types import TYPES, AttributeType
from tests.python import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Each is one thing and not one of a kind: the OTLP of a span, and that of its scope.
CARRIED = {name for name, row in TYPES.items() if row.is_carried}


def test_the_rows_are_those_of_the_annotation() -> None:
    assert tuple(TYPES) == get_args(AttributeType)


def test_the_codes_are_those_of_ringbuf_h() -> None:
    codes = {name: getattr(lib, name) for name in dir(lib) if name.startswith("RB_TYPE_")}
    assert codes == {f"RB_TYPE_{name.upper()}": row.code for name, row in TYPES.items()}


@pytest.mark.parametrize("page", ["custom-layout.md", "otlp-mapping.md"])
def test_the_documents_have_every_type(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in TYPES if f"`{name}`" in row}
    if any("`i8` to `i64`" in row for row in rows):
        named |= {"i16", "i32"}
    if any("`u8` to `u" in row for row in rows):
        named |= {"u16", "u32", "u64"} - ({"u64"} if any("`u8` to `u32`" in row for row in rows) else set())
    assert named == TYPES.keys()


def compared_in(path: Path) -> Iterator[str]:
    """Name the strings that the code of a file compares with or matches, in a literal collection too."""
    text = path.read_text(encoding="utf-8")
    if not any(f'"{name}"' in text or f"'{name}'" in text for name in TYPES):
        return  # to parse them all takes seconds
    for node in ast.walk(ast.parse(text)):
        inner: list[ast.AST] = []
        if isinstance(node, ast.Compare):
            inner = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            inner = [node.value]
        for part in inner:
            for constant in [part, *getattr(part, "elts", [])]:
                if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
                    yield constant.value


def test_no_other_code_asks_which_type_an_attribute_has() -> None:
    found = {
        str(path.relative_to(ROOT)): names
        for folder in ("ringbuf", "drain")
        for path in (ROOT / folder).rglob("*.py")
        if (names := set(compared_in(path)) & TYPES.keys() - CARRIED)
    }
    assert found == {}
