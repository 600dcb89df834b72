"""Which proxy an endpoint is reached by: http_proxy, https_proxy, all_proxy and no_proxy, as other programs read them.

Python's own rules know no networks, and have a machine ask its proxy for itself.
"""

from __future__ import annotations

import ipaddress
import urllib.request
from urllib.parse import unquote, urlsplit

import urllib3


def proxy_for(scheme: str, host: str, port: int) -> str | None:
    """Return the URL of the proxy, with its credentials, or None where the endpoint is reached without one."""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    return proxy if proxy and not is_exempt(host, port, proxies.get("no", "")) else None


def proxy_headers(proxy: str) -> dict[str, str]:
    """Return the header with the credentials that the URL of a proxy has, if it has any."""
    parts = urlsplit(proxy)
    if parts.username is None:
        return {}
    return urllib3.make_headers(proxy_basic_auth=f"{unquote(parts.username)}:{unquote(parts.password or '')}")


def is_exempt(host: str, port: int, no_proxy: str) -> bool:
    """Return whether an endpoint is reached without proxy: loopback, and what no_proxy names.

    Args:
        host: name or address.
        port: of the endpoint.
        no_proxy: `*`, or names (and all below them), addresses and networks, each with or without `:port`.

    Example:
        >>> [is_exempt(host, 4318, "10.0.0.0/8,.corp:4318") for host in ("10.1.2.3", "otel.corp", "11.0.0.1")]
        [True, True, False]
    """
    name = host.lower().strip("[]").rstrip(".")
    address = _address(name)
    if name == "localhost" or name.endswith(".localhost") or (address is not None and address.is_loopback):
        return True
    return any(_matches(entry.strip().lower(), name, address, port) for entry in no_proxy.split(","))


def _matches(entry: str, name: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int) -> bool:
    if entry == "*":
        return True
    if address is not None and "/" in entry:
        try:
            return address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    if _address(entry.strip("[]")) is None:  # else all of its colons are its own
        entry, colon, digits = entry.rpartition(":") if ":" in entry else (entry, "", "")
        if colon and digits != str(port):
            return False
    entry = entry.strip("[]").lstrip("*").strip(".")
    if address is not None:
        return address == _address(entry)
    return bool(entry) and (name == entry or name.endswith(f".{entry}"))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
