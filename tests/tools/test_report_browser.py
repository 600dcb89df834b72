"""A page in a real browser: its script runs, nothing is refused, it fits a phone, and it is dark where wanted."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.service.draining import SECONDS
from tests.tools.otlp_lines import Made, lines, many_spans
from tests.tools.report_pages import Page, report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PHONE = 360
LONG = "a.span.name.without.any.place.to.break.it." * 3
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


class Browser:
    """Chromium without a window, with a profile that goes with the test."""

    def __init__(self, program: str, folder: Path) -> None:
        self._command = [
            program,
            "--headless=new",
            "--no-sandbox",  # it refuses to run as root with one, and CI may be root
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-extensions",
            "--no-first-run",
            "--hide-scrollbars",
            "--window-size=1280,900",
            "--enable-logging=stderr",
            f"--user-data-dir={folder / 'profile'}",
            "--virtual-time-budget=2000",
        ]
        self._environment = {"HOME": str(folder), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}

    def dom(self, page: Path, *options: str) -> tuple[str, list[str]]:
        """Open a page; return what became of it, and the lines of its console."""
        command = [*self._command, *options, "--dump-dom", page.as_uri()]
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, timeout=2 * SECONDS, check=True
        )
        return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


@pytest.fixture
def browser(tmp_path: Path, debian_program: Callable[[str], str]) -> Browser:
    (tmp_path / "browser").mkdir()
    return Browser(debian_program("chromium"), tmp_path / "browser")


@pytest.fixture
def page(tmp_path: Path) -> Page:
    hostile = [
        Made(LONG, service="<script>window.pwned=1</script>", span=9001, status=2, attributes={"error.type": LONG}),
        Made("<img src=x onerror=window.pwned=1>", span=9002, parent=9001, attributes={"op": "<b>" + LONG}),
        Made("\u202e<script>window.pwned=1</script>", trace=9000, span=9003),
    ]
    (tmp_path / "spans.jsonl").write_bytes(lines([*many_spans(1000), *hostile], 300) + b"no line\n")
    return report(tmp_path, tmp_path / "spans.jsonl", "--by", "op", "--title", LONG)


def with_script(tmp_path: Path, page: Page, script: str) -> Path:
    """Return a copy of the page that runs a script of the test's behind its own."""
    copy = tmp_path / "copy.html"
    changed = POLICY.sub("", page.html).replace("</body>", f"<script>{script}</script></body>")
    assert changed.count("<script>") == 2
    copy.write_text(changed, "utf-8")
    return copy


def attribute(dom: str, name: str) -> str:
    found = re.search(rf'<html[^>]* {name}="([^"]*)"', dom)
    assert found, dom[:300]
    return found[1]


@pytest.mark.prove
def test_the_page_runs_its_script_and_nothing_is_refused_or_goes_wrong(
    tmp_path: Path, browser: Browser, page: Page
) -> None:
    dom, console = browser.dom(tmp_path / "report.html")
    assert attribute(dom, "data-script") == "ready"
    assert '<form id="filters" aria-label="Filters">' in dom, "the filters are still hidden"
    assert not console
    # The same browser does say so when something is refused.
    other = tmp_path / "other.html"
    other.write_text(
        page.html.replace("<body>", "<body onclick='1'><img src='https://127.0.0.1:9/'><script>1</script>")
    )
    _, console = browser.dom(other)
    assert len(console) >= 2, console
    assert any("Content Security Policy" in line for line in console)


@pytest.mark.prove
def test_nothing_sticks_out_at_the_side_of_a_phone(tmp_path: Path, browser: Browser, page: Page) -> None:
    measure = """
      for (const element of document.querySelectorAll("details")) element.open = true;
      const wide = [...document.querySelectorAll("body *")].filter((e) =>
        !e.closest(".scroll") && !e.closest("svg") && e.getBoundingClientRect().right > innerWidth + 0.5);
      parent.postMessage({inner: innerWidth, scroll: document.documentElement.scrollWidth, pwned: window.pwned ?? "no",
        wide: wide.map((e) => e.tagName + "." + e.className).join(" ")}, "*");
    """
    with_script(tmp_path, page, measure)
    # A window is no narrower than 500 pixels; a frame is what it is told to be.
    outer = tmp_path / "outer.html"
    outer.write_text(
        f"""<!DOCTYPE html><html><script>
        onmessage = (event) => Object.assign(document.documentElement.dataset, event.data);
        </script><iframe src="copy.html" width="{PHONE}" height="800" style="border:0"></iframe></html>"""
    )
    dom, _ = browser.dom(outer)
    assert attribute(dom, "data-inner") == str(PHONE)
    assert attribute(dom, "data-wide") == ""
    assert attribute(dom, "data-scroll") == str(PHONE)
    assert attribute(dom, "data-pwned") == "no"


@pytest.mark.prove
def test_the_filters_hide_what_does_not_match_and_tables_sort(tmp_path: Path, browser: Browser, page: Page) -> None:
    operate = """
      const root = document.documentElement, get = (id) => document.getElementById(id);
      const all = document.querySelectorAll(".f").length;
      const set = (id, value) => { get(id).value = value; get(id).dispatchEvent(new Event("input", {bubbles: true})); };
      const count = () => [...document.querySelectorAll(".f")].filter((e) => !e.hidden).length;
      const index = [...get("f-name").options].find((o) => o.text === "flush").value;
      set("f-name", index);
      root.dataset.name = [...document.querySelectorAll("#kinds tbody tr")].filter((e) => !e.hidden)
        .map((e) => e.cells[0].textContent).join();
      set("f-name", ""); root.dataset.back = count() === all;
      set("f-text", "DENIED"); root.dataset.text = count() > 0 && count() < all;
      set("f-text", "no such thing"); root.dataset.nothing = count();
      set("f-text", "");
      get("f-errors").click(); root.dataset.errors = count() > 0 && count() < all;
      get("f-errors").click();
      const head = [...document.querySelectorAll("#kinds th")].find((e) => e.textContent === "Max");
      const rows = () => [...document.querySelectorAll("#kinds tbody tr")];
      const values = () => rows().map((e) => +e.cells[head.cellIndex].dataset.v);
      head.firstChild.click();
      root.dataset.down = values().every((v, i, a) => !i || a[i - 1] >= v) + head.getAttribute("aria-sort");
      head.firstChild.click();
      root.dataset.up = values().every((v, i, a) => !i || a[i - 1] <= v) + head.getAttribute("aria-sort");
    """
    dom, console = browser.dom(with_script(tmp_path, page, operate))
    assert not console
    assert attribute(dom, "data-name") == "flush"
    assert [attribute(dom, f"data-{name}") for name in ("back", "text", "nothing", "errors")] == [
        "true",
        "true",
        "0",
        "true",
    ]
    assert (attribute(dom, "data-down"), attribute(dom, "data-up")) == ("truedescending", "trueascending")


@pytest.mark.prove
def test_the_page_is_dark_where_that_is_wanted(tmp_path: Path, browser: Browser, page: Page) -> None:
    measure = """
      const root = document.documentElement, style = (e) => getComputedStyle(document.querySelector(e));
      root.dataset.page = style("body").backgroundColor; root.dataset.text = style("body").color;
      root.dataset.layer = style(".plot .c0").fill; root.dataset.cell = style(".cells .h1").stroke;
      const box = document.querySelector(".plot .c0").getBoundingClientRect();
      root.dataset.drawn = box.width > 500 && box.height > 20;
    """
    copy = with_script(tmp_path, page, measure)
    names = ("data-page", "data-text", "data-layer", "data-cell")
    seen = {}
    for preference in (1, 0):
        dom, _ = browser.dom(copy, f"--blink-settings=preferredColorScheme={preference}")
        seen[preference] = [brightness(attribute(dom, name)) for name in names]
        assert attribute(dom, "data-drawn") == "true"
    light, dark = seen[1], seen[0]
    assert light[0] > 230
    assert light[1] < 50
    assert dark[0] < 40
    assert dark[1] > 200
    assert light[2] < dark[2], "a layer of the picture has the same colour on both"
    assert light[3] > 180
    assert dark[3] < 80, "few spans must not shine in the dark"


def brightness(colour: str) -> float:
    red, green, blue = (int(part) for part in re.findall(r"\d+", colour)[:3])
    return (red + green + blue) / 3
