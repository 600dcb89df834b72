"""What mkdocs is told beside .mkdocs.yml: pages that are files elsewhere in the tree, and links that lead there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]

# A file outside docs/ that has a page of its own here, and the page.
PAGES: Final = {
    "README.md": "index.md",
    "csrc/ringbuf.h": "reference-c.md",
    "csrc/ringbuf_site.h": "reference-c.md",
    "bench/README.md": "benchmarks.md",
    "docs/examples/native/README.md": "examples/native/README.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
_LINK: Final = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)")
_OUTPUT: Final = re.compile(r"^<!-- output: (?P<command>.+) -->$", re.MULTILINE)
_COLUMNS: Final = "100"
_INCLUDED: Final = re.compile(r'^--8<-- "(?P<path>[^"]+\.md)"$', re.MULTILINE)


def on_page_markdown(markdown: str, *, page: Any, **_others: Any) -> str:
    """Rewrite links that lead out of docs/: to the page that has the file, else to the file's name."""
    folder = (ROOT / "docs" / page.file.src_uri).parent
    included = _INCLUDED.search(markdown)
    if included is not None:  # its links are relative to where it lies
        folder = (ROOT / included["path"]).parent
        markdown = markdown.replace(included[0], (ROOT / included["path"]).read_text(encoding="utf-8"))
    markdown = _OUTPUT.sub(_run, markdown)
    up = "../" * page.file.src_uri.count("/")

    def rewritten(link: re.Match[str]) -> str:
        target = (folder / link["target"]).resolve()
        if not target.exists() or not target.is_relative_to(ROOT):
            return link[0]  # mkdocs warns of it, and a warning is an error
        name = str(target.relative_to(ROOT))
        if link["picture"]:
            return f"![{link['text']}]({up}{name.removeprefix('docs/')})"
        if name in PAGES:
            return f"[{link['text']}]({up}{PAGES[name]}{link['anchor'] or ''})"
        if name.startswith("docs/") and target.suffix in {".md", ".svg", ".png"}:
            return f"[{link['text']}]({up}{name.removeprefix('docs/')}{link['anchor'] or ''})"
        return link["text"] if link["text"].startswith("`") else f"`{name}`"

    return _LINK.sub(rewritten, markdown)


def _run(marker: re.Match[str]) -> str:
    """Return what `python -m COMMAND` prints, in a fence."""
    plain = {"COLUMNS": _COLUMNS, "TERM": "dumb", "NO_COLOR": "1", "RINGBUF_DIR": "/dev/shm/ringbuf-1000"}  # noqa: S108 - printed in help texts, not opened
    command = [sys.executable, "-m", *marker["command"].split()]
    done = subprocess.run(  # noqa: S603 - the command stands in our own pages
        command, capture_output=True, text=True, check=False, env={**os.environ, **plain}
    )
    text = done.stdout or done.stderr
    if not text or "Traceback" in text:
        raise SystemExit(f"{marker[0]}: {text}")
    return f"```text\n{text.rstrip()}\n```"
