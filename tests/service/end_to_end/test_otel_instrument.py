"""A program that OpenTelemetry instruments by itself: one environment variable, and no span is lost to a SIGKILL."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.ports import free_ports
from tests.service.draining import SECONDS, run_once, spans_in_file, until
from tests.service.exporters.receivers import wait_for_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.proto.trace.v1.trace_pb2 import Span

SALES = 12
SERVER, CLIENT, INTERNAL = 2, 3, 1
PROGRAMS = Path(sys.executable).parent


class Stock(http.server.BaseHTTPRequestHandler):
    """The service behind the application; it keeps the headers that it was called with."""

    headers_seen: list[str]

    def do_GET(self) -> None:
        self.headers_seen.append(self.headers["traceparent"])
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def stock() -> Iterator[tuple[str, list[str]]]:
    """Return the URL of a running `Stock`, and the traceparent headers that it saw."""
    headers: list[str] = []
    handler = type("Handler", (Stock,), {"headers_seen": headers})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/stock", headers
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def gunicorn(folder: Path, ring_dir: Path, stock_url: str, **environment: str) -> Iterator[str]:
    """Run the instrumented application in two workers; returns its URL."""
    (port,) = free_ports(1)
    log = folder / "gunicorn.log"
    whole = {
        **os.environ,
        "RINGBUF_DIR": str(ring_dir),
        "OTEL_SERVICE_NAME": "shop",
        "STOCK_URL": stock_url,
        "OTEL_METRICS_EXPORTER": "not-installed",  # as is otlp, which the distribution names where nobody names one
        "OTEL_LOGS_EXPORTER": "none",
        **environment,
    }
    command = [
        *(str(PROGRAMS / "opentelemetry-instrument"), str(PROGRAMS / "gunicorn"), "--workers=2"),
        *(f"--bind=127.0.0.1:{port}", f"--pythonpath={Path(__file__).parent}", f"--worker-tmp-dir={folder}"),
        *("--no-control-socket", "--graceful-timeout=10", "--timeout=120", "flask_app:app"),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=whole, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_for_port(port, process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(SECONDS)
        finally:
            process.kill()


def get(url: str, trace_id: str) -> dict[str, Any]:
    request = urllib.request.Request(url, headers={"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"})  # noqa: S310 - the test's own server
    with urllib.request.urlopen(request, timeout=SECONDS) as response:  # noqa: S310 - the test's own server
        answer: dict[str, Any] = json.load(response)
        return answer


def delivered(folder: Path, ring_dir: Path) -> dict[str, list[Span]]:
    """Drain what is in the rings, and return the spans by trace."""
    out = folder / "spans.jsonl"
    assert run_once(folder / "drain.log", ring_dir, "--exporter", "file", "--output", out) == 0
    traces: dict[str, list[Span]] = {}
    for span in spans_in_file(out):
        traces.setdefault(span.trace_id.hex(), []).append(span)
    return traces


@pytest.mark.prove
def test_every_span_of_a_killed_worker_arrives(tmp_path: Path, ring_dir: Path, stock: tuple[str, list[str]]) -> None:
    stock_url, headers = stock
    trace_ids = [secrets.token_hex(16) for _ in range(SALES)]
    with gunicorn(tmp_path, ring_dir, stock_url, OTEL_PYTHON_CONFIGURATOR="ringbuf") as url:
        killed = set()
        for number, trace_id in enumerate(trace_ids):
            pid = get(f"{url}/sale/{number}", trace_id)["pid"]
            if number % 4 == 3:  # the moment it has answered: an SDK that queues would have sent nothing yet
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        assert len(killed) == SALES // 4
    traces = delivered(tmp_path, ring_dir)
    assert set(traces) == set(trace_ids)
    for trace_id, spans in traces.items():
        assert Counter(span.kind for span in spans) == {SERVER: 1, CLIENT: 3}, trace_id
        (server,) = (span for span in spans if span.kind == SERVER)
        assert server.name == "GET /sale/<int:number>"
        assert (server.parent_span_id.hex(), server.flags & 0x301) == ("00f067aa0ba902b7", 0x301)
        children = [span for span in spans if span.kind == CLIENT]
        assert {span.parent_span_id for span in children} == {server.span_id}
        assert {span.flags & 0x301 for span in children} == {0x101}
        assert {span.name for span in children} == {"GET", "CREATE", "INSERT"}
        (request,) = (span for span in children if span.name == "GET")
        assert f"00-{trace_id}-{request.span_id.hex()}-" in "".join(headers)


def test_the_scopes_of_the_instrumentations_and_the_resource_arrive(
    tmp_path: Path, ring_dir: Path, stock: tuple[str, list[str]]
) -> None:
    with gunicorn(tmp_path, ring_dir, stock[0], OTEL_PYTHON_CONFIGURATOR="ringbuf") as url:
        get(f"{url}/sale/1", secrets.token_hex(16))
        with pytest.raises(urllib.error.HTTPError):
            get(f"{url}/refund/1", secrets.token_hex(16))
    traces = delivered(tmp_path, ring_dir)
    assert len(traces) == 2
    lines = (tmp_path / "spans.jsonl").read_text().splitlines()
    resource_spans = [part for line in lines for part in json.loads(line)["resourceSpans"]]
    scopes = {part["scope"]["name"] for spans in resource_spans for part in spans["scopeSpans"]}
    assert scopes == {f"opentelemetry.instrumentation.{name}" for name in ("flask", "requests", "sqlite3")}
    assert all("version" in part["scope"] for spans in resource_spans for part in spans["scopeSpans"])
    for spans in resource_spans:
        values = {one["key"]: next(iter(one["value"].values())) for one in spans["resource"]["attributes"]}
        assert values["service.name"] == "shop"
        assert values["telemetry.sdk.name"] == "opentelemetry"
        assert "telemetry.auto.version" in values
        assert {"process.pid", "service.instance.id"} <= values.keys()
    (failed,) = (span for spans in traces.values() for span in spans if span.name == "GET /refund/<int:number>")
    assert failed.status.code == 2
    (event,) = failed.events
    attributes = {attribute.key: attribute.value.string_value for attribute in event.attributes}
    assert attributes["exception.message"] == "no sale 1"
    assert attributes["exception.stacktrace"].endswith("LookupError: no sale 1\n")


@pytest.mark.prove  # a start of gunicorn with instrumentations takes seconds
def test_an_unsampled_trace_leaves_nothing(tmp_path: Path, ring_dir: Path, stock: tuple[str, list[str]]) -> None:
    variables = {"OTEL_PYTHON_CONFIGURATOR": "ringbuf", "OTEL_TRACES_SAMPLER": "always_off"}
    with gunicorn(tmp_path, ring_dir, stock[0], **variables) as url:
        get(f"{url}/sale/1", secrets.token_hex(16))
        until(lambda: stock[1])
    assert not list(ring_dir.glob("*.ring"))
    assert stock[1][0].endswith("-00")
