"""The OTEL_* variables about metrics, read as the specification has them.

Source: OpenTelemetry specification `configuration/sdk-environment-variables.md`, "Exporter Selection", "Exemplar" and
"Periodic exporting MetricReader"; `metrics/sdk_exporters/otlp.md`. A value that cannot be understood is warned about
and ignored.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from drain.settings.otlp_environment import METRICS_PREFIX, OtlpSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EXPORTER: Final = "OTEL_METRICS_EXPORTER"
INTERVAL: Final = "OTEL_METRIC_EXPORT_INTERVAL"
TIMEOUT: Final = "OTEL_METRIC_EXPORT_TIMEOUT"
EXEMPLARS: Final = "OTEL_METRICS_EXEMPLAR_FILTER"
TEMPORALITY: Final = f"{METRICS_PREFIX}TEMPORALITY_PREFERENCE"
HISTOGRAMS: Final = f"{METRICS_PREFIX}DEFAULT_HISTOGRAM_AGGREGATION"
_OWN: Final = (
    *("endpoint", "headers", "compression", "timeout_seconds"),
    *("certificate", "client_key", "client_certificate", "insecure"),
)
_ELSEWHERE: Final = frozenset({"prometheus", "none"})  # /metrics is there in any case (--listen)
_HISTOGRAMS: Final = {"explicit_bucket_histogram": "explicit", "base2_exponential_bucket_histogram": "exponential"}
_PREFERENCES: Final = ("cumulative", "delta", "lowmemory")
_FILTERS: Final = ("trace_based", "always_on", "always_off")


@dataclass(frozen=True, slots=True)
class MetricsVariables:
    """What the variables say.

    Attributes:
        values: by field of `Settings`.
        origins: by field, the variable.
        warnings: one line for each that was ignored.
    """

    values: Mapping[str, Any]
    origins: Mapping[str, str]
    warnings: tuple[str, ...]

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> MetricsVariables:
        """Read them.

        Example:
            >>> MetricsVariables.read({"OTEL_METRIC_EXPORT_INTERVAL": "15000"}).values
            {'metrics_interval': 15.0}
        """
        otlp = OtlpSettings.from_environment(environ, signal_prefix=METRICS_PREFIX)
        own = {name: variable for name, variable in otlp.origins.items() if variable.startswith(METRICS_PREFIX)}
        names = {name: "metrics_" + name.removesuffix("_seconds") for name in _OWN if name in own}
        values: dict[str, Any] = {field: getattr(otlp, name) for name, field in names.items()}
        origins = {field: own[name] for name, field in names.items()}
        # Those of the general variables are warned about with the spans' settings.
        warnings = [line for line in otlp.warnings if line.startswith(METRICS_PREFIX)]
        if "protocol" in own and otlp.protocol == "http/json":
            warnings.append(f"{own['protocol']} is ignored: metrics go by grpc or http/protobuf")
        elif "protocol" in own:
            values["metrics_protocol"], origins["metrics_protocol"] = otlp.protocol, own["protocol"]
        for variable, field, parse in (
            (EXPORTER, "metrics_exporter", _exporter),
            (INTERVAL, "metrics_interval", _milliseconds),
            (TIMEOUT, "metrics_export_timeout", _milliseconds),
            (TEMPORALITY, "metrics_temporality", functools.partial(_one_of, _PREFERENCES)),
            (EXEMPLARS, "exemplar_filter", functools.partial(_one_of, _FILTERS)),
            (HISTOGRAMS, "metrics_histograms", _histograms),
        ):
            text = environ.get(variable, "").strip()
            if not text:
                continue
            try:
                value = parse(text)
            except ValueError as error:
                warnings.append(f"{variable} is ignored: {error}")
            else:
                values[field], origins[field] = value, variable
        return cls(values, origins, tuple(warnings))


def _exporter(text: str) -> str:
    names = {name.strip() for name in text.split(",") if name.strip()}
    if unknown := sorted(names - _ELSEWHERE - {"otlp"}):
        raise ValueError(f"{', '.join(unknown)}: of exporters of metrics there are otlp, prometheus and none")
    return "otlp" if "otlp" in names else "none"


def _milliseconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,15}", text) or not int(text):
        raise ValueError(f"{text!r} is not a whole number of milliseconds above 0")
    return int(text) / 1000


def _one_of(choices: Sequence[str], text: str) -> str:
    if text.lower() not in choices:
        raise ValueError(f"{text!r} is none of {', '.join(choices)}")
    return text.lower()


def _histograms(text: str) -> str:
    if text.lower() not in _HISTOGRAMS:
        raise ValueError(f"{text!r} is none of {', '.join(_HISTOGRAMS)}")
    return _HISTOGRAMS[text.lower()]
