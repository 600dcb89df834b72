"""A report as a test reads it: what a reader sees, and what the pictures are drawn of."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import numpy as np

from tests.tools.running import invoke

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typer.testing import Result

_VOID = {"meta", "br", "input"}


@dataclass
class Element:
    """An element of a page."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def all(self, tag: str, **attributes: str) -> Iterator[Element]:
        """Yield the elements below of that tag, in which each attribute has that word."""
        for child in self.children:
            if isinstance(child, Element):
                has = all(word in child.attributes.get(name, "").split() for name, word in attributes.items())
                if child.tag == tag and has:
                    yield child
                yield from child.all(tag, **attributes)

    def one(self, tag: str, **attributes: str) -> Element:
        return next(self.all(tag, **attributes))


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("page")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in _VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag, f"</{tag}> closes what it does not open"

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


@dataclass
class Page:
    """A report that was made."""

    html: str
    result: Result

    def __post_init__(self) -> None:
        reader = _Reader()
        reader.feed(self.html)
        reader.close()
        assert [element.tag for element in reader.open] == ["page"], "an element is never closed"
        self.root = reader.open[0]

    def tiles(self) -> dict[str, str]:
        """Return the large figures by their names."""
        tiles = self.root.one("dl", **{"class": "tiles"})
        return {tile.one("dt").text: tile.one("dd").text for tile in tiles.all("div")}

    def section(self, identity: str) -> Element:
        return self.root.one("section", id=identity)

    def card(self, title: str) -> Element:
        """Return the latency card with that heading."""
        return next(
            card
            for card in self.section("latency").all("article")
            for tag in ("h3", "h4")
            for heading in card.all(tag)
            if "".join(bdi.text for bdi in heading.all("bdi")) == title
        )


def report(tmp_path: Path, *arguments: object) -> Page:
    """Make a page, which must come about."""
    output = tmp_path / "report.html"
    result = invoke("report", *arguments, "-o", output)
    assert output.exists(), result.output
    return Page(output.read_text("utf-8"), result)


def table(within: Element, caption: str) -> list[dict[str, str]]:
    """Return the rows of a table: cells by the names of their columns."""
    found = next(element for element in within.all("table") if element.one("caption").text.startswith(caption))
    names = [head.text for head in found.all("th")]
    rows = [[cell.attributes.get("data-v", cell.text) for cell in row.all("td")] for row in found.all("tr")]
    return [dict(zip(names, row, strict=True)) for row in rows if row]


def cells_of(path: str, columns: int, rows: int) -> np.ndarray:
    """Return which cells a heat map's path covers: columns by rows, the lowest row first."""
    covered = np.zeros((columns, rows), bool)
    x, y = 0.0, 0.0
    for dx, dy, length in re.findall(r"m(-?[\d.]+) (-?[\d.]+)h(\d+)", path):
        x, y = x + float(dx), y + float(dy)
        covered[round(x) : round(x) + int(length), rows - 1 - round(y - 0.5)] = True
        x += int(length)
    return covered
