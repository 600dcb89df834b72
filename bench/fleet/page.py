"""What a run found: printed as it comes, and put into the page that shows it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

Rows = list[tuple[str, ...]]


class Page:
    """The tables and notes of a run, by the part of the page that they belong to."""

    def __init__(self) -> None:
        self._parts: dict[str, list[str]] = {}

    def table(self, part: str, title: str, rows: Rows) -> None:
        """Show a table: its head, and a line for each row.

        Args:
            part: of the page.
            title: stands above it.
            rows: of as many cells each; the first is the head.
        """
        head, *rest = rows
        lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
        lines += [f"| {' | '.join(row)} |" for row in rest]
        self.note(part, f"**{title}**\n\n" + "\n".join(lines))

    def note(self, part: str, text: str) -> None:
        """Show a paragraph."""
        print(f"\n{text}", flush=True)
        self._parts.setdefault(part, []).append(text)

    def write_into(self, path: Path) -> None:
        """Put all of it into a page, where that has `<!-- measured: PART -->` and `<!-- end of PART -->`.

        Raises:
            ValueError: the page has no place for a part.
        """
        text = path.read_text(encoding="utf-8")
        for part, paragraphs in self._parts.items():
            begin, end = f"<!-- measured: {part} -->", f"<!-- end of {part} -->"
            inside = list(re.finditer(f"{re.escape(begin)}.*?{re.escape(end)}", text, re.DOTALL))
            if len(inside) != 1:
                raise ValueError(f"{path} has no place, or several, for {part}: {begin} … {end}")
            made = "\n\n".join((begin, *paragraphs, end))
            text = text[: inside[0].start()] + made + text[inside[0].end() :]
        path.write_text(text, encoding="utf-8")
