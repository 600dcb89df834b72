"""Which folder may import which: a span walks through them in one direction, and no two files import each other."""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter, defaultdict
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Final

import pytest

from tests.python import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What every folder and file of a package may import.
EVERYBODY: Final = {
    "ringbuf": {"_hot", "_ringbuf", "_site", "environment", "exceptions", "log", "version", "wording"},
    "drain": {"log", "private_folder", "entry", "exit_codes", "standard_streams", "state_directory"},
}
RINGBUF: Final = {
    "strict_json": set(),
    "protobuf": set(),
    "sampling": set(),
    "traceparent": {"sampling"},
    "layout": {"strict_json"},
    "status": {"layout"},
    "ring": {"layout", "sampling", "strict_json"},
    "sites": {"ring", "layout", "protobuf", "status", "traceparent"},
    "phase219": {"layout"},
    "dataplane_site": {"sites", "ring", "layout", "status", "phase219"},
    "emitter": {"sites", "ring", "layout", "status", "phase219"},
    "shared": {"emitter", "ring", "layout"},
    "dataplane": {
        "dataplane_site",
        "phase219",
        "emitter",
        "shared",
        "sites",
        "ring",
        "layout",
        "status",
        "traceparent",
    },
    "otel": {"emitter", "sites", "ring", "layout", "protobuf", "traceparent"},
    "testing": {"emitter", "shared", "ring", "layout", "status"},
    "log_correlation": {"sites"},
    "layout_source": {"layout", "ring"},
    "layout_c": {"layout", "layout_source"},
    "__main__": {"commands"},
    "commands": {"ring"},
    "ringbuf": {"emitter", "shared", "sites", "layout", "status", "traceparent"},  # what `import ringbuf` offers
    "_hot": set(),
    "_ringbuf": set(),
    "_site": set(),
    "environment": set(),
    "exceptions": set(),
    "log": set(),
    "version": set(),
    "wording": set(),
}
DRAIN: Final = {
    "settings": set(),
    "otlp": set(),
    "accounting": {"otlp"},  # span metrics read the OTLP that records carry
    "spool": {"otlp", "accounting", "settings"},  # of the settings: what an operator may choose about it
    "exporters": {"otlp", "settings", "accounting"},  # of the accounting: what came of the attempts
    "sampling": {"settings", "otlp", "accounting"},  # how times are written; OTLP in records; sums
    "rings": {"otlp", "accounting", "sampling"},  # its examiners do with records all that the drain does
    "delivery": {"exporters", "spool", "otlp", "accounting"},
    "telemetry": {"accounting", "exporters", "otlp"},  # metrics by OTLP are sent
    "replay": {"delivery", "exporters", "rings", "spool", "otlp", "accounting"},
    "service": {"rings", "delivery", "accounting", "exporters", "otlp", "spool", "sampling"},
    "tools": {"rings", "otlp", "accounting", "replay", "delivery", "exporters", "sampling", "spool"},
    "assembly": {"settings", "rings", "delivery", "exporters", "spool", "service", "sampling"},
    "__main__": {"command"},
    "entry": set(),
    "exit_codes": set(),
    "command": {"commands", "settings"},
    "commands": {
        *("assembly", "settings", "rings", "spool", "delivery", "exporters", "otlp"),
        *("service", "telemetry", "replay"),
        *("sampling", "tools", "accounting"),  # to try rules on what rings and files have, and to empty the hold
    },
    "log": set(),
    "private_folder": set(),
    "standard_streams": set(),
    "state_directory": set(),
}
ALLOWED: Final[dict[str, dict[str, set[str]]]] = {"ringbuf": RINGBUF, "drain": DRAIN}
MOST_FILES: Final = 25


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all statements below a node: what stands in expressions imports nothing."""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        for inner in getattr(node, name, ()) if not isinstance(node, ast.expr) else ():
            yield inner
            yield from statements(inner)


@functools.cache
def is_module(name: str) -> bool:
    base = ROOT.joinpath(*name.split("."))
    return base.with_suffix(".py").exists() or base.is_dir()


@functools.cache
def imports_of(path: Path) -> frozenset[str]:
    """Name the modules that a file imports, for types alone too; a name that is a module itself counts as that."""
    found: set[str] = set()
    for node in statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            inner = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found.update(name if is_module(name) else node.module for name in inner.values())
    return frozenset(found)


def graph_of(package: str) -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {}
    for path in (ROOT / package).rglob("*.py"):
        graph[module_of(path)] = {name for name in imports_of(path) if name.split(".")[0] == package}
    return graph


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


@pytest.mark.parametrize("package", ["ringbuf", "drain"])
def test_each_folder_imports_only_what_it_may(package: str) -> None:
    arrows: dict[tuple[str, str], set[str]] = defaultdict(set)
    for module, imported in graph_of(package).items():
        for name in imported:
            arrow = (room_of(module), room_of(name))
            if arrow[0] != arrow[1] and arrow[1] not in EVERYBODY[package]:
                arrows[arrow].add(f"{module} imports {name}")
    wrong = {arrow: names for arrow, names in arrows.items() if arrow[1] not in ALLOWED[package].get(arrow[0], set())}
    assert wrong == {}


@pytest.mark.parametrize("package", ["ringbuf", "drain"])
def test_the_table_of_arrows_names_what_there_is(package: str) -> None:
    rooms = {room_of(module) for module in graph_of(package)} - {"drain"}
    assert ALLOWED[package].keys() - {"__main__"} == rooms - {"__main__"}


def test_a_producer_imports_nothing_of_the_drain() -> None:
    paths = (ROOT / "ringbuf").rglob("*.py")
    assert not [f"{path}: {name}" for path in paths for name in imports_of(path) if name.split(".")[0] == "drain"]


@pytest.mark.parametrize("top", ["csrc", "ringbuf", "drain", "bench", "tests"])
def test_no_folder_has_more_files_side_by_side_than_a_reader_takes_in(top: str) -> None:
    # A C file and its header are one.
    found = {path.with_suffix("") for path in (ROOT / top).rglob("*") if path.suffix in {".py", ".c", ".h"}}
    flat = Counter(path.parent for path in found)
    assert {str(folder): count for folder, count in flat.items() if count > MOST_FILES} == {}


def test_the_code_map_has_a_row_for_each_folder_that_says_what_it_may_import() -> None:
    page = (ROOT / "docs" / "code-map.md").read_text(encoding="utf-8")
    beside = re.findall(r"may import \(beside ([^)]*)\)", page)
    assert [set(re.findall(r"(\w+)\.py", files)) for files in beside] == list(EVERYBODY.values())
    for package, allowed in ALLOWED.items():
        rows = dict(re.findall(rf"^\| `{package}/(\w+)/` \|.*\|([^|]*)\|$", page, re.MULTILINE))
        folders = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
        assert rows.keys() - {"deploy"} == folders
        told = {name: set(re.findall(r"\w+", row)) - {"nothing"} for name, row in rows.items() if name != "deploy"}
        if package == "drain":
            assert told.pop("commands") == {"all", "above"}
        assert told == {name: allowed[name] for name in told}


def test_the_code_map_names_each_folder_and_each_file_that_tests_share() -> None:
    page = (ROOT / "docs" / "code-map.md").read_text(encoding="utf-8")
    folders = {path.parent for top in ("csrc", "ringbuf", "drain", "bench") for path in (ROOT / top).rglob("*.[pch]*")}
    names = {folder.name for folder in folders if "__pycache__" not in folder.parts}
    assert {name for name in names if f"{name}/" not in page} == set()
    [row] = re.findall(r"^\| `tests/\*\.py` \|.*$", page, re.MULTILINE)
    shared = {path.stem for path in (ROOT / "tests").glob("*.py")} - {"__init__", "conftest", "test_collection"}
    assert set(re.findall(r"`(\w+)`", row)) - {"until"} == shared


@pytest.mark.parametrize("package", ["ringbuf", "drain"])
def test_the_folders_have_an_order(package: str) -> None:
    list(TopologicalSorter(ALLOWED[package]).static_order())


@pytest.mark.parametrize("package", ["ringbuf", "drain", "bench", "tests"])
def test_no_two_files_import_each_other(package: str) -> None:
    try:
        list(TopologicalSorter(graph_of(package)).static_order())
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")
