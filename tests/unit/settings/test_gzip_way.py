"""What `ringbuf-drain config` says of gzip straight from records is what the exporter does with the same settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from drain import assembly
from drain.exporters.protocol import sends_gzip
from drain.settings.configuration import load

URL: dict[str, object] = {"endpoint": ["http://127.0.0.1:9"]}
YES = "yes, of layouts that allow it (ringbuf stat says which)"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"exporter": "otlp-http"} | URL, YES),
        ({"exporter": "otlp"} | URL, YES),
        ({"exporter": "otlp-http", "compression": "gzip"} | URL, YES),
        ({"exporter": "otlp", "protocol": "grpc"} | URL, "no, only as protobuf over HTTP"),
        ({"exporter": "otlp", "protocol": "http/json"} | URL, "no, only as protobuf over HTTP"),
        ({"exporter": "otlp-http-json"} | URL, "no, only as protobuf over HTTP"),
        ({"exporter": "otlp-grpc", "compression": "gzip"} | URL, "no, only as protobuf over HTTP"),
        ({"exporter": "console"}, "no, only as protobuf over HTTP"),
        ({"exporter": "otlp-http", "compression": "none"} | URL, "no, compression is none"),
        ({"exporter": "otlp-http", "compression": "zstd"} | URL, "no, compression is zstd"),
    ],
)
def test_it_is_said_whether_gzip_is_made_straight_from_records(flags: dict[str, object], said: str) -> None:
    configuration = load(flags, None)
    exporter = assembly.make_exporter(configuration)
    try:
        assert sends_gzip(exporter) == said.startswith("yes")
    finally:
        exporter.close()
    assert configuration.describe().splitlines()[-1] == f"# gzip straight from records: {said}"


@pytest.mark.parametrize("flags", [{"keep_ratio": 0.5}, {"sampling": Path("rules.toml")}])
def test_it_is_said_that_what_is_sampled_late_goes_another_way(flags: dict[str, object]) -> None:
    text = load({"exporter": "otlp-http"} | URL | flags, None).describe()
    assert text.endswith("\n# gzip straight from records: no, what late sampling keeps is encoded first\n")
