"""Where settings come from: flags, environment, a TOML file and defaults, in this order, each with its origin."""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource

from drain.settings import kafka_properties
from drain.settings.exporter_kind import ExporterKind
from drain.settings.gzip_way import gzip_way
from drain.settings.metrics_environment import MetricsVariables
from drain.settings.otlp_environment import OtlpSettings
from drain.settings.secrets_in_urls import HIDDEN, without_secrets
from drain.settings.settings import ENVIRONMENT_PREFIX, Settings
from drain.state_directory import STATE_OFF, default_state_dir
from ringbuf.ring.directory import default_ring_dir

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

CONFIG_VARIABLE: Final = "RINGBUF_DRAIN_CONFIG"

# Of the spans of a batch that is cut by destination, messages of a few each would take twice the bytes.
_SORTED_DELAY_SECONDS: Final = 1.0

_Source = tuple[Mapping[str, object], Mapping[str, str]]  # by field: the value, and where it came from


class ConfigurationError(ValueError):
    """A setting that cannot be; the text names it and where it came from."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """The effective settings.

    Attributes:
        settings: their values.
        origins: by field, where the value came from: a flag, a variable, the file, "default".
        warnings: one line for each variable that was ignored.
    """

    settings: Settings
    origins: Mapping[str, str]
    warnings: tuple[str, ...]

    def describe(self) -> str:
        """Return the settings as TOML, the origin of each beside it; headers and keys in URLs are hidden."""
        lines = []
        for name, value in self.settings.model_dump(mode="json").items():
            shown = value
            if name in {"headers", "metrics_headers"} and value is not None:
                shown = dict.fromkeys(value, HIDDEN)
            elif name == "kafka":
                shown = kafka_properties.shown(value)
            elif name in {"endpoint", "metrics_endpoint"} and value is not None:
                shown = ",".join(map(without_secrets, value.split(",")))
            elif name == "state_dir" and value is None:
                shown = STATE_OFF
            line = f"# {name} is not set" if shown is None else f"{name} = {_toml(shown)}"
            lines.append(f"{line}  # {self.origins[name]}" if shown is not None else f"{line}; {self.origins[name]}")
        lines.append(f"# gzip straight from records: {gzip_way(self.settings)}")
        return "\n".join(lines) + "\n"


def load(flags: Mapping[str, object], config_file: Path | None) -> Configuration:
    """Read all sources.

    Args:
        flags: by field; those that were given.
        config_file: TOML, or None.

    Raises:
        ConfigurationError: a value that cannot be, an unknown key, or a file that cannot be read.
    """
    from_otel, of_metrics = OtlpSettings.from_environment(), MetricsVariables.read()
    sources: Sequence[_Source] = [
        (flags, {name: flag_of(name) for name in flags}),
        _variables(),
        _otel_variables(from_otel),
        (of_metrics.values, of_metrics.origins),
        _file_values(config_file),
    ]
    properties, variables = kafka_properties.from_variables(os.environ, Settings.model_fields)
    values: dict[str, object] = {}
    origins = dict.fromkeys(Settings.model_fields, "default")
    if state_directory := os.environ.get("STATE_DIRECTORY", "").partition(":")[0]:  # systemd's, which may name several
        origins["state_dir"] = "STATE_DIRECTORY"
        values["state_dir"] = state_directory
    if os.environ.get("RINGBUF_DIR"):
        origins["ring_dir"] = "RINGBUF_DIR"
        values["ring_dir"] = os.environ["RINGBUF_DIR"]
    for source, names in reversed(sources):
        values.update(source)
        origins.update({name: names[name] for name in source})
    if properties:  # one by one: a secret by a variable, and the rest in the file
        _add_properties(properties, variables, values, origins)
    if origins["exporter"] == "default":
        _choose_exporter(sources, values, origins)
    _choose_metrics_exporter(sources, values, origins)
    _refuse_empty_texts(values, origins)
    if origins["state_dir"] == "default":
        values["state_dir"] = default_state_dir(Path(str(values.get("ring_dir", default_ring_dir()))))
    try:
        settings = Settings(**values)  # type: ignore[arg-type]  # pydantic is to judge them
    except ValidationError as error:
        problems = (
            f"{'.'.join(map(str, problem['loc']))} ({origins.get(str(problem['loc'][0]), '?')}): {_reason(problem)}"
            for problem in error.errors(include_input=False, include_url=False)
        )
        raise ConfigurationError("; ".join(problems)) from None
    _refuse_flags_without_effect(flags, settings)
    settings = _in_effect(settings, origins)
    return Configuration(settings, origins, (*from_otel.warnings, *of_metrics.warnings, *_misspelt_variables()))


def _in_effect(settings: Settings, origins: dict[str, str]) -> Settings:
    """Return settings as they are in effect beside the others, and say so in their origins: they are shown so, too."""
    changed: dict[str, Any] = {}
    if origins["batch_delay"] == "default" and settings.are_spans_sorted:
        changed["batch_delay"] = _SORTED_DELAY_SECONDS
        origins["batch_delay"] = "default where traces or services have destinations of their own"
    if settings.unsampled == "count" and settings.exemplar_filter == "always_on":
        # What is only counted nobody could look up.
        changed["exemplar_filter"] = "trace_based"
        origins["exemplar_filter"] += ", always_on, with --unsampled count"
    return settings.model_copy(update=changed)


def flag_of(field: str) -> str:
    """Return the flag that sets a field.

    >>> flag_of("batch_spans")
    '--batch-spans'
    """
    return "--" + field.replace("_", "-")


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return which of these names was probably meant, if any.

    >>> nearest("endpiont", ["endpoint", "exporter"])
    'endpoint'
    """
    return next(iter(difflib.get_close_matches(name, names, n=1)), None)


def _add_properties(
    properties: Mapping[str, object], variables: Sequence[str], values: dict[str, object], origins: dict[str, str]
) -> None:
    try:
        of_file = kafka_properties.flat(values.get("kafka", {}))
    except ValueError:
        return  # it is judged with the rest
    if isinstance(of_file, Mapping):
        values["kafka"] = {**of_file, **properties}
        origins["kafka"] = ", ".join([*([origins["kafka"]] if of_file else []), *variables])


def _choose_exporter(sources: Sequence[_Source], values: dict[str, object], origins: dict[str, str]) -> None:
    """Choose by the first source that says where the spans go: an endpoint is OTLP's, an output the file's."""
    said = (("endpoint", ExporterKind.OTLP), ("output", ExporterKind.FILE), ("kafka_brokers", ExporterKind.KAFKA))
    for source, names in sources:
        for name, kind in said:
            if source.get(name):
                values["exporter"] = kind
                origins["exporter"] = names[name]
                return


def _choose_metrics_exporter(sources: Sequence[_Source], values: dict[str, object], origins: dict[str, str]) -> None:
    """Send metrics where the first source says so, or says where to."""
    for source, names in sources:
        if source.get("metrics_exporter"):
            return
        if source.get("metrics_endpoint"):
            values["metrics_exporter"], origins["metrics_exporter"] = "otlp", names["metrics_endpoint"]
            return


def _refuse_empty_texts(values: Mapping[str, object], origins: Mapping[str, str]) -> None:
    """Refuse what a script makes of a variable that is not set: as a path it would be the working directory."""
    for name, value in values.items():
        if isinstance(value, str) and not value.strip() and Settings.model_fields[name].default != "":
            raise ConfigurationError(f"{name} ({origins[name]}): the value is empty")


def _misspelt_variables() -> Iterator[str]:
    known = [*Settings.model_fields, "config"]
    for variable in sorted(os.environ):
        prefix, name = variable[: len(ENVIRONMENT_PREFIX)].upper(), variable[len(ENVIRONMENT_PREFIX) :].lower()
        if prefix == ENVIRONMENT_PREFIX and name not in known and not kafka_properties.is_variable(variable):
            meant = nearest(name, known)
            hint = f": did you mean {ENVIRONMENT_PREFIX}{meant.upper()}?" if meant else ""
            yield f"{variable} is no setting and is ignored{hint}"


def _reason(problem: ErrorDetails) -> str:
    # To what a validator of ours raises, pydantic adds a prefix.
    return str(problem["ctx"]["error"]) if problem["type"] == "value_error" else problem["msg"]


def _variables() -> _Source:
    values = EnvSettingsSource(Settings)()
    return values, {name: ENVIRONMENT_PREFIX + name.upper() for name in values}


def _otel_variables(otlp: OtlpSettings) -> _Source:
    names = {name: "timeout" if name == "timeout_seconds" else name for name in otlp.origins}
    values = {names[name]: getattr(otlp, name) for name in otlp.origins}
    return values, {names[name]: variable for name, variable in otlp.origins.items()}


def _file_values(config_file: Path | None) -> _Source:
    if config_file is None:
        return {}, {}
    try:
        with config_file.open("rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise ConfigurationError(f"{config_file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{config_file}: no TOML: {error}") from None
    if unknown := sorted(values.keys() - Settings.model_fields.keys()):
        meant = sorted({name for key in unknown if (name := nearest(key, Settings.model_fields))})
        hint = f"; did you mean {', '.join(meant)}?" if meant else ""
        raise ConfigurationError(f"{config_file}: unknown keys: {', '.join(unknown)}{hint}")
    if isinstance(values.get("sampling"), dict):  # the rules themselves: they are read where they lie
        values["sampling"] = str(config_file)
    return values, dict.fromkeys(values, str(config_file))


def _refuse_flags_without_effect(flags: Mapping[str, object], settings: Settings) -> None:
    """Refuse a flag of another kind of exporter, or of stores that are not there.

    Variables and files may serve several drains.
    """
    for name in flags:
        extra = Settings.model_fields[name].json_schema_extra
        if not isinstance(extra, dict):
            continue
        if "exporter" in extra and not settings.exporter.startswith(str(extra["exporter"])):
            raise ConfigurationError(f"{flag_of(name)} has no effect with --exporter {settings.exporter}")
        has_ratio = extra.get("needs") == "sampling" and settings.keep_ratio is not None
        if "needs" in extra and not has_ratio and getattr(settings, str(extra["needs"])) in {None, "none"}:
            needed = flag_of(str(extra["needs"]))
            how = f"with {needed} {STATE_OFF}" if extra["needs"] == "state_dir" else f"without {needed}"
            raise ConfigurationError(f"{flag_of(name)} has no effect {how}")
    are_several = "," in (settings.endpoint or "") or settings.resolve_interval > 0
    for name, is_in_vain, how in (
        ("resolve_interval", settings.endpoint is None, "without --endpoint"),
        ("hand_over_after", settings.balance in {"round-robin", "failover"}, f"with --balance {settings.balance}"),
        ("hand_over_after", not are_several, "with one --endpoint, without --resolve-interval"),
        ("exemplar_filter", not settings.max_series, "with --max-series 0"),
    ):
        if name in flags and is_in_vain and getattr(settings, name):
            raise ConfigurationError(f"{flag_of(name)} has no effect {how}")


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items()) + " }" if value else "{}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
