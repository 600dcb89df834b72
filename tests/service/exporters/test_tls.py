"""TLS and mTLS against servers whose certificates are made here."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trustme

from drain.exporters.make import make_exporter
from drain.exporters.protocol import Exporter, Verdict
from drain.settings.otlp_environment import OtlpSettings
from tests.otlp_server import OtlpGrpcServer, OtlpHttpServer

from .batches import request

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path


@dataclass
class Certificates:
    authority: trustme.CA
    server: trustme.LeafCert
    trusted: Path
    client_certificate: Path
    client_key: Path
    stranger: Path

    def settings(self, **changes: Any) -> OtlpSettings:
        return replace(OtlpSettings(certificate=self.trusted, timeout_seconds=60), **changes)

    def http_server(self, *, mutual: bool) -> OtlpHttpServer:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.configure_cert(context)
        if mutual:
            self.authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return OtlpHttpServer(tls=context)

    def grpc_server(self, *, mutual: bool) -> OtlpGrpcServer:
        chain = b"".join(pem.bytes() for pem in self.server.cert_chain_pems)
        pair = [(self.server.private_key_pem.bytes(), chain)]
        authority = self.authority.cert_pem.bytes() if mutual else None
        return OtlpGrpcServer(credentials=grpc.ssl_server_credentials(pair, authority, require_client_auth=mutual))

    def start(self, kind: str, *, mutual: bool = False) -> AbstractContextManager[OtlpHttpServer | OtlpGrpcServer]:
        return self.grpc_server(mutual=mutual) if kind == "otlp-grpc" else self.http_server(mutual=mutual)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    authority, stranger = trustme.CA(), trustme.CA()
    client = authority.issue_cert("drain@example.org")
    made = Certificates(
        authority,
        authority.issue_cert("127.0.0.1"),
        folder / "ca.pem",
        folder / "client.pem",
        folder / "client.key",
        folder / "stranger.pem",
    )
    authority.cert_pem.write_to_path(made.trusted)
    stranger.cert_pem.write_to_path(made.stranger)
    for pem in client.cert_chain_pems:
        pem.write_to_path(made.client_certificate, append=True)
    client.private_key_pem.write_to_path(made.client_key)
    return made


def export_once(exporter: Exporter) -> Verdict:
    try:
        return exporter.export(request()).verdict
    finally:
        exporter.close()


KINDS = pytest.mark.parametrize("kind", ["otlp-http", "otlp-grpc"])


@KINDS
@pytest.mark.parametrize(("name", "verdict"), [("gateways.test", Verdict.DELIVERED), ("others.test", Verdict.RETRY)])
def test_at_an_address_the_certificate_has_to_be_the_names(
    certificates: Certificates, kind: str, name: str, verdict: Verdict
) -> None:
    of_name = replace(certificates, server=certificates.authority.issue_cert("gateways.test"))
    with of_name.start(kind) as server:
        endpoint = f"https://{name}:{server.port}"
        exporter = make_exporter(kind, endpoint=endpoint, address="127.0.0.1", otlp=of_name.settings())
        assert export_once(exporter) is verdict


@KINDS
def test_tls_delivers_to_a_server_that_the_certificate_vouches_for(certificates: Certificates, kind: str) -> None:
    with certificates.start(kind) as server:
        exporter = make_exporter(kind, endpoint=server.url, otlp=certificates.settings())
        assert export_once(exporter) is Verdict.DELIVERED
        assert len(server.requests[0].spans) == 3


@KINDS
@pytest.mark.parametrize("trust", ["stranger", None], ids=["another authority", "the machine's authorities"])
def test_a_server_that_nobody_vouches_for_gets_nothing(
    certificates: Certificates, kind: str, trust: str | None
) -> None:
    settings = certificates.settings(certificate=certificates.stranger if trust else None)
    with certificates.start(kind) as server:
        assert export_once(make_exporter(kind, endpoint=server.url, otlp=settings)) is Verdict.RETRY
        assert server.requests == []


@KINDS
def test_a_server_with_another_hosts_certificate_gets_nothing(certificates: Certificates, kind: str) -> None:
    with certificates.start(kind) as server:
        endpoint = server.url.replace("127.0.0.1", "localhost")
        assert export_once(make_exporter(kind, endpoint=endpoint, otlp=certificates.settings())) is Verdict.RETRY
        assert server.requests == []


@KINDS
def test_mtls_shows_the_clients_certificate(certificates: Certificates, kind: str) -> None:
    settings = certificates.settings(
        client_certificate=certificates.client_certificate, client_key=certificates.client_key
    )
    with certificates.start(kind, mutual=True) as server:
        assert export_once(make_exporter(kind, endpoint=server.url, otlp=settings)) is Verdict.DELIVERED
        without = make_exporter(kind, endpoint=server.url, otlp=certificates.settings())
        assert export_once(without) is Verdict.RETRY
        assert len(server.requests) == 1


@KINDS
def test_the_environment_names_the_files(certificates: Certificates, kind: str) -> None:
    with certificates.start(kind, mutual=True) as server:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": server.url,
            "OTEL_EXPORTER_OTLP_CERTIFICATE": str(certificates.trusted),
            "OTEL_EXPORTER_OTLP_CLIENT_KEY": str(certificates.client_key),
            "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE": str(certificates.client_certificate),
        }
        exporter = make_exporter(kind, otlp=OtlpSettings.from_environment(environment))
        assert export_once(exporter) is Verdict.DELIVERED


@KINDS
def test_files_that_cannot_work_are_refused_when_the_exporter_is_made(
    certificates: Certificates, kind: str, tmp_path: Path
) -> None:
    text = tmp_path / "text.pem"
    text.write_text("no certificate\n")
    for changes, variable in (
        ({"certificate": tmp_path / "missing.pem"}, "OTEL_EXPORTER_OTLP_CERTIFICATE"),
        ({"certificate": text}, "OTEL_EXPORTER_OTLP_CERTIFICATE"),
        ({"client_certificate": text}, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"),
        ({"client_certificate": certificates.client_certificate, "client_key": text}, "_CLIENT_KEY"),
        ({"client_key": certificates.client_key}, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"),
    ):
        with pytest.raises(ValueError, match=variable):
            make_exporter(kind, endpoint="https://127.0.0.1:1", otlp=certificates.settings(**changes))
