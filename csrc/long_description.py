"""The README as a package index shows it: links into the tree lead to the tree of that version, pictures to its files.

Run by the build (pyproject.toml, `tool.dynamic-metadata`). A relative link means nothing on pypi.org.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_FENCE: Final = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_LINK: Final = re.compile(r"(?P<before>(?P<picture>!?)\[[^\]]*\]\()(?!#|[a-z]+:)(?P<target>[^)\s]+)\)")


def dynamic_metadata(_settings: Mapping[str, Any], project: Mapping[str, Any]) -> dict[str, Any]:
    """Return the field `readme` of a project whose version is known."""
    text = Path("README.md").read_text(encoding="utf-8")
    made = absolute(text, project["urls"]["Source"], f"v{project['version']}")
    return {"readme": {"text": made, "content-type": "text/markdown"}}


def absolute(text: str, source: str, tag: str) -> str:
    """Return Markdown whose links into the tree are those of a tag at `source`; code stays as it is.

    >>> absolute("[a](b.md#c) ![d](e.svg) [f](https://g) [h](#i)", "https://x", "v1")
    '[a](https://x/blob/v1/b.md#c) ![d](https://x/raw/v1/e.svg) [f](https://g) [h](#i)'
    """

    def replaced(found: re.Match[str]) -> str:
        kind = "raw" if found["picture"] else "blob"
        return f"{found['before']}{source}/{kind}/{tag}/{found['target']})"

    made, at = "", 0
    for fence in _FENCE.finditer(text):
        made += _LINK.sub(replaced, text[at : fence.start()]) + fence[0]
        at = fence.end()
    return made + _LINK.sub(replaced, text[at:])
