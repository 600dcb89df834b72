"""HOST:PORT."""

from __future__ import annotations

import pytest

from drain.settings.address import Address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9464", Address("127.0.0.1", 9464)),
        ("[::1]:0", Address("::1", 0)),
        ("localhost:1", Address("localhost", 1)),
        (":9464", Address("", 9464)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert Address.parse(text) == address


@pytest.mark.parametrize(
    "text", ["", "9464", "127.0.0.1", "127.0.0.1:x", "h:65536", "h:1/x", "u@h:1", "[::1:1", "h:-1"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="is no HOST:PORT"):
        Address.parse(text)
