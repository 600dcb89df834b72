"""Which endpoints are reached by the proxy of the environment, and with which credentials."""

from __future__ import annotations

from base64 import b64encode

import pytest

from drain.exporters.proxy import is_exempt, proxy_for, proxy_headers


@pytest.mark.parametrize(
    ("host", "no_proxy"),
    [
        ("localhost", ""),
        ("a.localhost", ""),
        ("127.0.0.1", ""),
        ("127.9.9.9", ""),
        ("::1", ""),
        ("[::1]", ""),
        ("otel.corp", "*"),
        ("otel.corp", "otel.corp"),
        ("OTEL.corp.", "otel.CORP"),
        ("otel.corp", "corp"),
        ("otel.corp", ".corp"),
        ("otel.corp", "*.corp"),
        ("otel.corp", "x, otel.corp:4318"),
        ("10.1.2.3", "10.0.0.0/8"),
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.3", "10.1.2.3:4318"),
        ("fd00::1", "fd00::/8"),
        ("fd00::1", "fd00::1"),
        ("fd00::1", "[fd00::1]:4318"),
    ],
)
def test_what_is_exempt(host: str, no_proxy: str) -> None:
    assert is_exempt(host, 4318, no_proxy)


@pytest.mark.parametrize(
    ("host", "no_proxy"),
    [
        ("otel.corp", ""),
        ("otel.corp", ","),
        ("otel.corp", "otel.corp:80"),
        ("xcorp", "corp"),
        ("otel.corp", "10.0.0.0/8"),
        ("11.1.2.3", "10.0.0.0/8"),
        ("10.1.2.3", "10.1.2.3:80"),
        ("10.1.2.3", "2.3"),
        ("10.1.2.3", "10.0.0.0/99"),
        ("fd00::1", "[fd00::1]:80"),
        ("fd00::1", "10.0.0.0/8"),
        ("localhost.corp", ""),
    ],
)
def test_what_is_not_exempt(host: str, no_proxy: str) -> None:
    assert not is_exempt(host, 4318, no_proxy)


def test_the_variables_name_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert proxy_for("http", "otel.corp", 80) is None
    monkeypatch.setenv("ALL_PROXY", "http://any:1")
    monkeypatch.setenv("https_proxy", "http://tls:2")
    assert proxy_for("http", "otel.corp", 80) == "http://any:1"
    assert proxy_for("https", "otel.corp", 443) == "http://tls:2"
    monkeypatch.setenv("NO_PROXY", "corp")
    assert proxy_for("https", "otel.corp", 443) is None


def test_the_credentials_of_a_proxys_url_are_sent_to_it() -> None:
    assert proxy_headers("http://proxy:3128") == {}
    expected = b64encode(b"me@corp:p:w").decode()
    assert proxy_headers("http://me%40corp:p%3Aw@proxy:3128") == {"proxy-authorization": f"Basic {expected}"}
