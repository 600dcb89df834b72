"""A kind of exporter is a row of one table: flags, help and errors know it from there."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import pytest

from drain.command import app
from drain.exporters.kafka.options import KafkaOptions
from drain.exporters.make import make_exporter
from drain.settings.exporter_kind import ExporterKind
from drain.settings.otlp_environment import OtlpSettings
from tests.unit.settings.command_line import RUNNER

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("kind", ExporterKind)
def test_every_kind_is_made_by_its_module(kind: ExporterKind, tmp_path: Path) -> None:
    if kind == "kafka":
        pytest.importorskip("confluent_kafka")
    kafka = KafkaOptions("127.0.0.1:1")
    exporter = make_exporter(kind, otlp=OtlpSettings(), output=tmp_path / "spans.jsonl", kafka=kafka)
    exporter.close()
    assert callable(import_module(kind.module).make)


def test_help_and_errors_list_the_kinds_of_the_table(capfd: pytest.CaptureFixture[str]) -> None:
    assert f"<{'|'.join(ExporterKind)}>" in RUNNER.invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    RUNNER.invoke(app, ["config"], env={"RINGBUF_DRAIN_EXPORTER": "zipkin"})
    refused = capfd.readouterr().err
    assert all(repr(str(kind)) in refused for kind in ExporterKind)
