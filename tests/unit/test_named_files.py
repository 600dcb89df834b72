"""Files of this tree that a page or a comment names are there: who moves one takes its name along."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.python import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOMS = ("bench", "csrc", "docs", "drain", "ringbuf", "tests")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench").rglob("*.md")])
SOURCES = sorted(
    path for room in ROOMS for path in (ROOT / room).rglob("*") if path.suffix in {".py", ".c", ".h", ".pml"}
)
THERE = {str(path.relative_to(ROOT)) for room in ROOMS for path in (ROOT / room).rglob("*")}
NAMES = {name.rpartition("/")[2] for name in THERE}
# From the root; not a part of a longer path or a URL, and no pattern.
PATH = re.compile(rf"(?<![\w/.@$~{{}}-])((?:{'|'.join(ROOMS)})/[\w./-]*\w)(?!/?[\w*{{<…-])")
# As it stands on a page, with or without its folder.
NAME = re.compile(r"`(?:[\w-]+/)*([\w-]+\.(?:py|c|h|pml))`")
OTHERS = (
    "docs/specification.md",  # OpenTelemetry's
    "ringbuf/include",  # in a wheel
    "ringbuf/lib",
)
MADE_UP = {"kv.py", "kv_layout.h", "mine.py", "mine_layout.h"}  # the reader's, in examples


def named_in(text: str) -> Iterator[str]:
    """Yield the paths from the root that a text names."""
    for path in PATH.findall(text):
        if not path.startswith(OTHERS):
            yield path


def is_there(path: str, beside: Path) -> bool:
    """Return whether there is such a file or folder; a module may stand without its ending."""
    return path in THERE or f"{path}.py" in THERE or (beside.parent / path).exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_files_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert {path for path in named_in(text) if not is_there(path, page)} == set()
    assert set(NAME.findall(text)) - NAMES - MADE_UP == set()


def test_the_files_that_a_source_names_are_there() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in SOURCES if path != Path(__file__)}
    assert sum(len([*named_in(text)]) for text in texts.values()) > 100
    gone = {
        str(source.relative_to(ROOT)): missing
        for source, text in texts.items()
        if (missing := {path for path in named_in(text) if not is_there(path, source)})
    }
    assert gone == {}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("see `csrc/gone.c`, where", "csrc/gone.c"),
        ("drain/gone.py::test", "drain/gone.py"),
        ("in tests/gone/.", "tests/gone"),
        ("[there](docs/gone.md#here)", "docs/gone.md"),
    ],
)
def test_a_file_that_is_not_there_is_noticed(text: str, path: str) -> None:
    assert [*named_in(text)] == [path]
    assert not is_there(path, ROOT / "README.md")


@pytest.mark.parametrize(
    "text", ["https://x.example/docs/gone.md", "~/drain/state", "tests/gone_*.py", "drain/{a,b}.py"]
)
def test_what_names_no_file_of_ours_is_passed_over(text: str) -> None:
    assert [*named_in(text)] == []
