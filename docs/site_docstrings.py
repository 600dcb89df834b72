"""Shows the doctests of a docstring as the sessions that they are, wherever they stand in it."""

from __future__ import annotations

import re
from typing import Any, Final

import griffe

_SESSION: Final = re.compile(r"^(?P<indent> *)>>> .*(?:\n(?P=indent)\S.*|\n(?P=indent) +\S.*)*", re.MULTILINE)


class Doctests(griffe.Extension):
    """Puts fences around sessions: markdown would take their prompts for quotations."""

    def on_object(self, *, obj: Any, **_others: Any) -> None:
        """Change the docstring of whatever was found."""
        if obj.docstring is not None:
            obj.docstring.value = _SESSION.sub(self._fenced, obj.docstring.value)

    def _fenced(self, session: re.Match[str]) -> str:
        indent = session["indent"]
        return f"{indent}```pycon\n{session[0]}\n{indent}```"
