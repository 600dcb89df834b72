"""Each way to install the package, tried in an environment of its own, from outside the checkout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.packaging.conftest import ROOT

if TYPE_CHECKING:
    from tests.packaging.conftest import Environment

pytestmark = pytest.mark.prove


def test_only_cffi_comes_along(installed: Environment) -> None:
    listed = json.loads(installed.python("-m", "pip", "list", "--format=json", "--disable-pip-version-check"))
    names = {package["name"] for package in listed} - {"pip", "setuptools"}
    assert names == {"ringbuf-spans", "cffi", "pycparser"}


def test_import_does_not_come_from_this_checkout(installed: Environment) -> None:
    assert not Path(installed.ask("ringbuf.__file__")).is_relative_to(ROOT)


def test_version_is_that_of_the_distribution(installed: Environment) -> None:
    distribution = installed.python("-c", "from importlib.metadata import version; print(version('ringbuf-spans'))")
    assert installed.ask("ringbuf.__version__") == distribution.strip()


def test_get_include_finds_the_header(installed: Environment, clone: Path) -> None:
    header = Path(installed.ask("ringbuf.get_include()")) / "ringbuf.h"
    assert header.read_bytes() == (clone / "csrc" / "ringbuf.h").read_bytes()


def test_get_library_dir_finds_library_and_pkg_config_file(installed: Environment) -> None:
    folder = Path(installed.ask("ringbuf.get_library_dir()"))
    assert (folder / "libringbuf.a").is_file()
    assert f"Version: {installed.ask('ringbuf.__version__')}" in (folder / "pkgconfig" / "ringbuf.pc").read_text()


def test_both_extensions_load(installed: Environment) -> None:
    installed.python(
        "-c", "from ringbuf import _hot, _ringbuf; assert _hot.lib.rb_clock_unix_nano() > _ringbuf.lib.RB_OK"
    )
