"""docs/images: pictures of terminals are read on any page, load nothing, are shown somewhere, and can be made anew."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
IMAGES = DOCS / "images"
MADE = "made by docs/screenshots.py"
TERMINALS = sorted(path for path in IMAGES.glob("*.svg") if MADE in path.read_text(encoding="utf-8"))
COLOUR = re.compile(r"fill: ?#([0-9a-f]{6})")
SECONDS = 300
# What is there however wide the columns are: a narrow one cuts names.
SHOWN = {
    "ringbuf-top": ["spans/s"],
    "ringbuf-trace": ["fbbu", " services, ", "█"],
    "drain-check": ["empty"],
    "demo": ["adds"],
}


def luminance(colour: str) -> float:
    """Return the relative luminance of six hex digits: WCAG 2.2, "relative luminance"."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def missing_in(picture: Path) -> list[str]:
    """Return what a picture of this name is to show, and does not."""
    text = picture.read_text(encoding="utf-8").replace("&#160;", " ")
    return [word for word in SHOWN[picture.stem] if word not in text]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_every_vector_picture_of_the_folder_is_one_that_can_be_made_anew() -> None:
    assert sorted(IMAGES.glob("*.svg")) == TERMINALS
    assert len(TERMINALS) >= 7


@pytest.mark.parametrize("picture", TERMINALS, ids=lambda picture: picture.stem)
def test_a_terminal_brings_its_ground_along_and_is_read_on_it(picture: Path) -> None:
    """So that it is the same on a light page and on a dark one."""
    text = picture.read_text(encoding="utf-8")
    ground = re.search(r'<rect fill="#([0-9a-f]{6})"', text)
    assert ground is not None
    reversed_cells = set(re.findall(r'<rect fill="#([0-9a-f]{6})"', text)) - {ground[1]}
    colours = set(COLOUR.findall(text)) - {ground[1] if reversed_cells else ""}
    assert colours
    assert {colour: contrast(colour, ground[1]) for colour in colours if contrast(colour, ground[1]) < 4.5} == {}


@pytest.mark.parametrize("picture", TERMINALS, ids=lambda picture: picture.stem)
def test_a_terminal_loads_nothing(picture: Path) -> None:
    text = picture.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"url\((?!#)|@import|@font-face|<script|<image|href=", text)


@pytest.mark.parametrize("picture", sorted(IMAGES.iterdir()), ids=lambda picture: picture.name)
def test_a_picture_is_shown_on_a_page(picture: Path) -> None:
    shown = re.compile(rf"!\[[^\]]+\]\((?:\.\./)*(?:docs/)?images/{re.escape(picture.name)}\)")
    pages = [*DOCS.rglob("*.md"), ROOT / "README.md"]
    assert [page for page in pages if shown.search(page.read_text(encoding="utf-8"))], "or it may go"


@pytest.mark.parametrize("name", SHOWN)
def test_a_terminal_shows_what_it_is_for(name: str) -> None:
    assert missing_in(IMAGES / f"{name}.svg") == []


@pytest.mark.prove
def test_they_can_be_made_anew(tmp_path: Path) -> None:
    command = [sys.executable, str(DOCS / "screenshots.py"), "--to", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in TERMINALS}
    assert {name: missing for name in SHOWN if (missing := missing_in(tmp_path / f"{name}.svg"))} == {}
