"""Makes rings and damages them while a drain reads them: a process of test_hostile_files.py.

    python vandal.py RING_DIR SEED SECONDS

The files are written, not mapped: a process that maps a file which it cuts would die of that itself. Each ring is held
locked, so that the drain takes its producer to live, until its fate has come true. One line of JSON a ring goes to
stdout: its name, its fate, whether the drain had attached it before, whether its file is gone and whether it may stay.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import random
import struct
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import ringbuf
from ringbuf._ringbuf import ffi, lib
from tests.consumer import rings_in
from tests.service.draining import LAYOUT, emit
from tests.waiting import comes_true

if TYPE_CHECKING:
    from collections.abc import Callable

CAPACITY = 64
SPANS = 40
PATIENCE = 60.0  # seconds for the drain to see a ring, or to let go of it
HEADER = {name: field.offset for name, field in ffi.typeof("rb_header").fields}
LANE = {name: field.offset for name, field in ffi.typeof("rb_lane").fields}
POSITIONS = 1 << 64


class Vandal:
    """One source of bad rings, all copies of a sound one."""

    def __init__(self, ring_dir: Path, seed: int) -> None:
        self.ring_dir = ring_dir
        self.random = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
        self.service = f"bad-{seed}"
        self.number = 0
        self.was_newer = False  # the drain may have looked then, whatever else was done to the file
        self.sound = self.make_sound()
        header = ffi.from_buffer("rb_header *", self.sound)
        self.lanes = [header.header_bytes + lane * header.lane_stride_bytes for lane in range(header.lane_count)]
        self.header_bytes = header.header_bytes
        self.fates: dict[str, Callable[[Path, int], None]] = {
            "cut to nothing": lambda _path, fd: os.truncate(fd, 0),
            "cut in half": lambda _path, fd: os.truncate(fd, len(self.sound) // 2),
            "cut anywhere": lambda _path, fd: os.truncate(fd, self.random.randrange(self.lanes[1])),
            "cut and grown again": self.cut_and_grow,
            "grown": lambda _path, fd: os.truncate(fd, 2 * len(self.sound)),
            "header rewritten": self.rewrite_header,
            "lanes rewritten": self.rewrite_lanes,
            "slots rewritten": self.rewrite_slots,
            "removed": lambda path, _fd: path.unlink(),
            "replaced": self.replace,
            "tail flips": self.flip_tail,
            "tail runs": self.run_tail,
            "all at once": self.everything,
        }
        self.not_yet = self.random.sample(list(self.fates), len(self.fates))

    def make_sound(self) -> bytearray:
        """Return the bytes of a ring with two lanes and some spans in the first."""
        with (
            tempfile.TemporaryDirectory(dir=self.ring_dir) as folder,
            ringbuf.Emitter(self.service, ring_dir=folder, layout=LAYOUT, capacity=CAPACITY, lanes=2) as emitter,
        ):
            emit(emitter, range(SPANS))
            (path,) = rings_in(Path(folder))
            return bytearray(path.read_bytes())

    def place(self, content: bytes | bytearray) -> tuple[Path, int]:
        """Put a ring into the directory, as a producer that lives; return its path and the descriptor of its lock."""
        self.number += 1
        path = self.ring_dir / f"{self.service}-{self.number}.ring"
        hidden = path.with_suffix(".making")
        fd = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.pwrite(fd, content, 0)
        hidden.rename(path)
        return path, fd

    def wreck(self) -> None:
        """Make a ring, let the drain attach it or not, and see its fate through."""
        fate = self.not_yet.pop() if self.not_yet else self.random.choice(list(self.fates))
        path, fd = self.place(self.sound)
        inode = os.fstat(fd).st_ino
        is_attached = self.random.random() < 0.7 and comes_true(lambda: self.is_attached(fd), within=PATIENCE)
        self.fates[fate](path, fd)
        self.spoil_a_little(fd)
        ends_by_itself = fate in {"cut to nothing", "cut in half", "cut and grown again", "lanes rewritten"}
        is_gone = not ends_by_itself or comes_true(lambda: not has_inode(path, inode), within=PATIENCE)
        self.tell(path, fd, fate, is_attached=is_attached, is_gone=is_gone)

    def tell(self, path: Path, fd: int, fate: str, *, is_attached: bool, is_gone: bool = True) -> None:
        """Be a producer that is gone, and say what became of its file, which is to be gone too."""
        inode = os.fstat(fd).st_ino
        is_newer = self.was_newer or has_newer_version(fd)
        os.close(fd)
        self.was_newer = False
        # One of a newer version is left alone, if that is what the drain saw: who made it, removes it.
        may_stay = is_newer and not is_attached
        is_gone = is_gone and comes_true(lambda: not has_inode(path, inode), within=0.5 if may_stay else PATIENCE)
        line = {"ring": path.name, "fate": fate, "attached": is_attached, "gone": is_gone, "may_stay": may_stay}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    def is_attached(self, fd: int) -> bool:
        word = os.pread(fd, 4, self.lanes[0] + LANE["consumer_state"])
        return word == struct.pack("<I", lib.RB_CONSUMER_ATTACHED)

    def spoil_a_little(self, fd: int) -> None:
        """Write a few random bytes to the slots, whatever else happened."""
        if os.fstat(fd).st_size == len(self.sound):
            for _ in range(self.random.randrange(4)):
                at = self.random.randrange(self.lanes[0] + lib.RB_LANE_BYTES, self.lanes[1])
                os.pwrite(fd, self.random.randbytes(8), at)

    def cut_and_grow(self, _path: Path, fd: int) -> None:
        for _ in range(self.random.randrange(1, 50)):
            os.truncate(fd, self.random.choice([0, 4096, self.lanes[1]]))
            os.truncate(fd, len(self.sound))
        os.truncate(fd, 0)

    def rewrite_header(self, _path: Path, fd: int) -> None:
        for _ in range(self.random.randrange(1, 20)):
            os.pwrite(fd, self.random.randbytes(8), self.random.randrange(self.header_bytes - 8))
            self.was_newer |= has_newer_version(fd)

    def rewrite_lanes(self, _path: Path, fd: int) -> None:
        for at in self.lanes:
            os.pwrite(fd, self.random.randbytes(lib.RB_LANE_BYTES), at)

    def rewrite_slots(self, _path: Path, fd: int) -> None:
        first = self.lanes[0] + lib.RB_LANE_BYTES
        os.pwrite(fd, self.random.randbytes(self.lanes[1] - first), first)
        os.pwrite(fd, struct.pack("<Q", CAPACITY), self.lanes[0])

    def replace(self, path: Path, _fd: int) -> None:
        """Let another ring, sound or not, take the name."""
        content = bytearray(self.sound)
        if self.random.randrange(2):
            # Not of the version: a newer one is left alone for good, and nobody would remove it.
            content[self.random.randrange(HEADER["header_bytes"], len(content))] ^= 0xFF
        other, fd = self.place(content)
        other.rename(path)
        os.close(fd)

    def flip_tail(self, _path: Path, fd: int) -> None:
        """Move a tail back and forth as fast as a process can that maps the file."""
        tails = [self.random.randrange(2 * CAPACITY) for _ in range(self.random.randrange(2, 5))]
        tails += self.random.choice([[], [POSITIONS - 1], [1 << 32]])
        words = [struct.pack("<Q", tail) for tail in tails]
        with mmap.mmap(fd, len(self.sound)) as mapped:
            at, end = self.lanes[self.random.randrange(2)], time.monotonic() + self.random.uniform(0.01, 0.2)
            while time.monotonic() < end:
                for word in words:
                    mapped[at : at + 8] = word

    def run_tail(self, _path: Path, fd: int) -> None:
        """Publish whatever the slots hold, a whole lane whenever the drain has released one."""
        with mmap.mmap(fd, len(self.sound)) as mapped:
            at, end = self.lanes[0], time.monotonic() + self.random.uniform(0.01, 0.2)
            while time.monotonic() < end:
                (head,) = struct.unpack_from("<Q", mapped, at + LANE["head"])
                mapped[at : at + 8] = struct.pack("<Q", (head + CAPACITY) % POSITIONS)

    def everything(self, path: Path, fd: int) -> None:
        """Do a number of these things, one after the other."""
        gentle = [fate for fate in self.fates if fate not in {"removed", "replaced", "all at once", "tail flips"}]
        for fate in self.random.sample(gentle, self.random.randrange(2, 5)):
            if os.fstat(fd).st_size >= len(self.sound):
                self.fates[fate](path, fd)

    def lie(self) -> None:
        """Put a file that is no ring any more, with a checksum that fits, among the rings."""
        content = bytearray(self.sound)
        for _ in range(self.random.randrange(1, 4)):
            name = self.random.choice([name for name in HEADER if name not in {"magic", "reserved", "crc32"}])
            size = ffi.sizeof(dict(ffi.typeof("rb_header").fields)[name].type)
            value = self.random.choice([0, 1, 4096, (1 << 8 * size) - 1, self.random.getrandbits(8 * size)])
            content[HEADER[name] : HEADER[name] + size] = (value % (1 << 8 * size)).to_bytes(size, "little")
        struct.pack_into("<I", content, HEADER["crc32"], 0)
        struct.pack_into("<I", content, HEADER["crc32"], zlib.crc32(content[: self.header_bytes]))
        path, fd = self.place(content)
        self.tell(path, fd, "lies", is_attached=False)


def has_newer_version(fd: int) -> bool:
    major = int.from_bytes(os.pread(fd, 2, HEADER["abi_major"]), "little")
    return bool(major > lib.RB_ABI_MAJOR)


def has_inode(path: Path, inode: int) -> bool:
    try:
        return path.stat().st_ino == inode
    except FileNotFoundError:
        return False


def main() -> None:
    """Go on for the time that is asked for, and until each fate has come true once."""
    vandal = Vandal(Path(sys.argv[1]), int(sys.argv[2]))
    end = time.monotonic() + float(sys.argv[3])
    while vandal.not_yet or time.monotonic() < end:
        if vandal.random.randrange(4):
            vandal.wreck()
        else:
            vandal.lie()


if __name__ == "__main__":
    main()
