"""Where held records come from: layout, resource and sampler of their ring, kept beside them; the ring may be gone."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import struct
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from drain.accounting.label_names import label_value
from drain.sampling.hold.files import PASSING, read_own, whole_file
from ringbuf._ringbuf import lib
from ringbuf.exceptions import LayoutError, RingBufferError
from ringbuf.layout.layout import SpanLayout
from ringbuf.ring.resource import SERVICE_NAME, resource_from_json

if TYPE_CHECKING:
    from pathlib import Path

_PREFIX: Final = "origin-"
_HEAD: Final = struct.Struct("<8sIIQ")
_MAGIC: Final = b"rb-orig\0"
_MOST_BYTES: Final = _HEAD.size + 2 * lib.RB_MAX_JSON_BYTES
_ID_BYTES: Final = 16


class OriginError(RingBufferError):
    """What says how records are read is not there, or not what was put there."""


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Origin:
    """What is known of records besides their bytes.

    Attributes:
        id: 16 bytes, the hash of the rest: equal origins are one.
        layout: of the records.
        resource: of their producer.
        root_threshold: of its sampler, as `rb_header.root_threshold`.
        service: the resource's name of it, cut as in the audit.
        document: the file's bytes.
    """

    id: bytes
    layout: SpanLayout
    resource: dict[str, Any]
    root_threshold: int
    service: str
    document: bytes = field(repr=False)


class Origins:
    """The origins of one hold, each in a file of its own; one that nobody refers to any more is forgotten by `sweep`.

    An owner may have as much as would be left then, as of the documents of attached rings: one alone has half of all,
    and there is always some for another.

    Args:
        folder: of the hold.
        most_bytes: of all documents.
    """

    def __init__(self, folder: Path, most_bytes: int = 1 << 30) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._owner_of: dict[bytes, int | None] = {}  # of what rings of this drain asked for first
        self._known: weakref.WeakValueDictionary[bytes, Origin] = weakref.WeakValueDictionary()
        self._stored: dict[bytes, int] = {}
        self._left: frozenset[bytes] = frozenset()
        for path in folder.glob(f"{_PREFIX}*"):
            with contextlib.suppress(ValueError, OSError):
                self._stored[bytes.fromhex(path.name.removeprefix(_PREFIX))] = path.lstat().st_size

    @property
    def stored_bytes(self) -> int:
        """What their files take."""
        return sum(self._stored.values())

    def keep(self, layout: bytes, resource: bytes, root_threshold: int, owner: int | None = None) -> Origin:
        """Return the origin of a ring's records, durable before any of them is held.

        Args:
            layout: the JSON of its header.
            resource: the same.
            root_threshold: of its header.
            owner: uid of its file.

        Raises:
            LayoutError: the layout is none.
            ValueError: the resource is none.
            OSError: there is no room for it.
        """
        document = _HEAD.pack(_MAGIC, len(layout), len(resource), root_threshold) + layout + resource
        identity = hashlib.blake2b(document, digest_size=_ID_BYTES).digest()
        origin = self._known.get(identity) or _origin_of(identity, document)
        self._known[identity] = origin
        if identity not in self._stored:
            if not self._has_room(len(document), owner):
                self.sweep()
                if not self._has_room(len(document), owner):
                    reason = f"layouts and resources of uid {owner} take too much of {self._most_bytes} bytes"
                    raise OSError(errno.EDQUOT, reason, str(self._folder))
            self._store(origin)
            self._owner_of[identity] = owner
        return origin

    def of(self, identity: bytes) -> Origin:
        """Return the origin that records of an earlier drain name.

        Raises:
            OriginError: it is gone, or was changed.
            OSError: there is no memory, or no descriptor, to open it.
        """
        origin = self._known.get(identity)
        if origin is None:
            try:
                document = read_own(self._path(identity), _MOST_BYTES)
                if hashlib.blake2b(document, digest_size=_ID_BYTES).digest() != identity:
                    raise OriginError(f"{self._path(identity)}: not what was put there")
                origin = self._known[identity] = _origin_of(identity, document)
            except (OSError, ValueError, struct.error) as error:  # a LayoutError is a ValueError
                if isinstance(error, OSError) and error.errno in PASSING:
                    raise
                raise OriginError(f"{self._path(identity)}: {error}") from error
        return origin

    def look(self) -> None:
        """Make those files anew that somebody has removed or cut.

        Raises:
            OSError: they cannot be made now.
        """
        for identity, size in [*self._stored.items()]:
            origin = self._known.get(identity)
            with contextlib.suppress(OSError):
                if self._path(identity).lstat().st_size == size:
                    continue
            if origin is None:
                del self._stored[identity]
            else:  # where there is no room now it is still to be looked for
                self._store(origin)

    def leave_found(self) -> None:
        """Keep the files that were found: records refer to them that this drain cannot read."""
        self._left = frozenset(self._stored)

    def sweep(self) -> None:
        """Remove the files to which neither records nor rings refer any more."""
        for identity in [one for one in self._stored if one not in self._known and one not in self._left]:
            del self._stored[identity]
            self._owner_of.pop(identity, None)
            self._path(identity).unlink(missing_ok=True)

    def _has_room(self, more: int, owner: int | None) -> bool:
        mine = sum(size for identity, size in self._stored.items() if self._owner_of.get(identity) == owner)
        return mine + more <= self._most_bytes - self.stored_bytes - more

    def _store(self, origin: Origin) -> None:
        with whole_file(self._path(origin.id), len(origin.document)) as fd:
            os.pwrite(fd, origin.document, 0)
        self._stored[origin.id] = len(origin.document)

    def _path(self, identity: bytes) -> Path:
        return self._folder / f"{_PREFIX}{identity.hex()}"


def _origin_of(identity: bytes, document: bytes) -> Origin:
    magic, layout_bytes, resource_bytes, root_threshold = _HEAD.unpack_from(document)
    is_whole = len(document) == _HEAD.size + layout_bytes + resource_bytes
    if magic != _MAGIC or not is_whole or root_threshold > lib.RB_THRESHOLDS:
        raise LayoutError("not an origin")
    layout = document[_HEAD.size : _HEAD.size + layout_bytes]
    resource = resource_from_json(document[_HEAD.size + layout_bytes :])
    service = resource.get(SERVICE_NAME)
    return Origin(
        identity,
        SpanLayout.from_json(layout),
        resource,
        root_threshold,
        label_value(service) if isinstance(service, str) else "",
        document,
    )
