"""A receiver whose certificate has expired, or is not valid yet, gets nothing."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import grpc
import pytest
import trustme

from drain.exporters.make import make_exporter
from drain.exporters.protocol import Verdict
from drain.settings.otlp_environment import OtlpSettings
from tests.otlp_server import OtlpGrpcServer, OtlpHttpServer
from tests.service.exporters.batches import request

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
VALIDITY = {"expired": (NOW - 2 * DAY, NOW - DAY), "not yet valid": (NOW + DAY, NOW + 2 * DAY)}


@pytest.mark.parametrize("kind", ["otlp-http", "otlp-grpc"])
@pytest.mark.parametrize("validity", VALIDITY.values(), ids=VALIDITY.keys())
def test_a_certificate_out_of_its_time_is_not_taken(
    validity: tuple[datetime, datetime], kind: str, tmp_path: Path
) -> None:
    begins, ends = validity
    authority = trustme.CA()
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(trusted)
    leaf = authority.issue_cert("127.0.0.1", not_before=begins, not_after=ends)
    server: OtlpHttpServer | OtlpGrpcServer
    if kind == "otlp-http":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(context)
        server = OtlpHttpServer(tls=context)
    else:
        chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
        server = OtlpGrpcServer(credentials=grpc.ssl_server_credentials([(leaf.private_key_pem.bytes(), chain)]))
    with server:
        # The core of gRPC tries again until the attempt's time is over.
        settings = OtlpSettings(certificate=trusted, timeout_seconds=2.0 if kind == "otlp-grpc" else 60.0)
        exporter = make_exporter(kind, endpoint=server.url, otlp=settings)
        result = exporter.export(request())
        exporter.close()
    assert result.verdict is Verdict.RETRY
    assert "certificate" in result.message.lower() or kind == "otlp-grpc"
    assert server.requests == []
