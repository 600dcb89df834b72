"""A link with a delay, which kernels without netem have not: packets from one TUN device come out of the other later.

argv: namespace and device of one end, of the other, milliseconds. Says "ready", and goes on until its input ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import struct
import sys
import time
from collections import deque

_SET_DEVICE = 0x400454CA  # TUNSETIFF
_TUN_WITHOUT_HEADER = 0x1001  # IFF_TUN | IFF_NO_PI
_NEW_NETWORK = 0x4000_0000
_LONGEST_PACKET = 65536
_MOST_WAITING = 2000  # what is more is dropped, as by any router


def device(namespace: str, name: str) -> int:
    """Make a TUN device there, and return its descriptor."""
    with open(namespace) as there:  # noqa: PTH123 - nothing but a descriptor is wanted
        assert ctypes.CDLL(None).setns(there.fileno(), _NEW_NETWORK) == 0
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _SET_DEVICE, struct.pack("16sH22x", name.encode(), _TUN_WITHOUT_HEADER))
    return descriptor


def main() -> None:
    one, other = device(*sys.argv[1:3]), device(*sys.argv[3:5])
    delay = int(sys.argv[5]) / 1000
    print("ready", flush=True)  # noqa: T201 - whoever started it waits
    to = {one: other, other: one}
    waiting: deque[tuple[float, int, bytes]] = deque()
    while True:
        pause = None if not waiting else max(0.0, waiting[0][0] - time.monotonic())
        for ready in select.select([one, other, sys.stdin.fileno()], [], [], pause)[0]:
            if ready not in to:
                return
            packet = os.read(ready, _LONGEST_PACKET)
            if len(waiting) < _MOST_WAITING:
                waiting.append((time.monotonic() + delay, to[ready], packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, there, packet = waiting.popleft()
            with contextlib.suppress(OSError):  # that end is down: the packet is lost, as on a wire
                os.write(there, packet)


if __name__ == "__main__":
    main()
