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
# What the demo calls, with the types of cuda.h; the device's memory is this machine's.
DRIVER = """
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
int held;
static int module, function;
int cuInit(unsigned flags) { return flags == 0 ? INIT : 1; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal + 5; return 0; }
int cuCtxCreate_v2(void **context, unsigned flags, int device) {
    held++; *context = &held; return flags == 0 && device == 5 ? 0 : 1; }
int cuMemAlloc_v2(unsigned long long *buffer, size_t bytes) {
    if (ALLOC) return ALLOC;
    held++; *buffer = (unsigned long long)malloc(bytes); return bytes ? 0 : 1; }
int cuMemcpyHtoD_v2(unsigned long long to, const void *from, size_t bytes) {
    memcpy((void *)to, from, bytes); return 0; }
int cuMemcpyDtoH_v2(void *to, unsigned long long from, size_t bytes) {
    memcpy(to, (void *)from, bytes); return READ; }
int cuModuleLoadData(void **made, const void *image) {
    *made = &module; return strstr(image, ".entry invert") ? LOAD : 1; }
int cuModuleGetFunction(void **made, void *of, const char *name) {
    *made = &function; return of == &module && strcmp(name, "invert") == 0 ? 0 : 1; }
int cuLaunchKernel(void *kernel, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **arguments, void *extra) {
    unsigned long long words = *(unsigned long long *)arguments[0];
    unsigned count = *(unsigned *)arguments[1];
    if (kernel != &function || shared || stream || extra || y * z * by * bz != 1 || x * bx < count) return 1;
    for (unsigned at = 0; at < count; at++) ((unsigned *)words)[at] ^= MASK;
    return 0; }
int cuCtxSynchronize(void) { return SYNC; }
int cuMemFree_v2(unsigned long long buffer) { held--; free((void *)buffer); return 0; }
int cuCtxDestroy_v2(void *context) { held--; return context == &held ? 0 : 1; }
"""
BYTES = 16 << 20
STEPS = ["mem_alloc", "mem_write", "module_load", "launch", "sync", "mem_read"]


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

    def make(source: str = DRIVER, **statuses: int) -> ctypes.CDLL:
        (tmp_path / "driver.c").write_text(source)
        library = tmp_path / "libcuda.so.1"
        given = {"INIT": 0, "ALLOC": 0, "LOAD": 0, "SYNC": 0, "READ": 0, "MASK": 0xFFFFFFFF} | statuses
        flags = ["-shared", "-fPIC", *(f"-D{name}={value}" for name, value in given.items())]
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
                operation = values["grafos.operation"].removeprefix("gpu_").removeprefix("session_")
                spans.append((operation, values["grafos.outcome"], values.get("grafos.bytes")))
    return spans


def test_every_step_of_a_session_is_a_span_under_the_submission(
    gpu: ModuleType, driver: Callable[..., ctypes.CDLL], ring_dir: Path
) -> None:
    library = driver()
    found = session(gpu, ring_dir)
    operations = [operation for operation, _outcome, _nbytes in found]
    assert operations == ["open", *STEPS, "submit", "close"]
    assert {outcome for _operation, outcome, _nbytes in found} == {"ok"}
    moved = {operation: nbytes for operation, _outcome, nbytes in found if nbytes is not None}
    assert moved.keys() == {"mem_alloc", "mem_write", "module_load", "mem_read", "submit"}
    assert [moved[operation] for operation in ("mem_alloc", "mem_write", "mem_read", "submit")] == [BYTES] * 4
    assert ctypes.c_int.in_dll(library, "held").value == 0, "a context or a buffer was not given back"


def test_a_device_that_may_not_be_opened_is_denied(
    gpu: ModuleType, driver: Callable[..., ctypes.CDLL], ring_dir: Path
) -> None:
    driver(INIT=CUDA_ERROR_OPERATING_SYSTEM)
    assert session(gpu, ring_dir) == [("open", "denied", None)]


def test_a_driver_without_a_device_is_an_error(
    gpu: ModuleType, driver: Callable[..., ctypes.CDLL], ring_dir: Path
) -> None:
    driver(INIT=CUDA_ERROR_NO_DEVICE)
    assert session(gpu, ring_dir) == [("open", "error", None)]


def test_a_driver_that_lacks_a_call_is_an_error(
    gpu: ModuleType, driver: Callable[..., ctypes.CDLL], ring_dir: Path
) -> None:
    driver(source="int cuOther;")
    assert session(gpu, ring_dir) == [("open", "error", None)]


@pytest.mark.parametrize(
    ("statuses", "failing"),
    [({"ALLOC": 2}, "mem_alloc"), ({"LOAD": 218}, "module_load"), ({"SYNC": 700}, "sync"), ({"READ": 700}, "mem_read")],
    ids=["out-of-memory", "invalid-ptx", "illegal-address", "read"],
)
def test_a_session_whose_work_fails_says_at_which_step_and_is_closed_all_the_same(
    gpu: ModuleType, driver: Callable[..., ctypes.CDLL], ring_dir: Path, statuses: dict[str, int], failing: str
) -> None:
    library = driver(**statuses)
    before = STEPS[: STEPS.index(failing)]
    assert [(operation, outcome) for operation, outcome, _nbytes in session(gpu, ring_dir)] == [
        ("open", "ok"),
        *((step, "ok") for step in before),
        (failing, "error"),
        ("submit", "error"),
        ("close", "ok"),
    ]
    assert ctypes.c_int.in_dll(library, "held").value == 0


def test_a_device_that_computes_something_else_is_an_error(
    gpu: ModuleType, driver: Callable[..., ctypes.CDLL], ring_dir: Path
) -> None:
    driver(MASK=0xFFFFFFFE)
    found = {operation: outcome for operation, outcome, _nbytes in session(gpu, ring_dir)}
    assert found == {"open": "ok", **dict.fromkeys(STEPS, "ok"), "submit": "error", "close": "ok"}


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
