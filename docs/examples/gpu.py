"""GPU_SESSION: open the machine's GPU, let it do something, close it. The outcome is what this machine answers.

With an NVIDIA driver a session is a CUDA context: it allocates a buffer on the device, writes to it, loads a module,
launches its kernel, waits for it and reads the buffer back; each is a span under that of the submission. With another
GPU a session is its render node; without either, or without the right to use it, the spans say so.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from ctypes import byref, c_int, c_size_t, c_uint, c_uint64, c_void_p
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ringbuf.dataplane import LeaseId, OpType, Outcome, site

if TYPE_CHECKING:
    from random import Random

_open = site(OpType.GPU_SESSION_OPEN)
_submit = site(OpType.GPU_SESSION_SUBMIT)
_alloc = site(OpType.GPU_MEM_ALLOC)
_write = site(OpType.GPU_MEM_WRITE)
_load = site(OpType.GPU_MODULE_LOAD)
_launch = site(OpType.GPU_LAUNCH)
_sync = site(OpType.GPU_SYNC)
_read = site(OpType.GPU_MEM_READ)
_close = site(OpType.GPU_SESSION_CLOSE)

_DATA: Final = bytes(range(256)) * (64 << 10)
_INVERTED: Final = _DATA.translate(bytes(reversed(range(256))))
_WORD_BYTES: Final = 4
_BLOCK_THREADS: Final = 256
_KERNEL: Final = b"invert"
# Every bit of a buffer, inverted, a word a thread. The driver compiles it for the device that is there.
_MODULE: Final = b"""
.version 6.0
.target sm_50
.address_size 64

.visible .entry invert(.param .u64 words, .param .u32 count)
{
    .reg .pred %outside;
    .reg .b32 %block, %threads, %thread, %index, %limit, %word;
    .reg .b64 %base, %offset, %address;

    mov.u32 %block, %ctaid.x;
    mov.u32 %threads, %ntid.x;
    mov.u32 %thread, %tid.x;
    mad.lo.u32 %index, %block, %threads, %thread;
    ld.param.u32 %limit, [count];
    setp.ge.u32 %outside, %index, %limit;
    @%outside ret;

    ld.param.u64 %base, [words];
    cvta.to.global.u64 %base, %base;
    mul.wide.u32 %offset, %index, 4;
    add.u64 %address, %base, %offset;
    ld.global.b32 %word, [%address];
    not.b32 %word, %word;
    st.global.b32 [%address], %word;
    ret;
}
"""
_NVIDIA_CONTROL = Path("/dev/nvidiactl")
_RENDER_NODES = Path("/dev/dri")
_CUDA_OPERATING_SYSTEM = 304  # CUDA_ERROR_OPERATING_SYSTEM: a device file may not be opened


class CudaContext:
    """A context of the first CUDA device, by the driver's C API. Every method raises OSError where the driver refuses.

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

    def allocate(self, nbytes: int) -> c_uint64:
        """Return the address of a new buffer on the device."""
        buffer = c_uint64()
        self._call("cuMemAlloc_v2", byref(buffer), c_size_t(nbytes))
        return buffer

    def write(self, buffer: c_uint64, data: bytes) -> None:
        """Copy to the device."""
        self._call("cuMemcpyHtoD_v2", buffer, data, c_size_t(len(data)))

    def read(self, buffer: c_uint64, nbytes: int) -> bytes:
        """Copy from the device."""
        data = ctypes.create_string_buffer(nbytes)
        self._call("cuMemcpyDtoH_v2", data, buffer, c_size_t(nbytes))
        return data.raw

    def free(self, buffer: c_uint64) -> None:
        """Give a buffer back."""
        self._call("cuMemFree_v2", buffer)

    def load(self, module: bytes, kernel: bytes) -> c_void_p:
        """Compile a module and return one of its kernels, good until the context is destroyed."""
        loaded, function = c_void_p(), c_void_p()
        self._call("cuModuleLoadData", byref(loaded), module)
        self._call("cuModuleGetFunction", byref(function), loaded, kernel)
        return function

    def launch(self, kernel: c_void_p, buffer: c_uint64, nbytes: int) -> None:
        """Start a kernel on the words of a buffer; does not wait for it."""
        words = nbytes // _WORD_BYTES
        blocks = -(-words // _BLOCK_THREADS)
        count = c_uint(words)
        arguments = (c_void_p * 2)(ctypes.addressof(buffer), ctypes.addressof(count))
        self._call("cuLaunchKernel", kernel, blocks, 1, 1, _BLOCK_THREADS, 1, 1, 0, None, arguments, None)

    def synchronize(self) -> None:
        """Wait for all that was started."""
        self._call("cuCtxSynchronize")

    def close(self) -> None:
        """Destroy the context, and what was loaded into it."""
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


def submit(device: CudaContext, lease: LeaseId) -> None:
    """Invert a buffer on the device; each step is a span under that of the whole.

    Raises:
        OSError: a step failed, or what came back is not what the kernel makes.
    """
    with _submit.span(lease) as whole:
        with _alloc.span(lease) as span:
            buffer = device.allocate(len(_DATA))
            span.nbytes = len(_DATA)
        try:
            with _write.span(lease) as span:
                device.write(buffer, _DATA)
                span.nbytes = len(_DATA)
            with _load.span(lease) as span:
                kernel = device.load(_MODULE, _KERNEL)
                span.nbytes = len(_MODULE)
            with _launch.span(lease):
                device.launch(kernel, buffer, len(_DATA))
            with _sync.span(lease):
                device.synchronize()
            with _read.span(lease) as span:
                found = device.read(buffer, len(_DATA))
                span.nbytes = len(found)
        finally:
            device.free(buffer)
        if found != _INVERTED:
            raise OSError("the device did not do what the kernel says")
        whole.nbytes = len(_DATA)


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
                submit(device, lease)
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
