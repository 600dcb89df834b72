"""Metrics go where their own settings say, else where the spans go; no credential goes where it was not given to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import structlog
from structlog.testing import capture_logs

from drain.exporters.endpoint import DEFAULT_GRPC_ENDPOINT
from drain.exporters.metrics import make_metric_exporter
from drain.exporters.otlp_grpc import METHODS, OtlpGrpcExporter
from drain.exporters.otlp_http import OtlpHttpExporter
from drain.settings.configuration import ConfigurationError, load
from drain.settings.metrics_environment import MetricsVariables

if TYPE_CHECKING:
    from pathlib import Path

OTLP = "OTEL_EXPORTER_OTLP_"
LOG = structlog.get_logger()


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    return monkeypatch


def made(**flags: Any) -> Any:
    exporter: Any = make_metric_exporter(load({"metrics_exporter": "otlp", **flags}, None), LOG)
    assert exporter is not None
    exporter.close()
    return exporter


def test_metrics_are_sent_only_when_that_is_asked_for() -> None:
    assert make_metric_exporter(load({"endpoint": "http://h:4318"}, None), LOG) is None
    assert make_metric_exporter(load({"metrics_exporter": "none", "endpoint": "http://h:4318"}, None), LOG) is None


def test_the_first_source_that_says_whether_or_where_to_decides(variables: pytest.MonkeyPatch) -> None:
    def chosen(**flags: str) -> tuple[str, str]:
        configuration = load(flags, None)
        return configuration.settings.metrics_exporter, configuration.origins["metrics_exporter"]

    assert chosen() == ("none", "default")
    assert chosen(metrics_endpoint="http://h") == ("otlp", "--metrics-endpoint")
    variables.setenv("OTEL_METRICS_EXPORTER", "none")
    variables.setenv(f"{OTLP}METRICS_ENDPOINT", "http://of-all-programs")
    assert chosen() == ("none", "OTEL_METRICS_EXPORTER")
    assert chosen(metrics_endpoint="http://h") == ("otlp", "--metrics-endpoint")
    variables.setenv("OTEL_METRICS_EXPORTER", "otlp")
    assert chosen() == ("otlp", "OTEL_METRICS_EXPORTER")
    variables.setenv("RINGBUF_DRAIN_METRICS_EXPORTER", "none")
    assert chosen() == ("none", "RINGBUF_DRAIN_METRICS_EXPORTER")


def test_variables_are_read_as_the_specification_has_them() -> None:
    found = MetricsVariables.read(
        {
            "OTEL_METRICS_EXPORTER": "otlp,prometheus",
            "OTEL_METRIC_EXPORT_INTERVAL": "1500",
            f"{OTLP}METRICS_ENDPOINT": "https://m/x",
            f"{OTLP}METRICS_HEADERS": "api-key=1",
            "OTEL_METRIC_EXPORT_TIMEOUT": "20000",
            f"{OTLP}METRICS_TIMEOUT": "2500",
            f"{OTLP}METRICS_PROTOCOL": "grpc",
            f"{OTLP}METRICS_INSECURE": "true",
            f"{OTLP}METRICS_COMPRESSION": "none",
            f"{OTLP}METRICS_TEMPORALITY_PREFERENCE": "DELTA",
            "OTEL_METRICS_EXEMPLAR_FILTER": "Always_On",
            f"{OTLP}METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "base2_exponential_bucket_histogram",
            f"{OTLP}ENDPOINT": "https://general",
            f"{OTLP}TRACES_TIMEOUT": "1000",
        }
    )
    assert found.values == {
        "metrics_exporter": "otlp",
        "metrics_interval": 1.5,
        "metrics_endpoint": "https://m/x",
        "metrics_headers": {"api-key": "1"},
        "metrics_export_timeout": 20.0,
        "metrics_timeout": 2.5,
        "metrics_protocol": "grpc",
        "metrics_insecure": True,
        "metrics_compression": "none",
        "metrics_temporality": "delta",
        "exemplar_filter": "always_on",
        "metrics_histograms": "exponential",
    }
    assert found.origins["metrics_timeout"] == f"{OTLP}METRICS_TIMEOUT"
    assert found.warnings == ()


@pytest.mark.parametrize("name", ["none", "prometheus", "prometheus,none"])
def test_who_wants_prometheus_has_it_and_no_export(name: str) -> None:
    found = MetricsVariables.read({"OTEL_METRICS_EXPORTER": name})
    assert (found.values, found.warnings) == ({"metrics_exporter": "none"}, ())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("OTEL_METRICS_EXPORTER", "console"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1.5"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
        (f"{OTLP}METRICS_TEMPORALITY_PREFERENCE", "sum"),
        (f"{OTLP}METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "summary"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "0"),
        ("OTEL_METRICS_EXEMPLAR_FILTER", "always"),
        (f"{OTLP}METRICS_PROTOCOL", "http/json"),
        (f"{OTLP}METRICS_PROTOCOL", "nonsense"),
        (f"{OTLP}METRICS_INSECURE", "perhaps"),
        (f"{OTLP}METRICS_TIMEOUT", "soon"),
    ],
)
def test_what_cannot_be_done_is_warned_about_and_ignored(name: str, text: str) -> None:
    found = MetricsVariables.read({name: text})
    assert found.values == {}
    [warning] = found.warnings
    assert warning.startswith(f"{name} is ignored: ")


@pytest.mark.parametrize(
    ("flags", "url"),
    [
        ({}, "http://localhost:4318/v1/metrics"),
        ({"endpoint": "http://h:1/base/"}, "http://h:1/base/v1/metrics"),
        ({"endpoint": "http://h:1/base/v1/traces"}, "http://h:1/base/v1/metrics"),
        ({"endpoint": "http://a:1,http://b:1", "balance": "failover"}, "http://a:1/v1/metrics"),
        ({"endpoint": "http://h:1", "metrics_endpoint": "https://m:2"}, "https://m:2/v1/metrics"),
        ({"metrics_endpoint": "https://m:2/v1/metrics"}, "https://m:2/v1/metrics"),
        ({"exporter": "otlp-grpc", "endpoint": "http://h:1", "metrics_endpoint": "http://m"}, "http://m/v1/metrics"),
    ],
)
def test_metrics_have_a_path_of_their_own(flags: dict[str, Any], url: str) -> None:
    assert made(**flags).endpoint == url


def test_the_endpoint_of_the_signal_is_used_as_it_is_and_that_of_the_traces_not_at_all(
    variables: pytest.MonkeyPatch,
) -> None:
    variables.setenv(f"{OTLP}ENDPOINT", "http://general:1")
    variables.setenv(f"{OTLP}TRACES_ENDPOINT", "http://traces:2/in")
    assert made().endpoint == "http://general:1/v1/metrics"
    variables.setenv(f"{OTLP}METRICS_ENDPOINT", "http://metrics:3/in")
    assert made().endpoint == "http://metrics:3/in"


@pytest.mark.parametrize(
    ("flags", "environment", "endpoint"),
    [
        ({"exporter": "otlp-grpc", "endpoint": "http://h:1"}, {}, "http://h:1"),
        ({"exporter": "otlp", "protocol": "grpc", "endpoint": "http://h:1"}, {}, "http://h:1"),
        ({"exporter": "otlp-grpc", "endpoint": "http://a:1,http://b:1", "balance": "failover"}, {}, "http://a:1"),
        ({"exporter": "otlp-grpc"}, {}, DEFAULT_GRPC_ENDPOINT),
        ({"endpoint": "http://h:1", "metrics_endpoint": "h:2", "metrics_protocol": "grpc"}, {}, "h:2"),
        ({"exporter": "otlp-grpc", "endpoint": "http://h:1", "metrics_protocol": "grpc"}, {}, "http://h:1"),
        ({}, {"PROTOCOL": "grpc", "ENDPOINT": "http://h:1"}, "http://h:1"),
        ({"exporter": "file", "output": "spans.jsonl"}, {"PROTOCOL": "grpc"}, DEFAULT_GRPC_ENDPOINT),
        ({"metrics_endpoint": "http://m:2"}, {"PROTOCOL": "grpc"}, "http://m:2"),
        ({}, {"TRACES_PROTOCOL": "http/protobuf", "METRICS_PROTOCOL": "grpc", "ENDPOINT": "http://h:1"}, "http://h:1"),
    ],
)
def test_metrics_go_by_grpc_where_their_receiver_speaks_it(
    flags: dict[str, Any], environment: dict[str, str], endpoint: str, variables: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        variables.setenv(OTLP + name, value)
    exporter = made(**flags)
    assert isinstance(exporter, OtlpGrpcExporter)
    assert exporter.endpoint == endpoint
    assert exporter._method == METHODS["metrics"]


@pytest.mark.parametrize(
    ("flags", "environment"),
    [
        ({"exporter": "otlp-http", "endpoint": "http://h:1"}, {"PROTOCOL": "grpc"}),
        ({"exporter": "otlp-grpc", "endpoint": "http://h:4317", "metrics_endpoint": "http://m:4318"}, {}),
        ({"exporter": "otlp-grpc", "endpoint": "http://h:1", "metrics_protocol": "http/protobuf"}, {}),
        ({}, {"TRACES_PROTOCOL": "grpc", "TRACES_ENDPOINT": "http://t:4317"}),
        ({"exporter": "file", "output": "spans.jsonl"}, {"TRACES_PROTOCOL": "grpc"}),
    ],
)
def test_metrics_go_over_http_where_only_the_spans_speak_grpc(
    flags: dict[str, Any], environment: dict[str, str], variables: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        variables.setenv(OTLP + name, value)
    assert isinstance(made(**flags), OtlpHttpExporter)


def test_an_attempt_takes_no_longer_than_an_export_may() -> None:
    assert made(endpoint="http://h:1", timeout=10.0, metrics_export_timeout=2.0)._timeout == 2.0


def test_a_variable_of_a_whole_pod_that_cannot_be_heeded_keeps_no_drain_from_its_start(
    variables: pytest.MonkeyPatch,
) -> None:
    variables.setenv("OTEL_METRICS_EXPORTER", "otlp")
    variables.setenv(f"{OTLP}METRICS_ENDPOINT", "collector:4318")
    with capture_logs() as lines:
        assert make_metric_exporter(load({}, None), structlog.get_logger()) is None
    [line] = lines
    assert line["event"] == "metrics are not exported"
    assert "needs the scheme" in line["reason"]


def test_what_is_not_set_is_as_the_spans_have_it(variables: pytest.MonkeyPatch) -> None:
    variables.setenv(f"{OTLP}HEADERS", "api-key=general")
    exporter = made(endpoint="http://h:1", timeout=3.0, compression="none")
    assert (exporter._timeout, exporter._compression) == (3.0, "none")
    assert exporter._headers["Api-Key"] == "general"
    exporter = made(endpoint="http://h:1", timeout=3.0, metrics_timeout=1.0, metrics_compression="zstd")
    assert (exporter._timeout, exporter._compression) == (1.0, "zstd")


def test_what_was_set_for_the_traces_is_not_for_the_metrics(variables: pytest.MonkeyPatch) -> None:
    variables.setenv(f"{OTLP}TRACES_HEADERS", "api-key=of-traces")
    variables.setenv(f"{OTLP}TRACES_TIMEOUT", "3000")
    variables.setenv(f"{OTLP}TRACES_COMPRESSION", "none")
    exporter = made(endpoint="http://h:1")
    assert "Api-Key" not in exporter._headers
    assert (exporter._timeout, exporter._compression) == (10.0, "gzip")


def test_the_spans_headers_do_not_go_to_a_receiver_of_the_metrics_own(
    variables: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    variables.setenv("RINGBUF_DRAIN_HEADERS", "api-key=of-spans")
    file = tmp_path / "headers"
    file.write_text("Authorization: Bearer of-spans\n")
    to_both = made(endpoint="http://h:1", headers_file=str(file))
    assert (to_both._headers["Api-Key"], to_both._headers["Authorization"]) == ("of-spans", "Bearer of-spans")
    elsewhere = made(endpoint="http://h:1", headers_file=str(file), metrics_endpoint="http://m")
    assert not {"Api-Key", "Authorization"} & elsewhere._headers.keys()
    with variables.context() as more:
        more.setenv(f"{OTLP}TRACES_ENDPOINT", "http://traces")
        assert not {"Api-Key", "Authorization"} & made(headers_file=str(file))._headers.keys()
    variables.setenv(f"{OTLP}METRICS_HEADERS", "api-key=of-metrics")
    assert made(endpoint="http://h:1", metrics_endpoint="http://m")._headers["Api-Key"] == "of-metrics"


def test_a_flag_about_metrics_without_their_export_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="--metrics-interval has no effect without --metrics-exporter"):
        load({"metrics_interval": 5.0}, None)


def test_which_spans_may_be_exemplars_is_said_with_its_origin(variables: pytest.MonkeyPatch) -> None:
    assert 'exemplar_filter = "trace_based"  # default' in load({}, None).describe()
    variables.setenv("OTEL_METRICS_EXEMPLAR_FILTER", "always_off")
    assert 'exemplar_filter = "always_off"  # OTEL_METRICS_EXEMPLAR_FILTER' in load({}, None).describe()
    variables.setenv("RINGBUF_DRAIN_EXEMPLAR_FILTER", "always")
    with pytest.raises(ConfigurationError, match=r"exemplar_filter \(RINGBUF_DRAIN_EXEMPLAR_FILTER\): .*trace_based"):
        load({}, None)
    with pytest.raises(ConfigurationError, match=r"exemplar_filter \(--exemplar-filter\): "):
        load({"exemplar_filter": "never"}, None)
    with pytest.raises(ConfigurationError, match="--exemplar-filter has no effect with --max-series 0"):
        load({"exemplar_filter": "always_on", "max_series": 0}, None)


def test_spans_that_are_only_counted_are_exemplars_by_no_filter() -> None:
    def chosen(**flags: str) -> str:
        return load(flags, None).settings.exemplar_filter

    assert chosen() == "trace_based"
    assert chosen(exemplar_filter="always_on") == "always_on"
    assert chosen(exemplar_filter="always_on", unsampled="count") == "trace_based"
    assert chosen(exemplar_filter="always_off", unsampled="count") == "always_off"
    shown = load({"exemplar_filter": "always_on", "unsampled": "count"}, None).describe()
    assert 'exemplar_filter = "trace_based"  # --exemplar-filter, always_on, with --unsampled count' in shown


def test_config_shows_no_secret_of_the_metrics(variables: pytest.MonkeyPatch) -> None:
    variables.setenv(f"{OTLP}METRICS_HEADERS", "api-key=s3cret")
    shown = load({"metrics_endpoint": "http://m/?key=s3cret"}, None).describe()
    assert "s3cret" not in shown
    assert "metrics_headers" in shown


def test_a_client_certificate_of_the_metrics_own_does_not_get_the_key_of_the_spans() -> None:
    spans = {"client_key": "/spans.key", "client_certificate": "/spans.pem"}
    exporter = made(endpoint="http://h:1", metrics_client_certificate="/metrics.pem", **spans)
    assert (exporter._settings.client_key, str(exporter._settings.client_certificate)) == (None, "/metrics.pem")
    exporter = made(endpoint="http://h:1", **spans)
    assert (str(exporter._settings.client_key), str(exporter._settings.client_certificate)) == tuple(spans.values())
