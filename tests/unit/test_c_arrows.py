"""Which folder of csrc/ may use which, and that no two of its files need each other: read from includes and calls."""

from __future__ import annotations

import re
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Final

import pytest

from tests.python import ROOT

if TYPE_CHECKING:
    from pathlib import Path

CSRC: Final = ROOT / "csrc"
ALLOWED: Final = {
    "shared": set(),
    "otlp": {"shared"},
    "producer": {"shared"},
    "consumer": {"shared"},
    "hold": {"shared", "consumer"},  # of the consumer: the guard against files that were cut
    "accounting": set(),
    "destinations": {"otlp"},  # hex digits
    "sampling": {"shared"},
    "python": {"shared", "otlp", "producer", "consumer"},
}
"""Every folder may include the two headers at the top, which are installed and include nothing of a folder."""

COMMENT_OR_STRING: Final = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.DOTALL)
INCLUDE: Final = re.compile(r'^#include "([^"]+)"', re.MULTILINE)
# At the beginning of a line, not static: what other files may call or read.
FUNCTION: Final = re.compile(r"^(?!static|typedef|#)[a-z][\w \t*()]*?\b(rb_\w+)\([^;{}]*\)\s*\{", re.MULTILINE)
DATA: Final = re.compile(r"^(?!static|typedef|extern)[a-z][\w *]*\b(rb_\w+)(?:\[\w+\])+ =", re.MULTILINE)
NAME: Final = re.compile(r"\brb_\w+\b")


def name_of(path: Path) -> str:
    return str(path.relative_to(CSRC))


def sources() -> list[Path]:
    return sorted(path for path in CSRC.rglob("*.[ch]") if path.parent != CSRC)


def code_of(path: Path) -> str:
    return COMMENT_OR_STRING.sub(" ", path.read_text(encoding="utf-8"))


def included(path: Path) -> set[str]:
    """Name the headers that a file includes; one of its own folder may be named without it."""
    found = set()
    for name in INCLUDE.findall(path.read_text(encoding="utf-8")):
        places = [place for place in (CSRC / name, path.parent / name) if place.exists()]
        assert places, f"{path}: no {name}"
        if places[0].parent != CSRC:
            found.add(name_of(places[0]))
    return found


def definitions() -> dict[str, str]:
    """Map each name that is defined for other files to the file."""
    found: dict[str, str] = {}
    for path in sources():
        if path.suffix == ".c":
            code = code_of(path)
            found |= dict.fromkeys(FUNCTION.findall(code) + DATA.findall(code), name_of(path))
    return found


def graph() -> dict[str, set[str]]:
    """Map each file to those that it includes, calls or reads."""
    defined = definitions()
    arrows: dict[str, set[str]] = defaultdict(set)
    for path in sources():
        name = name_of(path)
        arrows[name] |= included(path)
        if path.suffix == ".c":
            arrows[name] |= {defined[used] for used in NAME.findall(code_of(path)) if used in defined} - {name}
    return arrows


def folder_of(name: str) -> str:
    return name.split("/", maxsplit=1)[0]


def test_the_names_that_files_define_are_found() -> None:
    defined = definitions()
    header = (CSRC / "ringbuf.h").read_text(encoding="utf-8")
    # A declaration ends with a semicolon, an inline function does not.
    declared = re.findall(r"^(?!static|typedef|#)[a-z][\w *]*\b(rb_\w+)\([^;{}]*\);", header, re.MULTILINE)
    assert set(declared) <= defined.keys()
    assert len(declared) > 40
    assert defined["rb_otlp_fields"] == "otlp/fields.c"


def test_each_folder_uses_only_what_it_may() -> None:
    assert {folder_of(name) for name in graph()} == ALLOWED.keys()
    wrong = {
        f"{name} uses {used}"
        for name, uses in graph().items()
        for used in uses
        if folder_of(used) not in ALLOWED[folder_of(name)] | {folder_of(name)}
    }
    assert wrong == set()


def test_the_installed_headers_include_nothing_of_a_folder() -> None:
    for path in CSRC.glob("*.h"):
        assert [name for name in INCLUDE.findall(path.read_text(encoding="utf-8")) if "/" in name] == []


def test_no_two_files_need_each_other() -> None:
    try:
        list(TopologicalSorter(graph()).static_order())
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")
