"""CAPABILITY_CACHE: look-ups in a cache of signed, short-lived capabilities.

A look-up is one `site.emit`, a refresh is a `with` span: it does real work, and can fail.
"""

from __future__ import annotations

import hmac
import time
from typing import Final, NamedTuple

from ringbuf.dataplane import DataplaneSpanKind, LeaseId, OpType, Outcome, ResourceKind, emit_dataplane_span, site

# These capabilities are for leases of blocks; a cache for leases of several kinds has sites for each.
_lookup = site(OpType.CAPABILITY_LOOKUP, resource_kind=ResourceKind.BLOCK)
_refresh = site(OpType.CAPABILITY_REFRESH, resource_kind=ResourceKind.BLOCK)


class Capability(NamedTuple):
    """The right to use a lease until a moment, signed by the authority.

    Attributes:
        lease: raw lease id, 16 bytes.
        expires_unix_nano: when it ends, nanoseconds since 1970.
        signature: HMAC-SHA256 over the two.
    """

    lease: bytes
    expires_unix_nano: int
    signature: bytes


class Authority:
    """Grants capabilities and checks them. Whoever serves a lease has the same key.

    Args:
        key: the secret.
        lifetime_nano: how long a capability lasts.
    """

    def __init__(self, key: bytes, lifetime_nano: int) -> None:
        self._key = key
        self._lifetime_nano = lifetime_nano
        self.revoked: set[LeaseId] = set()

    def grant(self, lease: LeaseId) -> Capability:
        """Return a new capability.

        Raises:
            PermissionError: the lease is revoked.
        """
        if lease in self.revoked:
            raise PermissionError(f"{lease} is revoked")
        expires = time.time_ns() + self._lifetime_nano
        return Capability(lease.raw, expires, self._sign(lease.raw, expires))

    def check(self, capability: Capability, lease: LeaseId) -> Outcome:
        """Return OK, DENIED (forged, or of another lease) or EXPIRED."""
        expected = self._sign(capability.lease, capability.expires_unix_nano)
        if capability.lease != lease.raw or not hmac.compare_digest(capability.signature, expected):
            return Outcome.DENIED
        return Outcome.OK if time.time_ns() < capability.expires_unix_nano else Outcome.EXPIRED

    def _sign(self, lease: bytes, expires_unix_nano: int) -> bytes:
        return hmac.digest(self._key, lease + expires_unix_nano.to_bytes(8, "big"), "sha256")


class CapabilityCache:
    """Keeps capabilities until shortly before they expire.

    Args:
        authority: who grants what is missing.
    """

    MARGIN_NANO: Final = 1_000_000
    """A capability that has less left is not used: it could expire on the way."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._entries: dict[LeaseId, Capability] = {}

    def get(self, lease: LeaseId) -> Capability:
        """Return a capability that is good for now: the cached one, else a new one.

        Raises:
            PermissionError: the authority refuses.
        """
        found = self._look_up(lease)
        return found if found is not None else self._fetch(lease)

    def invalidate(self, lease: LeaseId) -> None:
        """Forget a capability, when its lease was revoked for example."""
        start = time.time_ns()
        found = self._entries.pop(lease, None)
        emit_dataplane_span(  # the door without a site: for what is rare
            DataplaneSpanKind.CAPABILITY_CACHE,
            lease_id=lease,
            resource_kind=ResourceKind.BLOCK,
            operation=OpType.CAPABILITY_INVALIDATE,
            outcome=Outcome.MISS if found is None else Outcome.OK,
            start_unix_nano=start,
            end_unix_nano=time.time_ns(),
        )

    def _look_up(self, lease: LeaseId) -> Capability | None:
        start = time.time_ns()
        found = self._entries.get(lease)
        if found is None:
            outcome = Outcome.MISS
        elif found.expires_unix_nano - start < self.MARGIN_NANO:
            outcome = Outcome.EXPIRED
        else:
            outcome = Outcome.HIT
        _lookup.emit(lease, start, time.time_ns(), None, outcome)
        return found if outcome is Outcome.HIT else None

    def _fetch(self, lease: LeaseId) -> Capability:
        with _refresh.span(lease) as span:
            try:
                granted = self._entries[lease] = self._authority.grant(lease)
            except PermissionError:
                span.outcome = Outcome.REVOKED  # without this line the span would say ERROR
                raise
            return granted
