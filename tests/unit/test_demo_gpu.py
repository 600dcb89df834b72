"""The demo's GPU sessions where there is a GPU: against a driver library of ours, since test machines have none."""

from __future__ import annotations

import ctypes
import importlib.util
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ringbuf
from ringbuf import shared
from ringbuf.dataplane import DATAPLANE_LAYOUT, LeaseId
from tests.consumer import Consumer, rings_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
CUDA_ERROR_NO_DEVICE = 100
CUDA_ERROR_OPERATING_SYSTEM = 304
CUDA_ERROR_ILLEGAL_ADDRESS = 700
# What the demo calls, with the types of cuda.h.
DRIVER = """
#include <stddef.h>
int held;
int cuInit(unsigned flags) { return flags == 0 ? INIT : 1; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal + 5; return 0; }
int cuCtxCreate_v2(void **context, unsigned flags, int device) {
    held++; *context = &held; return flags == 0 && device == 5 ? 0 : 1; }
int cuMemAlloc_v2(unsigned long long *buffer, size_t bytes) { held++; *buffer = ~0ull; return bytes ? 0 : 1; }
int cuMemsetD8_v2(unsigned long long buffer, unsigned char value, size_t bytes) {
    return buffer == ~0ull && value == 0xA5 && bytes == 16 << 20 ? FILL : 1; }
int cuCtxSynchronize(void) { return 0; }
int cuMemFree_v2(unsigned long long buffer) { held--; return buffer == ~0ull ? 0 : 1; }
int cuCtxDestroy_v2(void *context) { held--; return context == &held ? 0 : 1; }
"""


@pytest.fixture
def gpu(ring_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Return the demo's module, on a machine with an NVIDIA control device; its sites use this test's ring."""
    shared.SHARED.clear()
    monkeypatch.setenv("RINGBUF_DIR", str(ring_dir))
    spec = importlib.util.spec_from_file_location("demo_gpu", EXAMPLES / "gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    control = tmp_path / "nvidiactl"
    control.touch()
    monkeypatch.setattr(module, "_NVIDIA_CONTROL", control)
    monkeypatch.setattr(module, "_RENDER_NODES", tmp_path / "dri")
    yield module
    ringbuf.get_emitter().close()
    shared.SHARED.clear()


@pytest.fixture
def driver(c_compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ctypes.CDLL]:
    """Return a function that makes a driver library whose calls return these statuses, in libcuda's place."""
    real = ctypes.CDLL

    def make(*, init: int = 0, fill: int = 0, source: str = DRIVER) -> ctypes.CDLL:
        (tmp_path / "driver.c").write_text(source)
        library = tmp_path / "libcuda.so.1"
        flags = ["-shared", "-fPIC", f"-DINIT={init}", f"-DFILL={fill}"]
        subprocess.run([c_compiler, *flags, tmp_path / "driver.c", "-o", library], check=True)

        def load(name: str) -> ctypes.CDLL:
            assert name == "libcuda.so.1"
            return real(str(library))

        monkeypatch.setattr(ctypes, "CDLL", load)
        return real(str(library))

    return make


def session(gpu: ModuleType, ring_dir: Path) -> list[tuple[str, str, int | None]]:
    """Run a session; return operation, outcome and bytes of each span."""
    gpu.run_session(LeaseId(7))
    spans: list[tuple[str, str, int | None]] = []
    for path in rings_in(ring_dir):
        with Consumer(path) as consumer:
            for record in consumer.take_all():
                values: dict[str, Any] = dict(DATAPLANE_LAYOUT.values(record))
                operation = values["grafos.operation"].removeprefix("gpu_session_")
                spans.append((operation, values["grafos.outcome"], values.get("grafos.bytes")))
    return spans


def test_a_session_opens_fills_and_closes(gpu: ModuleType, driver: Callable[..., ctypes.CDLL], ring_dir: Path) -> None:
    library = driver()
    assert session(gpu, ring_dir) == [("open", "ok", None), ("submit", "ok", 16 << 20), ("close", "ok", None)]
    assert ctypes.c_int.in_dll(library, "held").value == 0, "a context or a buffer was not given back"


def test_a_device_that_may_not_be_opened_is_denied(
    gpu: ModuleType, driver: Callable[..., ctypes.CDLL], ring_dir: Path
) -> None:
    driver(init=CUDA_ERROR_OPERATING_SYSTEM)
    assert session(gpu, ring_dir) == [("open", "denied", None)]


def test_a_driver_without_a_device_is_an_error(
    gpu: ModuleType, driver: Callable[..., ctypes.CDLL], ring_dir: Path
) -> None:
    driver(init=CUDA_ERROR_NO_DEVICE)
    assert session(gpu, ring_dir) == [("open", "error", None)]


def test_a_driver_that_lacks_a_call_is_an_error(
    gpu: ModuleType, driver: Callable[..., ctypes.CDLL], ring_dir: Path
) -> None:
    driver(source="int cuOther;")
    assert session(gpu, ring_dir) == [("open", "error", None)]


def test_a_session_whose_work_fails_is_closed_all_the_same(
    gpu: ModuleType, driver: Callable[..., ctypes.CDLL], ring_dir: Path
) -> None:
    library = driver(fill=CUDA_ERROR_ILLEGAL_ADDRESS)
    assert session(gpu, ring_dir) == [("open", "ok", None), ("submit", "error", None), ("close", "ok", None)]
    assert ctypes.c_int.in_dll(library, "held").value == 0


def test_a_render_node_is_opened_and_closed(
    gpu: ModuleType, ring_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "_NVIDIA_CONTROL", tmp_path / "missing")
    (tmp_path / "dri").mkdir()
    (tmp_path / "dri" / "renderD128").touch()
    assert session(gpu, ring_dir) == [("open", "ok", None), ("close", "ok", None)]


def test_a_machine_without_a_gpu_says_so(
    gpu: ModuleType, ring_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "_NVIDIA_CONTROL", tmp_path / "missing")
    assert session(gpu, ring_dir) == [("open", "error", None)]
