"""What the wheel and the source distribution hold."""

from __future__ import annotations

import re
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT, run

pytestmark = pytest.mark.prove


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def extensions(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("extensions")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".so")]
        paths = [Path(archive.extract(name, folder)) for name in names]
    return {path.name.partition(".")[0]: path for path in paths}


def test_tag_is_the_stable_abi_of_python_3_11(wheel: Path, wheel_tag: str) -> None:
    assert wheel.name == f"ringbuf_spans-{version()}-{wheel_tag}.whl"


def test_wheel_has_all_that_a_native_producer_needs(names: set[str]) -> None:
    assert {
        "ringbuf/include/ringbuf.h",
        "ringbuf/include/ringbuf_site.h",
        "ringbuf/lib/libringbuf.a",
        "ringbuf/lib/pkgconfig/ringbuf.pc",
        "ringbuf/lib/cmake/ringbuf/ringbufConfig.cmake",
    } <= names


def test_wheel_has_types_and_licence(names: set[str]) -> None:
    licence = f"ringbuf_spans-{version()}.dist-info/licenses/LICENSE"
    assert {"ringbuf/py.typed", "drain/py.typed", "ringbuf/_hot.pyi", "ringbuf/_ringbuf.pyi", licence} <= names


def test_wheel_has_every_module_of_both_packages_and_nothing_else(names: set[str], clone: Path) -> None:
    modules = {str(path.relative_to(clone)) for path in [*clone.glob("ringbuf/**/*.py"), *clone.glob("drain/**/*.py")]}
    assert {name for name in names if name.endswith(".py")} == modules
    assert {name.partition("/")[0] for name in names} == {"ringbuf", "drain", f"ringbuf_spans-{version()}.dist-info"}


def test_wheel_has_what_an_operator_deploys(names: set[str], clone: Path) -> None:
    files = {str(path.relative_to(clone)) for path in clone.glob("drain/deploy/*")}
    assert "drain/deploy/ringbuf-drain.service" in files <= names


def test_the_page_on_the_package_index_has_authors_places_and_links_that_lead_somewhere(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = Parser().parsestr(archive.read(f"ringbuf_spans-{version()}.dist-info/METADATA").decode())
    assert metadata["Author"] == "The ringbuf authors"
    urls = dict(line.split(", ") for line in metadata.get_all("Project-URL", []))
    assert urls.keys() == {"Source", "Documentation", "Changelog", "Issues"}
    assert metadata["Description-Content-Type"] == "text/markdown"
    page = metadata.get_payload()
    assert isinstance(page, str)
    assert f"]({urls['Source']}/blob/v{version()}/docs/quick-start.md)" in page
    assert "](docs/" not in page


def test_producer_depends_on_cffi_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = Parser().parsestr(archive.read(f"ringbuf_spans-{version()}.dist-info/METADATA").decode())
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert sorted(line.partition(">")[0] for line in required) == ["cffi"]
    assert set(metadata.get_all("Provides-Extra", [])) == {
        *("drain", "kafka", "numpy", "otel", "parquet"),
        *("docs", "test", "bench", "dev"),
    }


@pytest.mark.parametrize("module", ["_hot", "_ringbuf"])
def test_extension_exports_nothing_but_its_init_function(module: str, extensions: dict[str, Path]) -> None:
    assert symbols(extensions[module], "--defined-only") == {f"PyInit_{module}"}


def test_hot_extension_has_no_means_to_release_the_gil(extensions: dict[str, Path]) -> None:
    assert "PyEval_SaveThread" in symbols(extensions["_ringbuf"], "--undefined-only")
    assert "PyEval_SaveThread" not in symbols(extensions["_hot"], "--undefined-only")


def test_sdist_has_sources_and_tests_and_nothing_built(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "pyproject.toml",
        "csrc/ringbuf.h",
        "csrc/CMakeLists.txt",
        "tests/packaging/test_wheel.py",
        "LICENSE",
    } <= names
    assert not [name for name in names if name.endswith((".so", ".a", ".o", ".pyc")) or name.startswith(".venv")]


def version() -> str:
    (number,) = re.findall(r'^__version__ = "(.+)"$', (ROOT / "ringbuf" / "version.py").read_text(), re.MULTILINE)
    return str(number)


def symbols(library: Path, *options: str) -> set[str]:
    """Return the names in a shared object's dynamic symbol table, without versions."""
    table = run(["nm", "--dynamic", "--format=just-symbols", *options, library], cwd=library.parent)
    return {name.partition("@")[0] for name in table.split()}
