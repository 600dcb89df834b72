"""GPU_SESSION: open the machine's GPU, let it do something, close it. The outcome is what this machine answers.

With an NVIDIA driver a session is a CUDA context that fills a buffer; with another GPU it is its render node; without
either, or without the right to use it, the spans say so.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from ctypes import byref, c_int, c_size_t, c_uint64, c_void_p
from pathlib import Path
from typing import TYPE_CHECKING

from ringbuf.dataplane import LeaseId, OpType, Outcome, site

if TYPE_CHECKING:
    from random import Random

_open = site(OpType.GPU_SESSION_OPEN)
_submit = site(OpType.GPU_SESSION_SUBMIT)
_close = site(OpType.GPU_SESSION_CLOSE)

_BUFFER_BYTES = 16 << 20
_NVIDIA_CONTROL = Path("/dev/nvidiactl")
_RENDER_NODES = Path("/dev/dri")
_CUDA_OPERATING_SYSTEM = 304  # CUDA_ERROR_OPERATING_SYSTEM: a device file may not be opened


class CudaContext:
    """A context of the first CUDA device, by the driver's C API.

    Raises:
        OSError: there is no driver, or it refuses.
    """

    def __init__(self) -> None:
        self._cuda = ctypes.CDLL("libcuda.so.1")
        self._context = c_void_p()
        device = c_int()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", byref(device), 0)
        self._call("cuCtxCreate_v2", byref(self._context), 0, device)

    def submit(self) -> int:
        """Fill a buffer on the device and wait for it."""
        buffer = c_uint64()
        self._call("cuMemAlloc_v2", byref(buffer), c_size_t(_BUFFER_BYTES))
        try:
            self._call("cuMemsetD8_v2", buffer, 0xA5, c_size_t(_BUFFER_BYTES))
            self._call("cuCtxSynchronize")
        finally:
            self._call("cuMemFree_v2", buffer)
        return _BUFFER_BYTES

    def close(self) -> None:
        """Destroy the context."""
        self._call("cuCtxDestroy_v2", self._context)

    def _call(self, function: str, *arguments: object) -> None:
        try:
            status = self._cuda[function](*arguments)
        except AttributeError:
            raise OSError(f"this driver has no {function}") from None
        if status == _CUDA_OPERATING_SYSTEM:
            raise PermissionError(f"{function}: the device may not be used")
        if status != 0:
            raise OSError(f"{function}: CUDA error {status}")


class RenderNode:
    """The render node of a GPU without CUDA: opened and closed here, no more, since each driver takes other commands.

    Raises:
        OSError: it may not be opened.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the node."""
        os.close(self._fd)


def open_device() -> CudaContext | RenderNode:
    """Return the machine's GPU.

    Raises:
        PermissionError: there is one, but not for us.
        OSError: there is none.
    """
    if _NVIDIA_CONTROL.exists():
        return CudaContext()
    nodes = sorted(_RENDER_NODES.glob("renderD*"))
    if nodes:
        return RenderNode(nodes[0])
    raise FileNotFoundError(f"neither {_NVIDIA_CONTROL} nor {_RENDER_NODES}/renderD*: this machine has no GPU")


def run_session(lease: LeaseId) -> None:
    """Open, submit, close; each step that is reached is a span."""
    device = None
    with _open.span(lease) as span:
        try:
            device = open_device()
        except PermissionError:
            span.outcome = Outcome.DENIED
        except OSError:
            span.outcome = Outcome.ERROR
    if device is None:
        return
    with suppress(OSError):  # each span has got the outcome ERROR when the exception went through its block
        try:
            if isinstance(device, CudaContext):
                with _submit.span(lease) as span:
                    span.nbytes = device.submit()
        finally:
            with _close.span(lease):
                device.close()


class GpuWork:
    """One process that opens GPU sessions, one after the other."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def step(self) -> None:
        """Run one session."""
        run_session(LeaseId(self._random.getrandbits(128)))

    def close(self) -> None:
        """Do nothing: each session was closed."""
