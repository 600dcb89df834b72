"""Behind nginx, as it is installed: its own answers are a proxy's, and no span is lost by them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from drain.exporters.make import make_exporter
from drain.exporters.protocol import Verdict
from drain.settings.otlp_environment import OtlpSettings
from tests.otlp_server import OtlpGrpcServer, OtlpHttpServer
from tests.ports import free_ports

from .batches import request
from .receivers import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drain.exporters.protocol import Result

CONFIGURATION = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{
        listen 127.0.0.1:{http};
        location / {{ proxy_pass http://127.0.0.1:{backend_http}; }}
        location /away/ {{ proxy_pass http://127.0.0.1:{nobody}; }}
        location /page/ {{ default_type text/html; return 200 "<html>welcome</html>"; }}
        location /locked/ {{ return 403; }}
    }}
    server {{
        listen 127.0.0.1:{grpc} http2;
        location / {{ grpc_pass grpc://127.0.0.1:{backend_grpc}; }}
    }}
    server {{
        listen 127.0.0.1:{away} http2;
        location / {{ grpc_pass grpc://127.0.0.1:{nobody}; }}
    }}
    server {{
        listen 127.0.0.1:{page} http2;
        location / {{ default_type text/html; return 200 "<html>welcome</html>"; }}
    }}
}}
"""
NAMES = ("http", "grpc", "away", "page", "nobody")


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory, debian_program: Callable[[str], str]) -> Iterator[dict[str, int]]:
    """Run nginx before an OTLP backend, and return its ports by name."""
    # Debian has it where only root's PATH looks.
    program = shutil.which("nginx", path="/usr/sbin") or debian_program("nginx")
    folder = tmp_path_factory.mktemp("nginx")
    with OtlpHttpServer() as http, OtlpGrpcServer() as grpc:
        chosen = dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
        configuration = folder / "nginx.conf"
        configuration.write_text(
            CONFIGURATION.format(folder=folder, backend_http=http.port, backend_grpc=grpc.port, **chosen)
        )
        listening = [chosen[name] for name in NAMES if name != "nobody"]
        with running([program, "-c", str(configuration), "-e", str(folder / "errors")], Path(folder), listening):
            yield chosen


def attempt(kind: str, endpoint: str, count: int, size: int = 0) -> Result:
    exporter = make_exporter(kind, endpoint=endpoint, otlp=OtlpSettings(compression="none", timeout_seconds=20))
    try:
        return exporter.export(request(count, size=size))
    finally:
        exporter.close()


@pytest.mark.parametrize(("kind", "name"), [("otlp-http", "http"), ("otlp-grpc", "grpc")])
def test_beyond_its_default_body_limit_halves_are_sent_and_arrive(ports: dict[str, int], kind: str, name: str) -> None:
    endpoint = f"http://127.0.0.1:{ports[name]}"
    assert attempt(kind, endpoint, 8, 1 << 18).verdict is Verdict.TOO_LARGE
    assert attempt(kind, endpoint, 2, 1 << 18).verdict is Verdict.DELIVERED


@pytest.mark.parametrize(("kind", "name"), [("otlp-http", "http"), ("otlp-grpc", "away")])
def test_with_the_backend_away_its_502_is_retried(ports: dict[str, int], kind: str, name: str) -> None:
    endpoint = f"http://127.0.0.1:{ports[name]}" + ("/away" if kind == "otlp-http" else "")
    result = attempt(kind, endpoint, 3)
    assert (result.verdict, result.needs_operator) == (Verdict.RETRY, False)


@pytest.mark.parametrize(
    ("kind", "name", "path"),
    [("otlp-http", "http", "/page"), ("otlp-http", "http", "/locked"), ("otlp-grpc", "page", "")],
)
def test_its_own_pages_are_no_delivery(ports: dict[str, int], kind: str, name: str, path: str) -> None:
    assert attempt(kind, f"http://127.0.0.1:{ports[name]}{path}", 3).verdict is Verdict.RETRY
