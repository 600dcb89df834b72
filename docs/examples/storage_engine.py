"""A log-structured key-value store with a vocabulary of its own: what tracing a data plane looks like outside grafOS.

Writes go to a log and a table in memory; a full table becomes a sorted file (flush), and many files become one
(compaction). Each operation is a span, and what happens inside it is a child by itself, since spans nest by `with`.

    python docs/examples/storage_engine.py FOLDER [OPERATIONS]

makes a store in FOLDER, works on it, and prints what became of its spans; a `ringbuf-drain` delivers them.
"""

from __future__ import annotations

import json
import os
import random
import struct
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import ringbuf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# --8<-- [start:layout]
LAYOUT: Final = ringbuf.SpanLayout(
    span_names=["kv.open", "kv.get", "kv.put", "kv.log", "kv.flush", "kv.compact"],
    attributes=[
        ringbuf.Attribute("kv.key", "str", 30),
        ringbuf.Attribute("kv.bytes", "u64"),
        ringbuf.Attribute("kv.found_in", "label", labels=("nothing", "memory", "file"), metric_label=True),
        ringbuf.Attribute("kv.files", "u16"),
        ringbuf.Attribute("kv.keys", "u32"),
        ringbuf.Attribute("kv.is_delete", "bool", metric_label=True),
    ],
    scope_name="kv",
    scope_version="1",
)
# --8<-- [end:layout]

_HEAD: Final = struct.Struct("<III")  # CRC-32 of what follows, key bytes, value bytes
_DELETED: Final = 0xFFFFFFFF  # in place of the value's bytes
_LOG: Final = "log"
_MANIFEST: Final = "manifest"


class _Place(NamedTuple):
    """Where a value lies in a sorted file; `nbytes` is _DELETED for a key that was removed."""

    offset: int
    nbytes: int


class _SortedFile:
    """An immutable file of entries in the order of their keys, and where each value lies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb")
        self.places: dict[bytes, _Place] = {}
        offset = 0
        for key, value in _entries(path.read_bytes()):
            offset += _HEAD.size + len(key)
            self.places[key] = _Place(offset, _DELETED if value is None else len(value))
            offset += len(value or b"")

    def read(self, place: _Place) -> bytes | None:
        if place.nbytes == _DELETED:
            return None
        return os.pread(self._file.fileno(), place.nbytes, place.offset)

    def entries(self) -> Iterator[tuple[bytes, bytes | None]]:
        return ((key, self.read(place)) for key, place in self.places.items())

    def close(self) -> None:
        self._file.close()


class Store:
    """A key-value store in a folder, which survives a kill at any moment. One thread, one process.

    Args:
        folder: made if it is not there.
        emitter: of LAYOUT.
        memory_bytes: of keys and values in memory, beyond which they become a file.
        max_files: beyond which all become one.
    """

    def __init__(
        self, folder: Path, emitter: ringbuf.Emitter, *, memory_bytes: int = 1 << 20, max_files: int = 4
    ) -> None:
        # Bound once; what varies from span to span is given in this order, or set inside the block by its key.
        self._get = emitter.site("kv.get", varying=["kv.key", "kv.found_in", "kv.bytes", "kv.files"])
        self._put = emitter.site("kv.put", varying=["kv.key", "kv.bytes", "kv.is_delete"])
        self._log_span = emitter.site("kv.log", varying=["kv.bytes"])
        self._flush = emitter.site("kv.flush", varying=["kv.keys", "kv.bytes"])
        self._compact = emitter.site("kv.compact", varying=["kv.files", "kv.keys", "kv.bytes"])
        self._folder = folder
        self._memory_bytes = memory_bytes
        self._max_files = max_files
        folder.mkdir(exist_ok=True)
        with emitter.site("kv.open", varying=["kv.files", "kv.keys"]).span() as span:
            self._files = [_SortedFile(folder / name) for name in self._manifest()]
            for stray in set(folder.glob("*.sorted")) - {file.path for file in self._files}:
                stray.unlink()  # a kill between its writing and the manifest's
            self._memory = self._recover()
            self._filled = sum(len(key) + len(value or b"") for key, value in self._memory.items())
            span["kv.files"] = len(self._files)
            span["kv.keys"] = len(self._memory)

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, None without one."""
        with self._get.span(key.decode(errors="replace"), "nothing") as span:
            if key in self._memory:
                found = self._memory[key]
                span["kv.found_in"] = "memory"
                span["kv.bytes"] = len(found or b"")
                return found
            for looked_at, file in enumerate(reversed(self._files), 1):
                span["kv.files"] = looked_at
                if key in file.places:
                    found = file.read(file.places[key])
                    span["kv.found_in"] = "file"
                    span["kv.bytes"] = len(found or b"")
                    return found
        return None

    def put(self, key: bytes, value: bytes) -> None:
        """Set the value of a key: on disk when it returns."""
        self._write(key, value)

    def delete(self, key: bytes) -> None:
        """Remove a key, whether or not it is there."""
        self._write(key, None)

    def _write(self, key: bytes, value: bytes | None) -> None:
        with self._put.span(key.decode(errors="replace"), len(value or b""), value is None):
            entry = _entry(key, value)
            with self._log_span.span(len(entry)):
                self._log.write(entry)
                self._log.flush()
                os.fdatasync(self._log.fileno())
            self._memory[key] = value
            self._filled += len(key) + len(value or b"")
            if self._filled >= self._memory_bytes:
                self._flush_memory()

    def _flush_memory(self) -> None:
        with self._flush.span(len(self._memory), self._filled):
            self._files.append(self._write_sorted(self._memory.items()))
            if len(self._files) > self._max_files:
                self._compact_files()
            self._set_manifest()
            self._log.truncate(0)  # all of it is in files now
            self._memory.clear()
            self._filled = 0

    def _compact_files(self) -> None:
        with self._compact.span(len(self._files)) as span:
            newest = {key: value for file in self._files for key, value in file.entries()}
            before = self._files
            # Nothing older is left that a removed key could hide.
            kept = {key: value for key, value in newest.items() if value is not None}
            self._files = [self._write_sorted(kept.items())]
            self._set_manifest()
            for file in before:
                file.close()
                file.path.unlink()
            span["kv.keys"] = len(kept)
            span["kv.bytes"] = self._files[0].path.stat().st_size

    def _write_sorted(self, entries: Iterable[tuple[bytes, bytes | None]]) -> _SortedFile:
        number = 1 + max((int(path.stem) for path in self._folder.glob("*.sorted")), default=0)
        path = self._folder / f"{number}.sorted"
        _write_durably(path, b"".join(_entry(key, value) for key, value in sorted(entries)))
        return _SortedFile(path)

    def _manifest(self) -> list[str]:
        try:
            names: list[str] = json.loads((self._folder / _MANIFEST).read_bytes())
        except FileNotFoundError:
            return []
        return names

    def _set_manifest(self) -> None:
        fresh = self._folder / f"{_MANIFEST}.new"
        _write_durably(fresh, json.dumps([file.path.name for file in self._files]).encode())
        fresh.replace(self._folder / _MANIFEST)

    def _recover(self) -> dict[bytes, bytes | None]:
        path = self._folder / _LOG
        path.touch()
        data = path.read_bytes()
        memory = dict(_entries(data))
        self._log = path.open("ab")
        self._log.truncate(sum(len(_entry(key, value)) for key, value in _entries(data)))  # a torn end goes
        return memory

    def close(self) -> None:
        """Close the files."""
        self._log.close()
        for file in self._files:
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def _entry(key: bytes, value: bytes | None) -> bytes:
    sizes = struct.pack("<II", len(key), _DELETED if value is None else len(value))
    content = sizes + key + (value or b"")
    return struct.pack("<I", zlib.crc32(content)) + content


def _entries(data: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield what was written whole; the first entry that was not ends it."""
    at = 0
    while at + _HEAD.size <= len(data):
        crc, key_bytes, value_bytes = _HEAD.unpack_from(data, at)
        start = at + _HEAD.size
        end = start + key_bytes + (0 if value_bytes == _DELETED else value_bytes)
        if end > len(data) or zlib.crc32(data[at + 4 : end]) != crc:
            return
        key = data[start : start + key_bytes]
        yield key, None if value_bytes == _DELETED else data[start + key_bytes : end]
        at = end


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def main(folder: Path, operations: int = 10_000) -> None:
    """Work on a store and print what became of its spans."""
    chance = random.Random(219)  # noqa: S311 - the same work in each run
    with ringbuf.Emitter("kv-store", layout=LAYOUT) as emitter, Store(folder, emitter, memory_bytes=1 << 14) as store:
        for _ in range(operations):
            key = f"user/{int(chance.paretovariate(1)) % 1000}".encode()
            match chance.randrange(10):
                case 0:
                    store.delete(key)
                case 1 | 2 | 3:
                    store.put(key, chance.randbytes(chance.randrange(400)))
                case _:
                    store.get(key)
        stats = emitter.stats()
    print(f"{stats.attempts:,} spans: {stats.published:,} written, {stats.attempts - stats.published:,} dropped")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
