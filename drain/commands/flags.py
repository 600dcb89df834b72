"""A flag for each setting, so that no flag can differ from its variable or key."""

from __future__ import annotations

import inspect
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args, get_origin

import typer

from drain.settings.configuration import flag_of
from drain.settings.settings import Settings
from drain.settings.units import Unit

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pydantic.fields import FieldInfo

ALL_FIELDS: Final = frozenset(Settings.model_fields)
EXPORTER_FIELDS: Final = frozenset(
    name
    for name, field in Settings.model_fields.items()
    if name == "exporter" or (isinstance(field.json_schema_extra, dict) and "exporter" in field.json_schema_extra)
)
REPLAY_FIELDS: Final = (
    EXPORTER_FIELDS
    | {name for name in Settings.model_fields if name.startswith("retry_")}
    | {"batch_spans", "concurrency", "log_level"}
)
SPOOL_FIELDS: Final = frozenset(
    {"ring_dir", "state_dir", "spool_max_bytes", "spool_max_age", "spool_full", "listen", "log_level"}
    | {name for name in Settings.model_fields if name.startswith("dead_letter_")}
)
FLUSH_FIELDS: Final = (
    REPLAY_FIELDS
    | {"ring_dir", "state_dir", "keep_ratio", "hold_bytes", "unsampled", "batch_bytes", "shutdown_timeout"}
    | {name for name in Settings.model_fields if name.startswith("dead_letter_")}
)
WITHOUT_FLAG: Final = frozenset({"headers", "kafka", "metrics_headers"})
"""Settings that hold credentials: everybody may read a command line."""
_GUESSED: Final = frozenset({"exporter", "output"})  # by a drain; what delivers once is told where to


def with_settings(command: Callable[..., None], fields: Collection[str] = ALL_FIELDS) -> Callable[..., None]:
    """Give a command one flag for each field of `Settings`.

    Args:
        command: takes the flags as keyword arguments.
        fields: those that have an effect on it.
    """
    parameters = [
        parameter
        for parameter in inspect.signature(command, eval_str=True).parameters.values()
        if parameter.kind is not parameter.VAR_KEYWORD
    ]
    for name, field in Settings.model_fields.items():
        if name in WITHOUT_FLAG or name not in fields:
            continue
        flag = f"{flag_of(name)}/--no-{flag_of(name)[2:]}" if field.annotation is bool else flag_of(name)
        kind, metavar = _kind(field)
        default = field.get_default(call_default_factory=True, validated_data={})
        is_shown = field.annotation is not bool and default not in (None, [], "")
        if name in _GUESSED and fields is not ALL_FIELDS:
            is_shown = False
        unit = _unit_of(field)
        shown = default if unit is None else unit.shown(default)
        help_text = f"{field.description} [default: {shown}]" if is_shown else field.description
        option = typer.Option(
            flag, help=help_text, metavar=metavar, show_default=False, autocompletion=_completed_from(field)
        )
        parameters.append(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
            )
        )
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads both
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def given(flags: dict[str, object]) -> dict[str, object]:
    """Return the flags that were given."""
    return {name: value for name, value in flags.items() if value is not None and value != []}


def _kind(field: FieldInfo) -> tuple[Any, str | None]:
    """Return the type of a flag, and what stands for its value; a value of several forms is left to the settings."""
    unit = _unit_of(field)
    if unit is not None:
        return str, unit.metavar
    if field is Settings.model_fields["endpoint"]:
        return list[str], "TEXT"  # may be repeated
    kind: Any = field.annotation
    if kind in (Path, Path | None):
        return str, "PATH"  # as a Path an empty text would be the working directory
    if get_origin(kind) is list:
        return list[str], "TEXT"
    if choices := _choices(field):
        return str, f"<{'|'.join(choices)}>"  # what is none of them is told by the settings, wherever it came from
    return kind, {int: "N", str: "TEXT", str | None: "TEXT", float | None: "SHARE"}.get(kind)


def _unit_of(field: FieldInfo) -> Unit | None:
    # Of one that may be None, the unit is in its union.
    parts = (*field.metadata, *(each for part in get_args(field.annotation) for each in get_args(part)[1:]))
    return next((part for part in parts if isinstance(part, Unit)), None)


def _choices(field: FieldInfo) -> list[str]:
    """Return the words of which a setting is one; nothing where it is none such."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if get_origin(kind) is Literal:
            return list(get_args(kind))
        if isinstance(kind, type) and issubclass(kind, Enum):
            return [str(member.value) for member in kind]
    return []


def _completed_from(field: FieldInfo) -> Callable[[str], list[str]] | None:
    choices = _choices(field)
    return (lambda incomplete: [word for word in choices if word.startswith(incomplete)]) if choices else None
