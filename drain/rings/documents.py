"""The documents of attached rings: their layouts, of which equal ones are one, and how much all of them may take.

A layout of 230 kB of JSON takes ten times that when it is read, and a fleet of workers has one layout. Headers come
from the producers, who could fill the drain's memory with ever new ones.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ringbuf.layout.layout import SpanLayout

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_BYTES: Final = 64 << 20
"""Of the JSON of all layouts, equal ones once, and resources."""


@dataclass(slots=True)
class _Shared:
    layout: SpanLayout
    owner: int
    json_bytes: int
    rings: int = 0


class Documents:
    """What the attached rings' headers hold; one thread uses it.

    An owner may have as much as would be left then: one alone has half of all, and there is always some for another.

    Args:
        most_bytes: of JSON, together.
        read: makes a layout of its JSON.
    """

    def __init__(
        self, most_bytes: int = MOST_BYTES, read: Callable[[bytes], SpanLayout] = SpanLayout.from_json
    ) -> None:
        self._most_bytes = most_bytes
        self._read = read
        self._shared: dict[bytes, _Shared] = {}
        self._bytes_by_owner: Counter[int] = Counter()

    def hold(self, owner: int, layout: bytes, resource: bytes) -> Held:
        """Read the layout of a ring, or find the equal one, until the ring gives it back.

        Args:
            owner: uid of the ring's file.
            layout: its JSON.
            resource: its JSON, which is only counted.

        Raises:
            LayoutError: it is no layout.
            MemoryError: the documents of this owner take too much, until other rings of it end.
        """
        digest = hashlib.blake2b(layout).digest()
        shared = self._shared.get(digest)
        more = len(resource) + (len(layout) if shared is None else 0)
        mine, all_bytes = self._bytes_by_owner[owner], self._bytes_by_owner.total()
        if mine + more > self._most_bytes - all_bytes - more:
            raise MemoryError(f"layouts and resources of uid {owner} take {mine} bytes: no room for {more} more")
        if shared is None:
            shared = self._shared[digest] = _Shared(self._read(layout), owner, len(layout))
            self._bytes_by_owner[owner] += len(layout)
        shared.rings += 1
        self._bytes_by_owner[owner] += len(resource)
        return Held(self, shared.layout, digest, owner, len(resource))

    def let_go(self, held: Held) -> None:
        """Forget a ring's documents."""
        self._take_off(held.owner, held.resource_bytes)
        shared = self._shared[held.digest]
        shared.rings -= 1
        if not shared.rings:
            del self._shared[held.digest]
            self._take_off(shared.owner, shared.json_bytes)

    def _take_off(self, owner: int, count: int) -> None:
        self._bytes_by_owner[owner] -= count
        if not self._bytes_by_owner[owner]:
            del self._bytes_by_owner[owner]


@dataclass(frozen=True, slots=True)
class Held:
    """One ring's share of `Documents`.

    Attributes:
        documents: whose.
        layout: of the ring.
        digest: of the layout's JSON.
        owner: uid of the ring's file.
        resource_bytes: of the resource's JSON.
    """

    documents: Documents
    layout: SpanLayout
    digest: bytes
    owner: int
    resource_bytes: int

    def let_go(self) -> None:
        """Forget them; called once."""
        self.documents.let_go(self)
