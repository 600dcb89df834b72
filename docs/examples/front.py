"""The front process: it asks a storage worker, another process, on behalf of tenants, and its traces go on there.

The client's span is the parent of all that happens for the request: here the look-up of the capability (by nesting), in
the worker the block operation (by `span.traceparent`).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from block import Reply, Request
from capability import Authority, CapabilityCache

from ringbuf.dataplane import LeaseId, OpType, Outcome, site

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from random import Random

_site = {op: site(op) for op in (OpType.FBBU_READ, OpType.FBBU_WRITE)}
_BLOCK_BYTES = 4096
_REVOKED_AT_ONCE = 3


class StorageClient:
    """Block operations over a connection to a storage worker.

    Args:
        connection: to the worker.
        capabilities: where the right to use a lease comes from.
    """

    def __init__(self, connection: Connection, capabilities: CapabilityCache) -> None:
        self._connection = connection
        self._capabilities = capabilities

    def read(self, lease: LeaseId, offset: int, nbytes: int, *, with_right_to: LeaseId | None = None) -> Reply:
        """Read from a lease; `with_right_to` presents the capability of another one, which the worker refuses."""
        return self._ask(OpType.FBBU_READ, lease, offset, nbytes, b"", with_right_to=with_right_to)

    def write(self, lease: LeaseId, offset: int, data: bytes, *, is_synchronous: bool) -> Reply:
        """Write to a lease."""
        return self._ask(OpType.FBBU_WRITE, lease, offset, 0, data, is_synchronous=is_synchronous)

    def _ask(
        self,
        operation: OpType,
        lease: LeaseId,
        offset: int,
        nbytes: int,
        data: bytes,
        *,
        is_synchronous: bool = False,
        with_right_to: LeaseId | None = None,
    ) -> Reply:
        with _site[operation].span(lease) as span:
            try:
                capability = self._capabilities.get(with_right_to or lease)
            except PermissionError:
                span.outcome = Outcome.REVOKED
                return Reply(Outcome.REVOKED, b"", 0)
            self._connection.send(
                Request(operation, lease, capability, offset, nbytes, data, is_synchronous, span.traceparent)
            )
            reply: Reply = self._connection.recv()
            span.outcome = reply.outcome
            span.nbytes = reply.nbytes
            return reply


class FrontWork:
    """One front process's requests for 64 tenants: mostly reads and writes, and now and then something that fails."""

    def __init__(self, random: Random, connection: Connection, authority: Authority, file_bytes: int) -> None:
        self._random = random
        self._authority = authority
        self._cache = CapabilityCache(authority)
        self._client = StorageClient(connection, self._cache)
        self._leases = [LeaseId(random.getrandbits(128)) for _ in range(64)]
        self._data = random.randbytes(16 * _BLOCK_BYTES)
        self._blocks = (file_bytes - len(self._data)) // _BLOCK_BYTES
        self._revoked: deque[LeaseId] = deque()
        # Of 1,000 requests; the disk takes its time, so that few writes wait for it.
        self._mix = {
            self._read: 700,
            self._write: 275,
            self._write_synchronously: 10,
            self._read_with_a_foreign_capability: 5,
            self._revoke: 10,
        }

    def step(self) -> None:
        """Do one request."""
        random = self._random
        action = random.choices([*self._mix], [*self._mix.values()])[0]
        offset = _BLOCK_BYTES * random.randrange(self._blocks)
        action(random.choice(self._leases), offset, _BLOCK_BYTES << random.randrange(5))

    def close(self) -> None:
        """Do nothing: the connection is the caller's."""

    def _read(self, lease: LeaseId, offset: int, nbytes: int) -> None:
        self._client.read(lease, offset, nbytes)

    def _write(self, lease: LeaseId, offset: int, nbytes: int) -> None:
        self._client.write(lease, offset, self._data[:nbytes], is_synchronous=False)

    def _write_synchronously(self, lease: LeaseId, offset: int, nbytes: int) -> None:
        self._client.write(lease, offset, self._data[:nbytes], is_synchronous=True)

    def _read_with_a_foreign_capability(self, lease: LeaseId, offset: int, nbytes: int) -> None:
        self._client.read(lease, offset, nbytes, with_right_to=self._random.choice(self._leases))

    def _revoke(self, lease: LeaseId, _offset: int, _nbytes: int) -> None:
        """Take a tenant's right away, and give it back to the one who lost it three revocations ago."""
        self._revoked.append(lease)
        self._authority.revoked.add(lease)
        self._cache.invalidate(lease)
        if len(self._revoked) > _REVOKED_AT_ONCE:
            self._authority.revoked.discard(self._revoked.popleft())
