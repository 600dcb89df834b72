"""The built modules have what distributions harden programs with: what is in them is read by binutils."""

from __future__ import annotations

import platform
import re
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from tests.packaging.conftest import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODULES = ("ringbuf._hot", "ringbuf._ringbuf", "ringbuf._site")
FIRST_INSTRUCTION = {"x86_64": r"endbr64", "aarch64": r"bti\s+c|paciasp"}


@pytest.fixture(params=MODULES)
def module(request: pytest.FixtureRequest) -> str:
    """Return the file of a built module."""
    spec = find_spec(request.param)
    assert spec is not None
    assert spec.origin is not None
    return spec.origin


@pytest.fixture
def readelf(debian_program: Callable[[str], str], tmp_path: Path) -> Callable[..., str]:
    """Return what runs readelf, which comes with any compiler."""
    program = debian_program("readelf")
    return lambda *arguments: run([program, "--wide", *arguments], cwd=tmp_path)


@pytest.fixture
def code(module: str, debian_program: Callable[[str], str], tmp_path: Path) -> str:
    """Return a module's instructions."""
    return run([debian_program("objdump"), "--disassemble", "--no-show-raw-insn", module], cwd=tmp_path)


def test_nothing_is_writable_and_executable_or_bound_late(module: str, readelf: Callable[..., str]) -> None:
    said = readelf("--segments", "--dynamic", module)
    assert "GNU_RELRO" in said
    assert re.search(r"\(FLAGS\).*\bBIND_NOW\b", said)
    stack = re.search(r"GNU_STACK +(?:0x\w+ +){5}(\w+)", said)
    assert stack is not None
    assert stack[1] == "RW"
    assert " RWE " not in said


def test_stacks_are_protected_and_calls_of_libc_checked(module: str, readelf: Callable[..., str]) -> None:
    undefined = set(re.findall(r"UND (\w+)", readelf("--dyn-syms", module)))
    assert "__stack_chk_fail" in undefined
    if platform.libc_ver()[0] == "glibc" and "/_hot." not in module:  # which calls nothing that could be checked
        assert [name for name in undefined if name.endswith("_chk")], "FORTIFY: snprintf, memcpy"


def test_large_frames_are_probed_page_by_page(code: str) -> None:
    probe = {"x86_64": r"sub +\$0x1000,%rsp\n[^\n]*or[a-z]* +\$0x0,", "aarch64": r"str\s+xzr, \[sp, #1024\]"}
    assert re.search(probe[platform.machine()], code)


def test_indirect_branches_may_only_go_where_functions_begin(module: str, code: str) -> None:
    name = module.rpartition("/")[2].partition(".")[0]
    first = re.search(rf"<PyInit_{name}>:\n *\w+:\s*([^\n]*)", code)
    assert first is not None
    assert re.search(FIRST_INSTRUCTION[platform.machine()], first[1])
