"""HOST:PORT."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from drain.settings.secrets_in_urls import without_secrets


class Address(NamedTuple):
    """Where to listen; port 0 is any free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `HOST:PORT`, an IPv6 address in brackets; without a host, every interface.

        Raises:
            ValueError: it is something else.

        >>> Address.parse("[::1]:9464")
        Address(host='::1', port=9464)
        """
        try:
            parts = urlsplit(f"//{text}")
            port = parts.port
        except ValueError:  # its text would quote what may be a password
            parts, port = urlsplit(""), None
        if port is None or parts.path or parts.query or parts.fragment or parts.username is not None:
            shown = without_secrets(text)
            raise ValueError(f"{shown!r} is no HOST:PORT, like 127.0.0.1:9464 or [::1]:9464; ports end at 65535")
        return cls(parts.hostname or "", port)
