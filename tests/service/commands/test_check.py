"""`ringbuf-drain check` says before a drain starts what would become of its spans."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from drain.rings.directory import RingDirectory
from tests.nursery import shared
from tests.otlp_server import OtlpHttpServer, reply

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path


def check(*arguments: object) -> subprocess.CompletedProcess[str]:
    return shared().run("drain", "check", *arguments)


@pytest.mark.parametrize("exporter", ["otlp-http", "otlp-http-json"])
def test_a_backend_that_takes_an_empty_request_is_well(exporter: str, ring_dir: Path) -> None:
    with OtlpHttpServer() as server:
        checked = check("--ring-dir", ring_dir, "--exporter", exporter, "--endpoint", server.url)
        [request] = server.requests
        assert request.message == ExportTraceServiceRequest()
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{server.url}/v1/traces took an empty request" in checked.stdout
    assert str(ring_dir) in checked.stdout
    assert list(ring_dir.iterdir()) == []


def test_the_receiver_of_the_metrics_is_tried_too(ring_dir: Path, tmp_path: Path) -> None:
    with OtlpHttpServer() as server:
        checked = check("--ring-dir", ring_dir, "--output", tmp_path / "spans", "--metrics-endpoint", server.url)
        assert [request.path for request in server.requests] == ["/v1/metrics"]
    assert checked.returncode == 0, checked.stderr
    assert f"exporter otlp, of metrics: {server.url}/v1/metrics took an empty request" in checked.stdout


def test_what_the_backend_answers_is_shown(ring_dir: Path) -> None:
    with OtlpHttpServer() as server:
        server.play(reply(401, b"who are you?", {"Content-Type": "text/plain"}))
        checked = check("--ring-dir", ring_dir, "--endpoint", server.url)
        assert len(server.requests) == 1
    assert (checked.returncode, "HTTP 401: who are you?" in checked.stdout) == (1, True), checked.stdout


def test_a_backend_that_is_not_there_is_told(ring_dir: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        checked = check("--ring-dir", ring_dir, "--endpoint", f"http://127.0.0.1:{bound.getsockname()[1]}")
    assert (checked.returncode, "refused" in checked.stdout) == (1, True), checked.stdout


def test_a_file_needs_no_backend_and_a_drain_that_runs_is_not_disturbed(ring_dir: Path, tmp_path: Path) -> None:
    directory = RingDirectory(ring_dir)
    try:
        checked = check("--ring-dir", ring_dir, "--output", tmp_path / "spans.jsonl")
    finally:
        directory.close()
    assert (checked.returncode, f"{tmp_path}/spans.jsonl can be written" in checked.stdout) == (0, True)
    assert not (tmp_path / "spans.jsonl").exists()  # whoever looked, it is for the drain to make


def test_a_default_state_directory_that_cannot_be_used_keeps_no_drain_from_its_start(
    ring_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").write_text("no folder")
    monkeypatch.delenv("RINGBUF_DRAIN_STATE_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    checked = check("--ring-dir", ring_dir, "--output", tmp_path / "spans.jsonl")
    assert (checked.returncode, f"state: none, {tmp_path}/home" in checked.stdout) == (0, True), checked.stderr


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--batch-delay", "inf"], "batch_delay (--batch-delay)"),
        (["--endpoint", "collector:4318"], "needs the scheme"),
        (["--ring-dir", "/nowhere/rings"], "no such directory"),
        (["--state-dir", "/etc/passwd/state"], "state directory cannot be used"),
        (["--retry-initial", "9", "--retry-maximum", "1"], "retry: initial"),
        (["--endpoint", "https://127.0.0.1:1", "--certificate", "/nowhere.pem"], "/nowhere.pem"),
    ],
)
def test_a_drain_that_could_not_start_is_told(flags: list[str], reason: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    ring_dir = [] if "--ring-dir" in flags else ["--ring-dir", tmp_path]
    output = [] if "--endpoint" in flags else ["--output", tmp_path / "spans.jsonl"]
    checked = check(*ring_dir, *output, *flags)
    assert (checked.returncode, reason in checked.stderr) == (2, True), checked.stdout + checked.stderr
