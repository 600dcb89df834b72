"""The documentation site builds without a warning, fetches nothing, and what it shows runs."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import pytest

from ringbuf import exceptions
from tests.python import run

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.glob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
TEST_NAME = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
TEST_FILE = re.compile(r"`((?:[\w/]+/)?test_\w+\.py|tests/[\w/.]+)`")
# What makes a browser fetch something; a link that a reader may click does not.
FETCHING = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src")}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    # Not --quiet: that keeps the warnings from being counted, too.
    mkdocs: list[str | Path] = [Path(sys.executable).with_name("mkdocs"), "build", "--strict"]
    command = [*mkdocs, "--config-file", ROOT / ".mkdocs.yml", "--site-dir", folder]
    # Its theme prints an advertisement for its successor.
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Fetched(HTMLParser):
    """Collects what a page makes a browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.targets += [value for name, value in attrs if (tag, name) in FETCHING and value]


@pytest.mark.prove
def test_no_page_makes_a_browser_fetch_anything_from_elsewhere(site: Path) -> None:
    pages = sorted(site.glob("**/*.html"))
    assert len(pages) > len(PAGES)
    fetched = 0
    for page in pages:
        parser = Fetched()
        parser.feed(page.read_text(encoding="utf-8"))
        fetched += len(parser.targets)
        assert not [target for target in parser.targets if re.match(r"(https?:)?//", target)], page
        local = [target.partition("?")[0] for target in parser.targets if not target.startswith("data:")]
        assert page.name == "404.html" or [name for name in local if not (page.parent / name).exists()] == [], page
    assert fetched > len(pages)
    for style in site.glob("**/*.css"):
        assert not re.search(r"@import|url\(['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style


@pytest.mark.prove
def test_the_reference_has_the_public_names_and_what_the_commands_print(site: Path) -> None:
    text = (site / "reference-python.html").read_text(encoding="utf-8")
    for name in ("ringbuf.emitter.Emitter.emit_batch", "ringbuf.layout.layout.SpanLayout", "ringbuf.phase219.LeaseId"):
        assert f'id="{name}"' in text
    assert "--spool-max-bytes" in (site / "reference-commands.html").read_text(encoding="utf-8")
    assert "rb_emit_batch - write the longest prefix" in (site / "reference-c.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("module", ["ringbuf", "ringbuf.testing", "ringbuf.otel", "ringbuf.log_correlation"])
def test_the_reference_lists_what_users_call(module: str) -> None:
    page = (DOCS / "reference-python.md").read_text()
    whole = rf"^::: {re.escape(module)}$"  # all of a module
    names = () if re.search(whole, page, re.MULTILINE) else import_module(module).__all__
    missing = {name for name in names if name[0] != "_" and not re.search(rf"[.`](?:\w+\.)*{name}\b", page)}
    errors = {name for name in missing if hasattr(exceptions, name)}  # `ringbuf.exceptions` is there as a whole
    assert missing - errors == set()


@pytest.mark.parametrize("page", [page for page in PAGES if BLOCK.search(page.read_text())], ids=lambda page: page.stem)
def test_the_examples_of_a_page_run_one_after_the_other(page: Path, ring_dir: Path) -> None:
    code = "import os\nos.environ['RINGBUF_DIR'] = sys.argv[1]\n" + "\n".join(BLOCK.findall(page.read_text()))
    done = run(code, ring_dir)
    assert done.returncode == 0, done.stderr


def test_some_pages_have_examples() -> None:
    assert {page.stem for page in PAGES if BLOCK.search(page.read_text())} >= {"embed", "custom-layout"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_tests_that_a_page_names_are_there(page: Path) -> None:
    for path, name in TEST_NAME.findall(page.read_text()):
        assert f"\ndef {name}(" in (ROOT / path).read_text(), f"{path}::{name}"


@functools.cache
def of_tests() -> list[Path]:
    found = [path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*")]
    return [path for path in found if "__pycache__" not in path.parts]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "SECURITY.md"], ids=lambda page: page.stem)
def test_the_files_of_tests_that_a_page_names_are_there(page: Path) -> None:
    for named in TEST_FILE.findall(page.read_text()):
        assert any(path.match(named) for path in of_tests()), named


def test_some_pages_name_tests() -> None:
    assert TEST_NAME.findall((DOCS / "abi.md").read_text())
    assert len(TEST_FILE.findall((DOCS / "reliability.md").read_text())) > 20


@pytest.mark.parametrize("chart", sorted(DOCS.glob("*.svg")), ids=lambda chart: chart.stem)
def test_a_chart_can_be_read_on_a_dark_page_and_on_a_phone(chart: Path) -> None:
    picture = chart.read_text()
    assert "@media (prefers-color-scheme:dark)" in picture
    assert not re.search(r"#000000|#ffffff", picture), "what is black or white on every page is on some not to be seen"
    width = re.search(r'<svg [^>]*width="([\d.]+)pt"', picture)
    assert width is not None
    assert float(width[1]) < 380, "a phone would shrink it"
    sizes = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", picture)]
    assert sizes
    assert min(sizes) >= 6, "exponents are the smallest"
