"""What is installed by the SDK's configuration, from the environment and from a file."""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from ringbuf.log import wait_until_told
from ringbuf.otel import RingSpanExporter, RingSpanProcessor, configurator
from tests.python import output_of

if TYPE_CHECKING:
    from pathlib import Path

    from opentelemetry.sdk.trace import SpanProcessor


class Provider:
    """What the configurator asks of a tracer provider."""

    def __init__(self) -> None:
        self.processors: list[SpanProcessor] = []

    def add_span_processor(self, processor: SpanProcessor) -> None:
        self.processors.append(processor)


class Sdk:
    """Stands for the SDK's own configurator: it remembers what it would have configured."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: str | None = "never called"
        self.arguments: dict[str, Any] = {}
        self.makes_exporter = False
        self.watched = ""  # a variable, and then its value
        self.provider: object = Provider()

        def configure(_self: object, **arguments: Any) -> None:
            self.names, self.arguments = os.environ.get("OTEL_TRACES_EXPORTER"), arguments
            self.watched = os.environ.get(self.watched, "")
            if self.makes_exporter:
                RingSpanExporter()

        monkeypatch.setattr("ringbuf.otel.configurator._OTelSDKConfigurator._configure", configure)
        monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", lambda: self.provider)

    @property
    def has_ring(self) -> bool:
        assert isinstance(self.provider, Provider)
        assert all(isinstance(processor, RingSpanProcessor) for processor in self.provider.processors)
        assert len(self.provider.processors) <= 1
        return bool(self.provider.processors)


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch, ring_dir: Path) -> Sdk:
    monkeypatch.setenv("RINGBUF_DIR", str(ring_dir))
    for name in (
        "OTEL_PYTHON_CONFIGURATOR",
        *("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER"),
        "OTEL_CONFIG_FILE",
    ):
        monkeypatch.delenv(name, raising=False)
    return Sdk(monkeypatch)


@pytest.mark.parametrize(
    ("variable", "value", "left", "signal"),
    [
        ("OTEL_METRICS_EXPORTER", "nowhere", "none", "metrics"),
        ("OTEL_LOGS_EXPORTER", "nowhere, console", " console", "logs"),
        ("OTEL_TRACES_EXPORTER", "ringbuf,console,nowhere", "console", "traces"),
    ],
)
def test_an_exporter_that_is_not_installed_keeps_no_span_from_the_ring(
    sdk: Sdk,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    variable: str,
    value: str,
    left: str,
    signal: str,
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_CONFIGURATOR", "ringbuf")
    monkeypatch.setenv(variable, value)
    sdk.watched = variable
    configure()
    assert (sdk.watched, sdk.has_ring) == (left, True)
    assert os.environ[variable] == value
    wait_until_told(10.0)
    assert f"{variable}=nowhere: no such exporter is installed, and {signal} go without it" in caplog.text


def test_what_the_sdk_refuses_is_left_to_it(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_CONFIGURATOR", "ringbuf")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon")
    sdk.watched = "OTEL_METRICS_EXPORTER"
    configure()
    assert sdk.watched == "otlp"


def configure(**arguments: Any) -> None:
    made: Any = configurator.RingConfigurator
    made().configure(**arguments)


@pytest.mark.parametrize(
    ("chosen", "exporters", "left_to_the_sdk", "has_ring"),
    [
        ("ringbuf", None, "none", True),
        ("ringbuf", "otlp", "none", True),
        ("ringbuf", "otlp, ringbuf", "otlp", True),
        ("ringbuf", "none", "none", False),
        (None, "ringbuf", "none", True),
        (None, "console,ringbuf", "console", True),
        (None, "otlp", "otlp", False),
        (None, None, None, False),
    ],
)
def test_the_variables_decide_where_spans_go(
    sdk: Sdk,
    monkeypatch: pytest.MonkeyPatch,
    chosen: str | None,
    exporters: str | None,
    left_to_the_sdk: str | None,
    has_ring: bool,
) -> None:
    for name, value in (("OTEL_PYTHON_CONFIGURATOR", chosen), ("OTEL_TRACES_EXPORTER", exporters)):
        if value is not None:
            monkeypatch.setenv(name, value)
    configure(auto_instrumentation_version="1")
    assert (sdk.names, sdk.has_ring) == (left_to_the_sdk, has_ring)
    assert sdk.arguments == {"auto_instrumentation_version": "1"}
    assert os.environ.get("OTEL_TRACES_EXPORTER") == exporters, "a program that is started later has it, too"


def test_what_a_distribution_says_is_heard(sdk: Sdk) -> None:
    sizes = {"slot_bytes": 1024}
    configure(trace_exporter_names=["ringbuf", "console"], exporter_args_map={RingSpanExporter: sizes})
    assert sdk.arguments["trace_exporter_names"] == ["console"]
    assert sdk.has_ring


@pytest.mark.parametrize(
    ("chosen", "file_names_it", "adds"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_with_a_file_the_ring_is_added_unless_the_file_has_it(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch, chosen: bool, file_names_it: bool, adds: bool
) -> None:
    monkeypatch.setattr(configurator, "_SDK_READS_FILES", True)
    monkeypatch.setenv("OTEL_CONFIG_FILE", "otel.yaml")
    if chosen:
        monkeypatch.setenv("OTEL_PYTHON_CONFIGURATOR", "ringbuf")
    sdk.makes_exporter = file_names_it
    configure()
    assert sdk.has_ring is adds
    assert sdk.names is None
    assert sdk.arguments == {}, "the SDK warns of arguments beside a file"


def test_an_sdk_that_reads_no_files_is_configured_by_its_variables(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configurator, "_SDK_READS_FILES", False)
    monkeypatch.setenv("OTEL_CONFIG_FILE", "otel.yaml")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "ringbuf")
    configure()
    assert (sdk.names, sdk.has_ring) == ("none", True)


def test_a_provider_that_takes_no_processor_is_said(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "ringbuf")
    sdk.provider = object()
    configure()
    wait_until_told(60)
    assert "takes no span processor" in caplog.text


def test_a_configuration_file_finds_the_exporter_by_its_entry_point(ring_dir: Path) -> None:
    (found,) = entry_points(group="opentelemetry_traces_exporter", name="ringbuf")
    exporter = found.load()(ring_dir=str(ring_dir), slot_bytes=2048)  # as `ringbuf: {slot_bytes: 2048}` has it
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.get_tracer("lib").start_span("sale").end()
    (emitter,) = exporter.processor.emitters
    assert (emitter.layout.slot_bytes, emitter.stats().published) == (2048, 1)
    provider.shutdown()


REAL = """
import logging, sys
from opentelemetry import trace
from importlib.metadata import entry_points
(found,) = entry_points(group="opentelemetry_configurator", name="ringbuf")
found.load()().configure()
provider = trace.get_tracer_provider()
provider.get_tracer("lib").start_span("sale").end()
for processor in provider._active_span_processor._span_processors:
    print(type(processor).__name__, [emitter.stats().published for emitter in processor.emitters])
"""


def test_the_sdk_itself_gets_the_processor(monkeypatch: pytest.MonkeyPatch, ring_dir: Path) -> None:
    monkeypatch.setenv("RINGBUF_DIR", str(ring_dir))
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "ringbuf")
    for signal in ("METRICS", "LOGS"):
        monkeypatch.setenv(f"OTEL_{signal}_EXPORTER", "none")
    assert output_of(REAL) == "RingSpanProcessor [1]\n"


# No SDK, and one that lacks what every release from 1.36 on has.
WITHOUT = ["sys.modules['opentelemetry'] = None", "import opentelemetry.sdk.trace as t; del t.SpanProcessor"]


@pytest.mark.parametrize("missing", WITHOUT)
def test_without_a_fitting_sdk_the_import_says_which(missing: str) -> None:
    code = f"import sys\n{missing}\ntry:\n    import ringbuf.otel\nexcept ImportError as error:\n    print(error)"
    assert output_of(code).startswith("ringbuf.otel needs opentelemetry-sdk 1.36 or later: pip install")
