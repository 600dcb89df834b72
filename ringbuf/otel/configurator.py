"""What `opentelemetry-instrument` loads: the SDK, configured by its environment, with the ring in place of a queue.

    OTEL_PYTHON_CONFIGURATOR=ringbuf opentelemetry-instrument python app.py

Where only OTEL_TRACES_EXPORTER names `ringbuf`, this still works if this configurator is the one that is loaded;
another one puts the exporter behind BatchSpanProcessor.
"""

from __future__ import annotations

import contextlib
import os
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final, Literal

from opentelemetry import trace
from opentelemetry.sdk import environment_variables
from opentelemetry.sdk._configuration import _get_exporter_names, _OTelSDKConfigurator

from ringbuf.otel.exporter import RingSpanExporter
from ringbuf.otel.notices import Notices
from ringbuf.otel.processor import RingSpanProcessor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NAME: Final = "ringbuf"
_EXPORTERS: Final = "OTEL_TRACES_EXPORTER"
_SIGNALS: Final[dict[Literal["traces", "metrics", "logs"], str]] = {
    "traces": _EXPORTERS,
    "metrics": "OTEL_METRICS_EXPORTER",
    "logs": "OTEL_LOGS_EXPORTER",
}
_SDK_READS_FILES: Final = hasattr(environment_variables, "OTEL_CONFIG_FILE")  # not all that we work with


class RingConfigurator(_OTelSDKConfigurator):
    """The SDK's own configurator, but that spans for the exporter `ringbuf` go to a `RingSpanProcessor`.

    With OTEL_PYTHON_CONFIGURATOR=ringbuf spans go to the ring alone, unless OTEL_TRACES_EXPORTER names it beside
    others, or is `none`: a distribution sets that variable before anybody can ask who did. With OTEL_CONFIG_FILE they
    go to the ring and where the file says; a file that names the exporter `ringbuf` itself is left as it is.
    """

    def _configure(self, **kwargs: Any) -> None:
        is_chosen = os.environ.get("OTEL_PYTHON_CONFIGURATOR") == NAME
        if _SDK_READS_FILES and os.environ.get("OTEL_CONFIG_FILE"):
            made = RingSpanExporter.made
            super()._configure(**kwargs)  # type: ignore[no-untyped-call]  # the SDK's has no types
            if is_chosen and RingSpanExporter.made == made:
                _add_processor({})
            return
        names = [name.strip() for name in os.environ.get(_EXPORTERS, "").split(",") if name.strip()]
        given = list(kwargs.get("trace_exporter_names") or ())
        is_named = NAME in names or NAME in given
        is_wanted = is_named or (is_chosen and "none" not in names)
        if is_wanted:
            # The SDK would put a queue before the ring.
            others = [name for name in names if name != NAME] if is_named else []
            if given:
                kwargs["trace_exporter_names"] = [name for name in given if name != NAME]
            with _environment({_EXPORTERS: ",".join(others) or "none"}), _environment(_installed()):
                super()._configure(**kwargs)  # type: ignore[no-untyped-call]  # the SDK's has no types
            _add_processor((kwargs.get("exporter_args_map") or {}).get(RingSpanExporter, {}))
        else:
            super()._configure(**kwargs)  # type: ignore[no-untyped-call]  # the SDK's has no types


def _installed() -> dict[str, str]:
    """Return the variables that name exporters which are not installed, without these.

    The SDK configures nothing at all then, and distributions name `otlp` for metrics and logs unasked.
    """
    found = {}
    for signal, variable in _SIGNALS.items():
        names = os.environ.get(variable, "").split(",")
        try:
            components = _get_exporter_names(signal)
        except RuntimeError:  # a protocol that there is not: the SDK says so
            continue
        group = f"opentelemetry_{signal}_exporter"
        missing = [
            name.strip()
            for name, component in zip(names, components, strict=bool(components))
            if not entry_points(group=group, name=component)
        ]
        if missing:
            found[variable] = ",".join(name for name in names if name.strip() not in missing) or "none"
            Notices().give(
                "missing",
                "%s=%s: no such exporter is installed, and %s go without it: pip install opentelemetry-exporter-%s, or "
                "do not name it there",
                *(variable, ",".join(missing), signal, missing[0].replace("_", "-")),
            )
    return found


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _add_processor(arguments: dict[str, Any]) -> None:
    add = getattr(trace.get_tracer_provider(), "add_span_processor", None)
    if add is None:
        Notices().give("provider", "the tracer provider takes no span processor: no span goes to the ring")
    else:
        add(RingSpanProcessor(**arguments))
